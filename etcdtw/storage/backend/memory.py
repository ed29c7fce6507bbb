"""A backend that lives in memory: for tests, for simulation, and as the model for others."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator

from zope.interface import implementer

from etcdtw.counting import COMMIT_BOUNDS, DEFRAGMENT_BOUNDS, Histogram
from etcdtw.errors import StorageError
from etcdtw.mvcc.interfaces import IBackendView, IDurableBackend

PAGE_BYTES = 4096
# What a record costs in a page besides its bytes.
_RECORD_BYTES = 16
_SCAN_RECORDS = 256


class _Bucket:
    """Records by key. Their order is made when it is asked for.

    New keys mostly come in ascending order (revisions do), so that appending keeps ``_order``
    sorted; others only note that it is not. Deleted keys stay in it until they are many.
    """

    __slots__ = ("_deleted", "_is_sorted", "_last", "_order", "records")

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self._order: list[bytes] = []
        self._last = b""  # the greatest key in _order
        self._is_sorted = True
        self._deleted: set[bytes] = set()  # in _order, but not in records

    def add(self, key: bytes, value: bytes) -> None:
        """Set the value of a key that is not there."""
        self.records[key] = value
        if key > self._last:
            self._last = key
        elif key in self._deleted:
            self._deleted.remove(key)
            return
        else:
            self._is_sorted = not self._order
        self._order.append(key)

    def remove(self, key: bytes) -> None:
        """Remove a key that is there."""
        del self.records[key]
        self._deleted.add(key)
        if len(self._deleted) > len(self.records):
            self._order = [each for each in self._order if each in self.records]
            self._last = max(self._order, default=b"")
            self._deleted.clear()

    def keys(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
        """The first so many keys with ``start <= key < end``, in order."""
        if not self._is_sorted:
            self._order.sort()
            self._is_sorted = True
        order = self._order
        first = bisect_left(order, start)
        last = first + limit
        if end is not None:
            last = bisect_left(order, end, first, min(last, len(order)))
        return order[first:last]


@implementer(IDurableBackend)
class MemoryBackend:
    """Ordered buckets in memory.

    By default nothing survives: ``durable_index`` stays 0. With ``durable`` it plays a disk:
    ``commit`` makes everything up to the last ``end_entry`` durable, and ``crash`` undoes the
    rest, whereupon the same object is what a restart finds.
    """

    def __init__(self, durable: bool = False) -> None:
        self.on_durable: list[Callable[[int], None]] = []
        self.on_no_space: list[Callable[[], None]] = []
        self.on_fatal: list[Callable[[StorageError], None]] = []
        self.no_space = False
        self.commit_seconds = Histogram(COMMIT_BOUNDS)
        self.defragment_seconds = Histogram(DEFRAGMENT_BOUNDS)
        self.is_defragmenting = False
        self.open_views = 0
        self._buckets: dict[bytes, _Bucket] = {}
        self._entry = (0, 0)
        self._durable_entry = (0, 0)
        self._bytes = 0
        self._bytes_max = 0
        # Since the last commit: what each change replaced, and how many changes entries have ended.
        self._undo: list[tuple[bytes, bytes, bytes | None]] | None = [] if durable else None
        self._ended = 0
        self._is_abandoned = False
        self._waiting: list[tuple[int, Callable[[], None]]] = []

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        found = self._buckets.get(bucket)
        return None if found is None else found.records.get(key)

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        target = self._buckets.get(bucket)
        if target is None:
            target = self._buckets[bucket] = _Bucket()
        before = target.records.get(key)
        if self._undo is not None:
            self._undo.append((bucket, key, before))
        if before is None:
            self._bytes += len(key) + len(value) + _RECORD_BYTES
            target.add(key, value)
        else:
            self._bytes += len(value) - len(before)
            target.records[key] = value

    def put_all(self, bucket: bytes, keys: list[bytes], values: list[bytes]) -> None:
        for key, value in zip(keys, values, strict=True):
            self.put(bucket, key, value)

    def delete(self, bucket: bytes, key: bytes) -> None:
        target = self._buckets.get(bucket)
        before = None if target is None else target.records.get(key)
        if target is None or before is None:
            return
        target.remove(key)
        if self._undo is not None:
            self._undo.append((bucket, key, before))
        self._bytes_max = max(self._bytes_max, self._bytes)
        self._bytes -= len(key) + len(before) + _RECORD_BYTES

    def scan(self, bucket: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        # A piece at a time, so that writes in between find no iterator to break.
        target = self._buckets.get(bucket)
        if target is None:
            return
        while True:
            keys = target.keys(start, end, _SCAN_RECORDS)
            for key in keys:
                value = target.records.get(key)
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
        if self._undo is None or self._is_abandoned:
            return
        del self._undo[: self._ended]
        self._ended = 0
        self._durable_entry = self._entry
        index = self._entry[0]
        for each in self.on_durable:
            each(index)
        due = [done for wanted, done in self._waiting if wanted <= index]
        self._waiting = [each for each in self._waiting if each[0] > index]
        for done in due:
            done()

    def abandon(self) -> None:
        self._is_abandoned = True

    def wait_durable(self, index: int, done: Callable[[], None]) -> None:
        self._waiting.append((index, done))
        self.commit()

    def overlay_bytes(self) -> int:
        return 0

    def view(self, owner: str) -> IBackendView:
        return MemoryView(self._buckets, self._undo or [], self._durable_entry)

    def defragment(self, done: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        self._bytes_max = self._bytes
        done()

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
        self._is_abandoned = False
        self._entry = self._durable_entry

    def size(self) -> int:
        used, most = self._bytes, self._bytes_max
        return -(-(used if used > most else most) // PAGE_BYTES) * PAGE_BYTES

    def size_in_use(self) -> int:
        return -(-self._bytes // PAGE_BYTES) * PAGE_BYTES

    def buckets(self) -> list[bytes]:
        return sorted(self._buckets)

    def close(self) -> None:
        self._buckets = {}


@implementer(IBackendView)
class MemoryView:
    """The records of one moment, copied."""

    def __init__(
        self,
        buckets: dict[bytes, _Bucket],
        undo: list[tuple[bytes, bytes, bytes | None]],
        entry: tuple[int, int],
    ) -> None:
        self.index, self.term = entry
        self._closed = False
        self._buckets = {name: dict(bucket.records) for name, bucket in buckets.items()}
        for name, key, before in reversed(undo):
            if before is None:
                self._buckets[name].pop(key, None)
            else:
                self._buckets[name][key] = before

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        self._check()
        return self._buckets.get(bucket, {}).get(key)

    def scan(self, bucket: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        for key, value in sorted(self._buckets.get(bucket, {}).items()):
            self._check()
            if key >= start and (end is None or key < end):
                yield key, value

    def buckets(self) -> list[bytes]:
        return sorted(name for name, records in self._buckets.items() if records)

    def close(self) -> None:
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise StorageError("the view is closed")
