"""Revisions with very many changes: gathered while they are written, read a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from etcdtw.mvcc.audience import Audience, audiences_of, collect
from etcdtw.mvcc.changes import Change
from etcdtw.mvcc.watch_index import AudienceIndex

if TYPE_CHECKING:
    from etcdtw.mvcc.watch import Watcher


class ReadableStore(Protocol):
    """What reading one revision needs of the store."""

    readers: list[Any]
    """Who is to be brought to an end before records that it may read are removed."""

    @property
    def compacted(self) -> int:
        """Revisions below are gone; -1 if nothing was ever compacted."""

    def changes_of(self, revision: int, compacted: int, /) -> Iterator[Change]:
        """The changes of one revision, with what was there before unless that is compacted."""


class Gathering:
    """A change that is being written over several turns: the audiences that have events of it, and
    those that came when some of it was written already."""

    __slots__ = ("late", "touched")

    def __init__(self) -> None:
        self.touched: dict[Audience, None] = {}
        self.late: list[Audience] = []


class LargeReading:
    """The changes of one revision for the watchers that need it next, in steps.

    Compactions bring it to its end before they remove what it may still read.
    """

    def __init__(self, store: ReadableStore, revision: int, watchers: list[Watcher]) -> None:
        self.revision = revision
        self.compact_revision = store.compacted
        self.audiences = audiences_of(watchers)
        self.done = False
        self._store = store
        self._changes = store.changes_of(revision, store.compacted)
        self._index = AudienceIndex[Audience]()
        for audience in self.audiences:
            self._index.add(audience.interest, audience)
        store.readers.append(self)

    def watchers(self) -> list[Watcher]:
        """Those that have not been cancelled meanwhile."""
        everybody = (each for audience in self.audiences for each in audience.watchers)
        return [each for each in everybody if each.is_reading]

    def step(self, changes_max: int) -> bool:
        """Read up to so many changes; True when the audiences have them all."""
        if not self.done:
            changes = list(islice(self._changes, changes_max))
            collect(self._index, self.revision, changes, {})
            if len(changes) < changes_max:
                self.close()
        return self.done

    def close(self) -> None:
        """Let go; for a reading that nobody wants to finish, too."""
        if not self.done:
            self.done = True
            self._store.readers.remove(self)
