"""Write transactions."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from etcdtw.mvcc.changes import Change
from etcdtw.mvcc.range_result import RangeResult
from etcdtw.varint import varint

if TYPE_CHECKING:
    from etcdtw.mvcc.store import Store


class WriteTxn:
    """Changes that share one revision. It is the store's next one if anything changed.

    A transaction may go on over several turns, if nothing else writes and reads ask
    ``Store.before`` meanwhile; each of its pieces but the last ends with ``pause``.
    """

    __slots__ = ("_changes", "_count", "_main", "_main_varint", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._main = store.revision + 1
        self._main_varint = varint(self._main)
        self._count = 0
        self._changes: list[Change] = []  # those that somebody is to be told of

    @property
    def changed(self) -> bool:
        return self._count > 0

    @property
    def revision(self) -> int:
        """What a read within the transaction calls current."""
        return self._main if self._count else self._main - 1

    def is_present(self, revision: int) -> bool:
        """Whether what a range at this revision sees is what is there now."""
        return revision == self.revision

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

    def keys(self, key: bytes, end: bytes | None = None, limit: int | None = None) -> list[bytes]:
        """The first so many keys that ``range`` finds."""
        index = self._store.index
        if not end:
            return [key] if key in index else []
        stop = None if end == b"\0" else end
        if stop is not None and stop <= key:
            return []
        return list(islice(index.keys(key, stop), limit))

    def put(self, key: bytes, value: bytes, lease: int = 0) -> Change:
        change = self._store.put(self._main, self._count, self._main_varint, key, value, lease)
        self._count += 1
        self._changes.append(change)
        return change

    def delete_range(self, key: bytes, end: bytes | None = None) -> list[bytes]:
        """Delete what ``range`` finds; the keys, in order."""
        keys = self.keys(key, end)
        self._store.deletes += 1
        if keys:
            self.delete(keys)
        return keys

    def delete(self, keys: list[bytes]) -> None:
        """Delete keys that exist, in this order."""
        self._changes += self._store.delete(self._main, self._count, self._main_varint, keys)
        self._count += len(keys)

    def pause(self) -> None:
        """Tell of the changes so far, since others may have a turn now."""
        changes, self._changes = self._changes, []
        for callback in tuple(self._store.on_piece):
            callback(self._main, changes)

    def end(self) -> int:
        """Publish; the revision of the store afterwards."""
        if self._count:
            self._store.publish(self._main, self._changes)
        return self._store.revision
