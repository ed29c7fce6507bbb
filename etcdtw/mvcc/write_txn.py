"""Write transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdtw.mvcc.changes import Change
from etcdtw.mvcc.range_result import RangeResult
from etcdtw.varint import varint

if TYPE_CHECKING:
    from etcdtw.mvcc.store import Store


class WriteTxn:
    """Changes that share one revision. It is the store's next one if anything changed."""

    __slots__ = ("_main", "_main_varint", "_store", "changes")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._main = store.revision + 1
        self._main_varint = varint(self._main)
        self.changes: list[Change] = []

    @property
    def changed(self) -> bool:
        return bool(self.changes)

    @property
    def revision(self) -> int:
        """What a read within the transaction calls current."""
        return self._main if self.changes else self._main - 1

    def range(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        revision: int = 0,
        limit: int = 0,
        count_only: bool = False,
    ) -> RangeResult:
        """``Store.range`` that sees what this transaction has written."""
        return self._store.range_within(self.revision, key, end, revision, limit, count_only)

    def put(self, key: bytes, value: bytes, lease: int = 0) -> Change:
        change = self._store.put(
            self._main, len(self.changes), self._main_varint, key, value, lease
        )
        self.changes.append(change)
        return change

    def delete_range(self, key: bytes, end: bytes | None = None) -> list[bytes]:
        """Delete what ``range`` finds; the keys, in order."""
        store = self._store
        if not end:
            keys = [key] if key in store.index.current else []
        else:
            stop = None if end == b"\0" else end
            keys = [] if stop is not None and stop <= key else list(store.index.keys(key, stop))
        store.deletes += 1
        for each in keys:
            self.changes.append(
                store.delete(self._main, len(self.changes), self._main_varint, each)
            )
        return keys

    def end(self) -> int:
        """Publish; the revision of the store afterwards."""
        if self.changes:
            self._store.publish(self._main, self.changes)
        return self._store.revision
