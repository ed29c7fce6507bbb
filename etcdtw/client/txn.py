"""Transactions, written as they read: if these hold, then this, else that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from etcdtw.client.ranges import Key, first_key_of, range_end_of, to_bytes
from etcdtw.pb.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
    TxnResponse,
)


class Comparing:
    """One side of a comparison; compare it with ``==``, ``!=``, ``<`` or ``>``."""

    def __init__(self, key: Key, target: str, field: str, *, prefix: bool = False) -> None:
        self._key, self._end = _range(key, prefix)
        self._target = target
        self._field = field

    def _to(self, operator: str, other: object) -> Compare:
        compare = Compare(key=self._key, range_end=self._end, target=self._target, result=operator)
        setattr(compare, self._field, other.encode() if isinstance(other, str) else other)
        return compare

    def __eq__(self, other: object) -> Compare:  # type: ignore[override]
        return self._to("EQUAL", other)

    def __ne__(self, other: object) -> Compare:  # type: ignore[override]
        return self._to("NOT_EQUAL", other)

    def __lt__(self, other: object) -> Compare:
        return self._to("LESS", other)

    def __gt__(self, other: object) -> Compare:
        return self._to("GREATER", other)


def value(key: Key, *, prefix: bool = False) -> Comparing:
    """The value of a key, or of all keys with a prefix."""
    return Comparing(key, "VALUE", "value", prefix=prefix)


def version(key: Key, *, prefix: bool = False) -> Comparing:
    """How often a key was written since it came to be; 0: there is no such key."""
    return Comparing(key, "VERSION", "version", prefix=prefix)


def created(key: Key, *, prefix: bool = False) -> Comparing:
    """The revision that made a key; 0: there is no such key."""
    return Comparing(key, "CREATE", "create_revision", prefix=prefix)


def modified(key: Key, *, prefix: bool = False) -> Comparing:
    """The revision that last wrote a key; 0: there is no such key."""
    return Comparing(key, "MOD", "mod_revision", prefix=prefix)


def lease_of(key: Key, *, prefix: bool = False) -> Comparing:
    """The lease of a key; 0: none."""
    return Comparing(key, "LEASE", "lease", prefix=prefix)


class Txn:
    """``client.kv.txn().when(version(k) == 0).then(put(k, v)).otherwise(get(k)).commit()``."""

    def __init__(self, commit: Callable[[TxnRequest], Deferred[TxnResponse]]) -> None:
        self.request = TxnRequest()
        self._commit = commit

    def when(self, *comparisons: Compare) -> Txn:
        """All of these must hold."""
        self.request.compare.extend(comparisons)
        return self

    def then(self, *operations: RequestOp) -> Txn:
        """Carried out if they do."""
        self.request.success.extend(operations)
        return self

    def otherwise(self, *operations: RequestOp) -> Txn:
        """Carried out if they do not."""
        self.request.failure.extend(operations)
        return self

    def commit(self) -> Deferred[TxnResponse]:
        """Its ``succeeded`` tells which of the two it was."""
        return self._commit(self.request)


def put(key: Key, value: Key, **options: Any) -> RequestOp:
    """A put inside a transaction; options are fields of PutRequest."""
    request = PutRequest(key=to_bytes(key), value=to_bytes(value), **options)
    return RequestOp(request_put=request)


def get(key: Key, *, prefix: bool = False, **options: Any) -> RequestOp:
    """A range inside a transaction; options are fields of RangeRequest."""
    first, end = _range(key, prefix)
    return RequestOp(request_range=RangeRequest(key=first, range_end=end, **options))


def delete(key: Key, *, prefix: bool = False, **options: Any) -> RequestOp:
    """A deletion inside a transaction; options are fields of DeleteRangeRequest."""
    first, end = _range(key, prefix)
    request = DeleteRangeRequest(key=first, range_end=end, **options)
    return RequestOp(request_delete_range=request)


def _range(key: Key, prefix: bool) -> tuple[bytes, bytes]:
    return (first_key_of(key), range_end_of(key, prefix=True)) if prefix else (to_bytes(key), b"")
