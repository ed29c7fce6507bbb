"""Reading LMDB: records in pieces, and views of one moment."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import islice

import lmdb
from zope.interface import implementer

from etcdtw.errors import StorageError
from etcdtw.mvcc.interfaces import IBackendView
from etcdtw.storage.backend.lmdb_environment import Databases, open_environment, read_position
from etcdtw.storage.backend.lmdb_keys import LONG_NAMES, real_record, stored_key

Pairs = list[tuple[bytes, bytes]]

_PIECE_RECORDS_FIRST = 16
_PIECE_RECORDS_MAX = 1024
_PIECE_BYTES = 1 << 20


class Reading:
    """A read transaction with what can be asked of it."""

    __slots__ = ("_databases", "_txn")

    def __init__(self, env: lmdb.Environment, databases: Databases) -> None:
        self._txn = env.begin()
        self._databases = databases

    def position(self) -> tuple[int, int]:
        return read_position(self._txn, self._databases)

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        database = self._databases.get(bucket)
        if database is None or not key:
            return None
        if bucket not in LONG_NAMES:
            return self._txn.get(key, db=database)
        known = stored_key(key)
        value = self._txn.get(known, db=database)
        return None if value is None else real_record(known, value)[1]

    def records(self, bucket: bytes, start: bytes, end: bytes | None, limit: int) -> Pairs:
        """The first so many records with ``start <= key < end``; all of a bucket whose names may
        be long, since those lie in another order."""
        database = self._databases.get(bucket)
        if database is None:
            return []
        with self._txn.cursor(database) as cursor:
            if bucket in LONG_NAMES:
                found = sorted(real_record(*each) for each in cursor)
                found = found[bisect_left(found, (start,)) :]
            elif cursor.set_range(start):
                found = list(islice(cursor.iternext(), limit))
            else:
                return []
        if end is not None and found and found[-1][0] >= end:
            del found[bisect_left(found, (end,)) :]
        return found

    def buckets(self) -> list[bytes]:
        return sorted(self._databases)

    def close(self) -> None:
        self._txn.abort()


def in_pieces(
    piece_of: Callable[[bytes, int], tuple[Pairs, bytes | None]], start: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """Records from pieces, as long as each says up to which key it has come.

    Pieces grow while a scan goes on, but not beyond some number of bytes.
    """
    records = _PIECE_RECORDS_FIRST
    while True:
        piece, bound = piece_of(start, records)
        yield from piece
        if bound is None:
            return
        start = bound + b"\0"
        records = min(4 * records, _PIECE_RECORDS_MAX)
        if piece:
            piece_bytes = sum(len(value) for _, value in piece)
            records = max(1, min(records, _PIECE_BYTES * len(piece) // (piece_bytes + 1)))


@implementer(IBackendView)
class LmdbView:
    """A read transaction of its own. All records show as they are stored, consistent index and
    term in ``meta`` among them."""

    def __init__(
        self,
        env: lmdb.Environment,
        databases: Databases,
        owner: str,
        began: float,
        on_close: Callable[[LmdbView], None],
    ) -> None:
        self.env = env
        self._reading: Reading | None = Reading(env, databases)
        self._on_close = on_close
        self.owner = owner
        self.began = began
        self.index, self.term = self._reading.position()

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        return self._open().get(bucket, key)

    def scan(self, bucket: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        def piece_of(start: bytes, limit: int) -> tuple[Pairs, bytes | None]:
            found = self._open().records(bucket, start, end, limit)
            return found, found[-1][0] if len(found) == limit else None

        return in_pieces(piece_of, start)

    def buckets(self) -> list[bytes]:
        return self._open().buckets()

    def close(self) -> None:
        if self._reading is not None:
            reading, self._reading = self._reading, None
            reading.close()
            self._on_close(self)

    def _open(self) -> Reading:
        if self._reading is None:
            raise StorageError(f"the view of the keyspace for {self.owner} was closed")
        return self._reading


def open_view(path: str, map_size: int, owner: str) -> LmdbView:
    """A view of the file, for another process than the one that writes it, or for a tool while
    nobody does. StorageError."""
    opened = open_environment(path, map_size, readonly=True)
    return LmdbView(opened.env, opened.databases, owner, 0.0, lambda view: view.env.close())
