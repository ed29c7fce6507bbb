"""A backend that lives in memory: for tests, for simulation, and as the model for others."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from sortedcontainers import SortedDict
from zope.interface import implementer

from etcdtw.mvcc.interfaces import IBackend

PAGE_BYTES = 4096
# What a record costs in a page besides its bytes.
_RECORD_BYTES = 16
_SCAN_RECORDS = 256


@implementer(IBackend)
class MemoryBackend:
    """Ordered buckets in memory.

    By default nothing survives: ``durable_index`` stays 0. With ``durable`` it plays a disk:
    ``commit`` makes everything up to the last ``end_entry`` durable, and ``crash`` undoes the
    rest, whereupon the same object is what a restart finds.
    """

    def __init__(self, durable: bool = False) -> None:
        self._buckets: dict[bytes, SortedDict[bytes, bytes]] = {}
        self._entry = (0, 0)
        self._durable_entry = (0, 0)
        self._bytes = 0
        self._bytes_max = 0
        # Since the last commit: what each change replaced, and how many changes entries have ended.
        self._undo: list[tuple[bytes, bytes, bytes | None]] | None = [] if durable else None
        self._ended = 0

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        records = self._buckets.get(bucket)
        if records is None:
            return None
        found: bytes | None = records.get(key)
        return found

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        records = self._buckets.get(bucket)
        if records is None:
            records = self._buckets[bucket] = SortedDict()
        before = records.get(key)
        if self._undo is not None:
            self._undo.append((bucket, key, before))
        if before is None:
            self._bytes += len(key) + len(value) + _RECORD_BYTES
        else:
            self._bytes += len(value) - len(before)
        records[key] = value

    def delete(self, bucket: bytes, key: bytes) -> None:
        records = self._buckets.get(bucket)
        if records is None:
            return
        before = records.pop(key, None)
        if before is None:
            return
        if self._undo is not None:
            self._undo.append((bucket, key, before))
        self._bytes_max = max(self._bytes_max, self._bytes)
        self._bytes -= len(key) + len(before) + _RECORD_BYTES

    def scan(self, bucket: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        # A piece at a time, so that writes in between find no iterator to break.
        records = self._buckets.get(bucket)
        if records is None:
            return
        inclusive = (True, False)
        while True:
            keys = list(islice(records.irange(start, end, inclusive), _SCAN_RECORDS))
            for key in keys:
                value = records.get(key)
                if value is not None:
                    yield key, value
            if len(keys) < _SCAN_RECORDS:
                return
            start = keys[-1] + b"\0"

    def end_entry(self, index: int, term: int) -> None:
        self._entry = (index, term)
        if self._undo is not None:
            self._ended = len(self._undo)

    def consistent_index(self) -> tuple[int, int]:
        return self._entry

    def durable_index(self) -> int:
        return self._durable_entry[0]

    def commit(self) -> None:
        if self._undo is None:
            return
        del self._undo[: self._ended]
        self._ended = 0
        self._durable_entry = self._entry

    def crash(self) -> None:
        """Lose what is not durable."""
        assert self._undo is not None, "only a durable backend survives a crash"
        undo, self._undo = self._undo, None
        for bucket, key, before in reversed(undo):
            if before is None:
                self.delete(bucket, key)
            else:
                self.put(bucket, key, before)
        self._undo = []
        self._ended = 0
        self._entry = self._durable_entry

    def size(self) -> int:
        return _pages(max(self._bytes_max, self._bytes))

    def size_in_use(self) -> int:
        return _pages(self._bytes)

    def buckets(self) -> list[bytes]:
        return sorted(self._buckets)

    def close(self) -> None:
        self._buckets = {}


def _pages(size: int) -> int:
    return (size + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES
