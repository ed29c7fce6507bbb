"""Hashes by which members compare what they hold: HashKV and Maintenance.Hash."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from google_crc32c import extend

from etcdtw.mvcc.interfaces import IBackend, IBackendView
from etcdtw.mvcc.keyvalue import record_key
from etcdtw.mvcc.revision import after, parse_backend_key

if TYPE_CHECKING:
    from etcdtw.mvcc.store import Store

STEP_RECORDS = 1000
# Records of bucket meta that differ among members that agree.
_LOCAL_META = (b"consistent_index", b"term")


class HashKV:
    """CRC-32C over the records that make up the keyspace at ``revision``, computed in steps.

    Fed are the bytes ``key``, then key and value of each record up to the revision; but of those
    up to the compacted revision only what a compaction at ``revision`` would keep. If that would
    keep nothing at all they are all fed: etcd's rule, and how members of either kind agree.
    Compare ``hash`` only at equal ``compact_revision`` (-1: never compacted).
    """

    def __init__(self, store: Store, revision: int) -> None:
        self.revision = revision
        self.compact_revision = store.compacted
        self.done = False
        self.hash = 0
        self._store = store
        # While it runs, later compactions wait for it. Earlier ones it brings to their end first,
        # so that the answer does not depend on how far they are.
        self._earlier = list(store.compactions)
        self._records = store.backend.scan(b"key", b"", None)
        self._bound = after(revision)
        self._compacted_bound = after(self.compact_revision)
        self._strict = extend(0, b"key")
        # The same without leaving anything out, until it is known that something is kept.
        self._full = self._strict
        self._keeps = self.compact_revision < 0

    def step(self, records_max: int = STEP_RECORDS) -> bool:
        """Take in up to so many records; True when ``hash`` is there."""
        if self.done:
            return True
        if self._earlier:
            if self._earlier[0].step(records_max):
                del self._earlier[0]
            return False
        newest = self._store.index.at
        bound = self._bound
        fed: list[bytes] = []
        batch: list[bytes] = []
        ended = True
        for raw_key, record in islice(self._records, records_max):
            ended = False
            revision = parse_backend_key(raw_key)
            if revision >= bound:
                ended = True
                break
            pair = (raw_key, record)
            batch += pair
            compacted = revision < self._compacted_bound
            if compacted or not self._keeps:
                kept = newest(record_key(record), bound) == revision
                self._keeps = self._keeps or kept
                if compacted and not kept:
                    continue
            fed += pair
        self._strict = extend(self._strict, b"".join(fed))
        if not self._keeps:
            self._full = extend(self._full, b"".join(batch))
        if ended:
            self.hash = self._strict if self._keeps else self._full
            self.close()
        return ended

    def close(self) -> None:
        """Let go; compactions wait no longer. For a job that nobody wants to finish, too."""
        if not self.done:
            self.done = True
            self._records = iter(())
            self._store.readers.remove(self)


class HashAll:
    """CRC-32C over the names and records of all buckets, in steps.

    It leaves out what differs among members by nature (consistent index and term), but is still
    not comparable among them in general: lease ids and the members' own data go in.
    """

    def __init__(self, backend: IBackend | IBackendView) -> None:
        self._scans = [(name, backend.scan(name, b"", None)) for name in backend.buckets()]
        self._scans.reverse()
        self._records: tuple[bytes, Iterator[tuple[bytes, bytes]]] | None = None
        self.hash = 0
        self.done = False

    def step(self, records_max: int = STEP_RECORDS) -> bool:
        """Take in up to so many records; True when ``hash`` is there."""
        if self._records is None:
            if not self._scans:
                self.done = True
                return True
            self._records = self._scans.pop()
            self.hash = extend(self.hash, self._records[0])
        name, records = self._records
        taken = list(islice(records, records_max))
        parts: list[bytes] = []
        for key, value in taken:
            if name != b"meta" or key not in _LOCAL_META:
                parts += (key, value)
        self.hash = extend(self.hash, b"".join(parts))
        if len(taken) < records_max:
            self._records = None
        return False
