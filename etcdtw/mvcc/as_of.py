"""The store as of one revision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdtw.errors import Compacted, FutureRevision
from etcdtw.mvcc.range_result import RangeResult
from etcdtw.mvcc.revision import after

if TYPE_CHECKING:
    from etcdtw.mvcc.keyindex import KeyIndex
    from etcdtw.mvcc.store import Store


class AsOf:
    """What ``Store`` offers for reading, where ``revision`` stays the current one whatever is
    written. Records that compactions remove are for others to protect (``Store.readers``)."""

    __slots__ = ("_bound", "_store", "revision")

    def __init__(self, store: Store, revision: int) -> None:
        self._store = store
        self._bound = after(revision)
        self.revision = revision

    @property
    def compacted(self) -> int:
        return self._store.compacted

    @property
    def index(self) -> KeyIndex:
        return self._store.index

    def is_present(self, revision: int) -> bool:
        return self._store.is_present(revision)

    def current_chunk(self, key: bytes) -> bytes | None:
        store = self._store
        current = store.index.newest(key)
        if current is not None and current < self._bound:
            return store.current_chunk(key)
        revision = store.index.at(key, self._bound)
        return None if revision is None else store.chunk_at(revision)

    def range(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        revision: int = 0,
        limit: int = 0,
        count_only: bool = False,
    ) -> RangeResult:
        store = self._store
        if revision > self.revision:
            raise FutureRevision
        if 0 < revision < store.compacted:
            raise Compacted
        if revision <= 0:
            revision = self.revision
        if store.is_present(revision):
            return store.range_within(self.revision, key, end, 0, limit, count_only)
        store.ranges += 1
        return store.range_past(self.revision, key, end, revision, limit, count_only)
