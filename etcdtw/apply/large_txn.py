"""Transactions over very many keys, a piece at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from etcdtw.apply.header import revision_header
from etcdtw.apply.kv_write import Leases, delete_range_in_turns
from etcdtw.apply.large_range import LargeRange
from etcdtw.apply.txn import (
    DELETE_RANGE,
    RANGE,
    TXN,
    Step,
    TxnPlan,
    all_hold,
    joined,
    operation_of,
    response_op,
    run_step,
)
from etcdtw.errors import EtcdError
from etcdtw.mvcc.as_of import AsOf
from etcdtw.mvcc.store import Store
from etcdtw.mvcc.write_txn import WriteTxn
from etcdtw.pb.rpc_pb2 import Compare, DeleteRangeRequest, RangeRequest, TxnRequest
from etcdtw.turns import Work

Header = Callable[[int], bytes]
Source: TypeAlias = WriteTxn | AsOf


def txn_in_turns(
    store: Store, leases: Leases, request: TxnRequest, header: Header, piece_keys: int
) -> Work[bytes]:
    """Carry out a transaction; its TxnResponse. Raises as a transaction at once does, before the
    first write."""
    txn = store.write()
    planned = yield from _plan(store, txn, request, piece_keys)
    planned.check(store, leases)
    store.txns += 1
    rest = yield from _run(store, txn, txn, planned, piece_keys)
    return header(txn.end()) + rest


class LargeRead:
    """A transaction that only reads, in steps: all of it as of one revision.

    Compactions bring it to its end before they remove what it may still read.
    """

    def __init__(self, store: Store, request: TxnRequest, header: Header, piece_keys: int) -> None:
        self.compact_revision = store.compacted
        self.done = False
        self._store = store
        self._header = header
        self._work = self._steps(AsOf(store, store.revision), request, piece_keys)
        self._result: bytes | EtcdError = b""
        store.txns += 1
        store.readers.append(self)

    def step(self, keys_max: int = 0) -> bool:
        """Do a piece of the work; True when ``result`` is there."""
        if not self.done:
            try:
                next(self._work)
            except StopIteration as end:
                self._result = end.value
                self.close()
            except EtcdError as refused:
                self._result = refused
                self.close()
        return self.done

    def close(self) -> None:
        """Let go; for a job that nobody wants to finish, too."""
        if not self.done:
            self.done = True
            self._store.readers.remove(self)
            self._work.close()

    def result(self) -> bytes:
        """The TxnResponse. Raises what the transaction raised."""
        if isinstance(self._result, EtcdError):
            raise self._result
        return self._result

    def _steps(self, reads: AsOf, request: TxnRequest, piece_keys: int) -> Work[bytes]:
        planned = yield from _plan(self._store, reads, request, piece_keys)
        planned.check_ranges(reads)
        rest = yield from _run(self._store, reads, self._store.write(), planned, piece_keys)
        return self._header(reads.revision) + rest


def _plan(store: Store, source: Source, request: TxnRequest, piece_keys: int) -> Work[TxnPlan]:
    succeeded = True
    for compare in request.compare:
        succeeded = yield from _holds(store, source, compare, piece_keys)
        if not succeeded:
            break
    steps: list[Step] = []
    for each in request.success if succeeded else request.failure:
        operation = operation_of(each)
        if isinstance(operation, TxnRequest):
            steps.append((yield from _plan(store, source, operation, piece_keys)))
        else:
            steps.append(operation)
    return TxnPlan(succeeded, steps)


def _holds(store: Store, source: Source, compare: Compare, piece_keys: int) -> Work[bool]:
    if not compare.range_end:
        return all_hold(source.range(compare.key).chunks, compare)
    request = RangeRequest(key=compare.key, range_end=compare.range_end)
    job = LargeRange(store, request, revision_header, source)
    yield from _to_its_end(job)
    chunks = job.chunks
    for first in range(0, len(chunks), piece_keys):
        if not all_hold(chunks[first : first + piece_keys], compare):
            return False
        yield
    return bool(chunks) or all_hold(chunks, compare)


def _run(
    store: Store, source: Source, txn: WriteTxn, planned: TxnPlan, piece_keys: int
) -> Work[bytes]:
    operations = []
    for step in planned.steps:
        if isinstance(step, TxnPlan):
            body = yield from _run(store, source, txn, step, piece_keys)
            operations.append(response_op(TXN, body))
        elif isinstance(step, DeleteRangeRequest):
            body = yield from delete_range_in_turns(store, txn, step, revision_header, piece_keys)
            operations.append(response_op(DELETE_RANGE, body))
        elif isinstance(step, RangeRequest) and step.range_end:
            job = LargeRange(store, step, revision_header, source)
            yield from _to_its_end(job)
            operations.append(response_op(RANGE, job.result()))
        else:
            operations.append(run_step(store, source, txn, step))
    return joined(planned.succeeded, operations)


def _to_its_end(job: LargeRange) -> Work[None]:
    try:
        while not job.step():
            yield
    finally:
        job.close()
