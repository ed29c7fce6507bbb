"""Compaction: removing the revisions that no permitted read can see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from etcdtw.mvcc.revision import after, backend_key, parse_main, revision_key

if TYPE_CHECKING:
    from etcdtw.mvcc.store import Store

SCHEDULED = b"scheduledCompactRev"
FINISHED = b"finishedCompactRev"
STEP_RECORDS = 200
# Looking at a key that has nothing to give costs less than removing a record.
_KEYS_PER_RECORD = 4


class Compaction:
    """The removal of everything that compaction at ``revision`` makes unreachable, in steps.

    Of each key the newest record up to the revision stays, unless it is a tombstone (etcd before
    3.5.16 drops the tombstone at the very revision too); all other records up to the revision go.
    ``on_done`` is called once, at the end.
    """

    def __init__(self, store: Store, revision: int) -> None:
        self.revision = revision
        self.done = False
        self.on_done: list[Callable[[], None]] = []
        self._store = store
        self._bound = after(revision)
        self._keys: Iterator[bytes] | None = None
        self._key: bytes | None = None

    @property
    def amid_change(self) -> bool:
        """Whether a change is half written that takes several turns."""
        return self._store.before is not None

    def step(self, records_max: int = STEP_RECORDS) -> bool:
        """Remove up to so many records; True when the compaction is finished."""
        if self.done:
            return True
        earliest = self._store.compactions[0]
        if earliest is not self:
            earliest.step(records_max)
            return False
        for job in self._store.readers:
            # A hash at an older compaction still reads what we would remove.
            if job.compact_revision < self.revision:
                job.step(records_max)
                return False
        backend = self._store.backend
        index = self._store.index
        if self._keys is None:
            # Only keys with several revisions, or deleted ones, have anything to remove; one that
            # becomes such a key later has at most one revision up to ours, and that stays.
            self._keys = iter(index.with_history)
            index.with_history = []
        keys_max = records_max * _KEYS_PER_RECORD
        while records_max > 0 and keys_max > 0:
            if self._key is None:
                self._key = next(self._keys, None)
                if self._key is None:
                    self._finish()
                    return True
            dropped, exhausted = index.trim(self._key, self._bound, records_max)
            for revision in dropped:
                backend.delete(b"key", backend_key(revision))
            self._store.compacted_records += len(dropped)
            records_max -= len(dropped)
            keys_max -= 1
            if exhausted:
                self._key = None
        return False

    def _finish(self) -> None:
        store = self._store
        kept = []
        for revision in store.orphans:
            if revision < self._bound:
                store.backend.delete(b"key", backend_key(revision))
            else:
                kept.append(revision)
        store.orphans = kept
        if self.revision > finished_revision(store):
            store.backend.put(b"meta", FINISHED, revision_key(self.revision, 0))
        store.compactions.remove(self)
        self.done = True
        for callback in self.on_done:
            callback()


def finished_revision(store: Store) -> int:
    """The revision of the last finished compaction, -1 if there was none."""
    mark = store.backend.get(b"meta", FINISHED)
    return -1 if mark is None else parse_main(mark)


def scheduled_revision(store: Store) -> int:
    """The revision of the last accepted compaction, -1 if there was none."""
    mark = store.backend.get(b"meta", SCHEDULED)
    return -1 if mark is None else parse_main(mark)
