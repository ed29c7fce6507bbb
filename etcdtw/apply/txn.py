"""Transactions: compare, then take one branch as one change.

All compares, those of nested transactions included, look at the store before any operation of
the whole transaction; so which operations run is planned first, the plan is checked, and only then
is anything written.
"""

from __future__ import annotations

from typing import TypeAlias

from etcdtw.apply.header import revision_header
from etcdtw.apply.kv_range import Ranged, check_sort_target, range_response
from etcdtw.apply.kv_write import Leases, check_put, delete_range_response, put_response
from etcdtw.apply.large_range import keys_within
from etcdtw.errors import Compacted, FutureRevision
from etcdtw.mvcc.as_of import AsOf
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
from etcdtw.turns import Allowance
from etcdtw.varint import varint

_MISSING = KeyValue()

Reads: TypeAlias = Store | AsOf


class TooLarge(Exception):
    """The transaction looks at more keys than it may in one turn."""


class TxnPlan:
    """The branch that a transaction takes, and the branches of those inside it."""

    __slots__ = ("steps", "succeeded")

    def __init__(self, succeeded: bool, steps: list[Step]) -> None:
        self.succeeded = succeeded
        self.steps = steps

    def check(self, store: Store, leases: Leases) -> None:
        """Raise what any step would raise: first for all puts, then for all ranges."""
        self._check_puts(store, leases)
        self.check_ranges(store)

    def _check_puts(self, store: Store, leases: Leases) -> None:
        for step in self.steps:
            if isinstance(step, PutRequest):
                check_put(store, leases, step)
            elif isinstance(step, TxnPlan):
                step._check_puts(store, leases)

    def check_ranges(self, store: Reads) -> None:
        for step in self.steps:
            if isinstance(step, RangeRequest):
                check_sort_target(step)
                if step.revision > store.revision:
                    raise FutureRevision
                # Unlike outside of transactions, a negative revision is not the current one.
                if step.revision and step.revision < store.compacted:
                    raise Compacted
            elif isinstance(step, TxnPlan):
                step.check_ranges(store)

    def run(self, store: Store, reads: Ranged, txn: WriteTxn) -> bytes:
        """Carry out the steps, where ``reads`` is what ranges look at; the TxnResponse without
        its header."""
        operations = [run_step(store, reads, txn, step) for step in self.steps]
        return joined(self.succeeded, operations)


Step: TypeAlias = RangeRequest | PutRequest | DeleteRangeRequest | TxnPlan | None


def plan(reads: Reads, request: TxnRequest, allowance: Allowance) -> TxnPlan:
    """Raises ``TooLarge``."""
    succeeded = all(_holds(reads, compare, allowance) for compare in request.compare)
    steps: list[Step] = []
    for each in request.success if succeeded else request.failure:
        operation = operation_of(each)
        if isinstance(operation, TxnRequest):
            steps.append(plan(reads, operation, allowance))
        else:
            if not isinstance(operation, PutRequest | None) and operation.range_end:
                _weigh(reads, operation, allowance)
            steps.append(operation)
    return TxnPlan(succeeded, steps)


def operation_of(
    operation: RequestOp,
) -> RangeRequest | PutRequest | DeleteRangeRequest | TxnRequest | None:
    """The request inside; None if there is none."""
    kind = operation.WhichOneof("request")
    if kind == "request_range":
        return operation.request_range
    if kind == "request_put":
        return operation.request_put
    if kind == "request_delete_range":
        return operation.request_delete_range
    return operation.request_txn if kind == "request_txn" else None


def _weigh(
    reads: Reads, span: Compare | RangeRequest | DeleteRangeRequest, allowance: Allowance
) -> None:
    revision = span.revision if isinstance(span, RangeRequest) else 0
    past = not reads.is_present(revision or reads.revision)
    if not allowance.admits(keys_within(reads.index, span.key, span.range_end, past)):
        raise TooLarge


def run_step(store: Store, reads: Ranged, txn: WriteTxn, step: Step) -> bytes:
    """The ResponseOp of one step."""
    if isinstance(step, RangeRequest):
        return response_op(RANGE, range_response(reads, step, revision_header))
    if isinstance(step, PutRequest):
        return response_op(PUT, put_response(store, txn, step, revision_header))
    if isinstance(step, DeleteRangeRequest):
        return response_op(DELETE_RANGE, delete_range_response(store, txn, step, revision_header))
    return b"" if step is None else response_op(TXN, step.run(store, reads, txn))


RANGE, PUT, DELETE_RANGE, TXN = b"\x0a", b"\x12", b"\x1a", b"\x22"


def response_op(tag: bytes, body: bytes) -> bytes:
    if tag == TXN:
        # The header of a nested transaction's response is there, but empty.
        body = b"\x0a\x00" + body
    return b"".join((tag, varint(len(body)), body))


def joined(succeeded: bool, operations: list[bytes]) -> bytes:
    """A TxnResponse without its header."""
    parts = [b"\x10\x01"] if succeeded else []
    for operation in operations:
        parts += (b"\x1a", varint(len(operation)), operation)
    return b"".join(parts)


def _holds(reads: Reads, compare: Compare, allowance: Allowance) -> bool:
    end = compare.range_end
    if end:
        _weigh(reads, compare, allowance)
    return all_hold(reads.range(compare.key, end).chunks, compare)


def all_hold(chunks: list[bytes], compare: Compare) -> bool:
    """Whether a compare is true of all pairs in its range.

    An empty range compares as zeros, but never its value: there is no way to name a missing one.
    """
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
