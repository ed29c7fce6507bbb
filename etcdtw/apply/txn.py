"""Transactions: compare, then take one branch as one change.

All compares, those of nested transactions included, look at the store before any operation of
the whole transaction; so which operations run is planned first, the plan is checked, and only then
is anything written.
"""

from __future__ import annotations

from typing import TypeAlias

from etcdtw.apply.header import revision_header
from etcdtw.apply.kv_range import check_sort_target, range_response
from etcdtw.apply.kv_write import Leases, check_put, delete_range_response, put_response
from etcdtw.errors import Compacted, FutureRevision
from etcdtw.mvcc.keyvalue import parse_record, unchunk
from etcdtw.mvcc.store import Store
from etcdtw.mvcc.write_txn import WriteTxn
from etcdtw.pb.kv_pb2 import KeyValue
from etcdtw.pb.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from etcdtw.varint import varint

_MISSING = KeyValue()


class TxnPlan:
    """The branch that a transaction takes, and the branches of those inside it."""

    __slots__ = ("_steps", "_succeeded")

    def __init__(self, store: Store, request: TxnRequest) -> None:
        self._succeeded = all(holds(store, compare) for compare in request.compare)
        branch = request.success if self._succeeded else request.failure
        self._steps = [_step(store, operation) for operation in branch]

    def check(self, store: Store, leases: Leases) -> None:
        """Raise what any step would raise: first for all puts, then for all ranges."""
        self._check_puts(store, leases)
        self._check_ranges(store)

    def _check_puts(self, store: Store, leases: Leases) -> None:
        for step in self._steps:
            if isinstance(step, PutRequest):
                check_put(store, leases, step)
            elif isinstance(step, TxnPlan):
                step._check_puts(store, leases)

    def _check_ranges(self, store: Store) -> None:
        for step in self._steps:
            if isinstance(step, RangeRequest):
                check_sort_target(step)
                if step.revision > store.revision:
                    raise FutureRevision
                # Unlike outside of transactions, a negative revision is not the current one.
                if step.revision and step.revision < store.compacted:
                    raise Compacted
            elif isinstance(step, TxnPlan):
                step._check_ranges(store)

    def run(self, store: Store, txn: WriteTxn) -> bytes:
        """Carry out the steps; the TxnResponse without its header."""
        parts = [b"\x10\x01"] if self._succeeded else []
        for step in self._steps:
            operation = _run_step(store, txn, step)
            parts += (b"\x1a", varint(len(operation)), operation)
        return b"".join(parts)


_Step: TypeAlias = RangeRequest | PutRequest | DeleteRangeRequest | TxnPlan | None


def _step(store: Store, operation: RequestOp) -> _Step:
    kind = operation.WhichOneof("request")
    if kind == "request_range":
        return operation.request_range
    if kind == "request_put":
        return operation.request_put
    if kind == "request_delete_range":
        return operation.request_delete_range
    if kind == "request_txn":
        return TxnPlan(store, operation.request_txn)
    return None


def _run_step(store: Store, txn: WriteTxn, step: _Step) -> bytes:
    """The ResponseOp of one step."""
    if isinstance(step, RangeRequest):
        tag, body = b"\x0a", range_response(txn, step, revision_header)
    elif isinstance(step, PutRequest):
        tag, body = b"\x12", put_response(store, txn, step, revision_header)
    elif isinstance(step, DeleteRangeRequest):
        tag, body = b"\x1a", delete_range_response(txn, step, revision_header)
    elif isinstance(step, TxnPlan):
        # The header of a nested transaction's response is there, but empty.
        tag, body = b"\x22", b"\x0a\x00" + step.run(store, txn)
    else:
        return b""
    return b"".join((tag, varint(len(body)), body))


def holds(store: Store, compare: Compare) -> bool:
    """Whether a compare is true of every key in its range.

    An empty range compares as zeros, but never its value: there is no way to name a missing one.
    """
    chunks = store.range(compare.key, compare.range_end).chunks
    if not chunks:
        return compare.target != Compare.VALUE and _holds_of(_MISSING, compare)
    return all(_holds_of(parse_record(unchunk(chunk)), compare) for chunk in chunks)


def _holds_of(kv: KeyValue, compare: Compare) -> bool:
    target = compare.target
    # The operand of another target than the one named counts as not given: 0 or empty.
    if target == Compare.VALUE:
        order = _order(kv.value, compare.value)
    elif target == Compare.VERSION:
        order = _order(kv.version, compare.version)
    elif target == Compare.CREATE:
        order = _order(kv.create_revision, compare.create_revision)
    elif target == Compare.MOD:
        order = _order(kv.mod_revision, compare.mod_revision)
    elif target == Compare.LEASE:
        order = _order(kv.lease, compare.lease)
    else:
        order = 0
    result = compare.result
    if result == Compare.EQUAL:
        return order == 0
    if result == Compare.NOT_EQUAL:
        return order != 0
    if result == Compare.GREATER:
        return order > 0
    return order < 0 if result == Compare.LESS else True


def _order(ours: bytes | int, theirs: bytes | int) -> int:
    return (ours > theirs) - (ours < theirs)  # type: ignore[operator]
