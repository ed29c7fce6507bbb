"""Work that is too long for one turn of the reactor."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import Any, TypeVar

T = TypeVar("T")
Work = Generator[None, None, T]
"""Yields where others may have a turn, and returns its result."""

KEYS_MAX = 5000
"""So many keys are read or deleted in one go: some 10 to 15 ms."""
PIECE_KEYS = 500


class TakesTurns(Exception):
    """Raised instead of carrying out a request that takes too long for one turn. Nothing of it has
    happened yet: whoever catches this runs ``work`` to its end, a piece at a time."""

    def __init__(self, work: Work[Any]) -> None:
        super().__init__()
        self.work = work


class Allowance:
    """How many keys requests may still touch before others must have had a turn. When it is used
    up, the request that asks takes turns, however small, and the next ones have all of it again.
    ``piece_keys`` is what a piece of work may touch."""

    def __init__(self, keys_max: int = KEYS_MAX, piece_keys: int = PIECE_KEYS) -> None:
        self.piece_keys = piece_keys
        self.keys_max = keys_max
        self._left = keys_max

    def admits(self, keys: int) -> bool:
        """Whether a request that touches so many keys may be carried out at once."""
        self._left -= keys
        if self._left >= 0:
            return True
        self._left = self.keys_max
        return False


def sorted_in_turns(unsorted: list[bytes], piece: int) -> Work[Iterator[bytes]]:
    """What ``sorted`` gives of different keys, read at the caller's pace."""
    runs: list[list[bytes]] = []
    for first in range(0, len(unsorted), piece):
        add_run(runs, sorted(unsorted[first : first + piece]))
        yield
    return chain.from_iterable(merged(runs, piece))


def add_run(runs: list[list[bytes]], keys: list[bytes]) -> None:
    """Add sorted keys to sorted runs, to the last of these if they only follow it."""
    if runs and keys and runs[-1][-1] < keys[0]:
        runs[-1] += keys
    elif keys:
        runs.append(keys)


def merged(runs: Iterable[list[bytes]], piece: int) -> Iterator[list[bytes]]:
    """All keys of sorted runs, each key in one of them, in order: lists of at most ``piece`` keys,
    or one for each run if there are more runs.

    Sorting what may come next, taken out of each run, costs a fifth of comparing keys one by one.
    """
    rest = [(run, 0) for run in runs]
    while rest:
        share = max(1, piece // len(rest))
        last = min(run[min(place + share, len(run)) - 1] for run, place in rest)
        found: list[bytes] = []
        left = []
        for run, place in rest:
            end = bisect_right(run, last, place, min(place + share, len(run)))
            found += run[place:end]
            if end < len(run):
                left.append((run, end))
        rest = left
        found.sort()
        yield found
