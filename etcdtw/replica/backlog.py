"""Committed entries that wait, because those before them take several turns to apply."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

from etcdtw.raft.messages import Entry
from etcdtw.turns import Work

PIECE_ENTRIES = 64
"""So many are applied between two looks at the clock."""


class Backlog:
    """``entry``, if any, is being applied, since ``begun`` seconds; those after it wait."""

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.begun = 0.0
        self.result: object = None
        self._work: Work[object] | None = None
        self._waiting: deque[Entry] = deque()

    def begin(self, entry: Entry, work: Work[object], now: float) -> None:
        """Apply ``entry`` by ``work`` before what waits."""
        assert self.entry is None, "entries are applied one after the other"
        self.entry = entry
        self.begun = now
        self._work = work

    def put_back(self, entries: Sequence[Entry]) -> None:
        """These come before what waits."""
        self._waiting.extendleft(reversed(entries))

    def add(self, entries: Iterable[Entry]) -> None:
        self._waiting += entries

    def step(self) -> bool:
        """Do a piece of the work; True when ``result`` is there."""
        assert self._work is not None, "nothing has begun"
        try:
            next(self._work)
        except StopIteration as end:
            self.result = end.value
            self._work = None
            return True
        return False

    def take(self) -> list[Entry]:
        """The next entries to apply; none if that was all."""
        piece = list(islice(self._waiting, PIECE_ENTRIES))
        for _ in piece:
            self._waiting.popleft()
        return piece
