"""Transactions: compare, then take one branch as one change.

All compares, those of nested transactions included, look at the store before any operation of
the whole transaction; so which operations run is planned first, the plan is checked, and only then
is anything written.
"""

from __future__ import annotations

from collections.abc import Iterable
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
        operations = []
        for step in self.steps:
            if isinstance(step, TxnPlan):
                operations.append(tagged(step, step.run(store, reads, txn)))
            else:
                operations.append(tagged(step, run_step(store, reads, txn, step)))
        return joined(self.succeeded, operations)


Operation: TypeAlias = RangeRequest | PutRequest | DeleteRangeRequest | None
Step: TypeAlias = Operation | TxnPlan


def plan(reads: Reads, request: TxnRequest, allowance: Allowance) -> TxnPlan:
    """Raises ``TooLarge``."""
    _weigh(reads, request.compare, allowance)
    succeeded = all(holds(reads, compare) for compare in request.compare)
    steps: list[Step] = []
    for each in request.success if succeeded else request.failure:
        operation = operation_of(each)
        if isinstance(operation, TxnRequest):
            steps.append(plan(reads, operation, allowance))
        else:
            if isinstance(operation, RangeRequest | DeleteRangeRequest):
                _weigh(reads, (operation,), allowance)
            steps.append(operation)
    return TxnPlan(succeeded, steps)


def _weigh(
    reads: Reads,
    ranges: Iterable[Compare | RangeRequest | DeleteRangeRequest],
    allowance: Allowance,
) -> None:
    for each in ranges:
        if each.range_end:
            past = not reads.is_present(getattr(each, "revision", 0) or reads.revision)
            if not allowance.admits(keys_within(reads.index, each.key, each.range_end, past)):
                raise TooLarge


def operation_of(operation: RequestOp) -> Operation | TxnRequest:
    """The request inside; None if there is none."""
    kind = operation.WhichOneof("request")
    if kind == "request_range":
        return operation.request_range
    if kind == "request_put":
        return operation.request_put
    if kind == "request_delete_range":
        return operation.request_delete_range
    return operation.request_txn if kind == "request_txn" else None


def run_step(store: Store, reads: Ranged, txn: WriteTxn, step: Operation) -> bytes:
    """The body of the response to one step."""
    if isinstance(step, RangeRequest):
        return range_response(reads, step, revision_header)
    if isinstance(step, PutRequest):
        return put_response(store, txn, step, revision_header)
    if isinstance(step, DeleteRangeRequest):
        return delete_range_response(store, txn, step, revision_header)
    return b""


def tagged(step: Step, body: bytes) -> bytes:
    """The ResponseOp of a step, from the body of its response."""
    if isinstance(step, RangeRequest):
        tag = b"\x0a"
    elif isinstance(step, PutRequest):
        tag = b"\x12"
    elif isinstance(step, DeleteRangeRequest):
        tag = b"\x1a"
    elif isinstance(step, TxnPlan):
        # The header of a nested transaction's response is there, but empty.
        tag, body = b"\x22", b"\x0a\x00" + body
    else:
        return b""
    return b"".join((tag, varint(len(body)), body))


def joined(succeeded: bool, operations: list[bytes]) -> bytes:
    """A TxnResponse without its header."""
    parts = [b"\x10\x01"] if succeeded else []
    for operation in operations:
        parts += (b"\x1a", varint(len(operation)), operation)
    return b"".join(parts)


def holds(reads: Ranged, compare: Compare) -> bool:
    """Whether a compare is true of every key in its range."""
    return all_hold(reads.range(compare.key, compare.range_end).chunks, compare)


def all_hold(chunks: list[bytes], compare: Compare) -> bool:
    """Whether a compare is true of all pairs.

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
