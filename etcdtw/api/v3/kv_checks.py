"""What is refused about KV requests before they reach the log, in etcd's order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate, chain

from etcdtw.apply.kv_range import check_sort_target
from etcdtw.errors import (
    DuplicateKey,
    EmptyKey,
    KeyNotFound,
    LeaseProvided,
    TooManyOps,
    ValueProvided,
)
from etcdtw.pb.rpc_pb2 import (
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)

# Protobuf's C decoder gives up at 100 messages inside each other, two of which are one level of
# nested transactions; others than the members decode requests and log entries, too.
NESTING_MAX = 40
_NO_END = b"\0"


def check_range(request: RangeRequest) -> None:
    if not request.key:
        raise EmptyKey
    check_sort_target(request)


def check_put(request: PutRequest) -> None:
    if not request.key:
        raise EmptyKey
    if request.ignore_value and request.value:
        raise ValueProvided
    if request.ignore_lease and request.lease:
        raise LeaseProvided


def check_delete_range(request: DeleteRangeRequest) -> None:
    if not request.key:
        raise EmptyKey


def check_txn(request: TxnRequest, max_ops: int) -> None:
    """Raises TooManyOps (also for transactions nested deeper than ``NESTING_MAX``), EmptyKey, what
    the operations' own checks raise, KeyNotFound for an operation that is not there, and
    DuplicateKey."""
    _check_operations(request, max_ops, NESTING_MAX)
    for branch in (request.success, request.failure):
        _, deletions = _check_intervals(branch)
        if any(end == _NO_END for _, end in deletions.ranges):
            _check_taking(branch, None)


def _check_operations(request: TxnRequest, max_ops: int, nesting_max: int) -> None:
    count = max(len(request.compare), len(request.success), len(request.failure))
    if count > max_ops or nesting_max < 0:
        raise TooManyOps
    for compare in request.compare:
        if not compare.key:
            raise EmptyKey
    for operation in chain(request.success, request.failure):
        kind = operation.WhichOneof("request")
        if kind == "request_range":
            check_range(operation.request_range)
        elif kind == "request_put":
            check_put(operation.request_put)
        elif kind == "request_delete_range":
            check_delete_range(operation.request_delete_range)
        elif kind == "request_txn":
            _check_operations(operation.request_txn, max_ops - count, nesting_max - 1)
        else:
            raise KeyNotFound


class _Deletions:
    """Ranges to delete, and whether one of them covers a key.

    As in etcd, a range "from the key to the end" (a zero byte as its end) covers nothing here.
    """

    def __init__(self) -> None:
        self.ranges: list[tuple[bytes, bytes]] = []
        self._starts: list[bytes] | None = None
        self._furthest: list[bytes] = []

    def add(self, ranges: Iterable[tuple[bytes, bytes]]) -> None:
        self.ranges.extend(ranges)
        self._starts = None

    def covers(self, key: bytes) -> bool:
        if self._starts is None:
            self.ranges.sort()
            self._starts = [start for start, _ in self.ranges]
            self._furthest = list(accumulate((end for _, end in self.ranges), max))
        place = bisect_right(self._starts, key)
        return place > 0 and key < self._furthest[place - 1]


def _check_intervals(operations: Iterable[RequestOp]) -> tuple[set[bytes], _Deletions]:
    """Refuse a key that is put twice, or put and deleted, by one branch; else what it puts and
    deletes.

    The order is etcd's: deletions of this level, then the nested transactions one by one, then
    the puts of this level. So a nested deletion hits what comes after it, not what came before.
    """
    puts: set[bytes] = set()
    deletions = _Deletions()
    operations = list(operations)
    deletions.add(
        (request.key, request.range_end or request.key + b"\0")
        for request in (each.request_delete_range for each in operations)
        if request.key
    )
    for operation in operations:
        if not operation.HasField("request_txn"):
            continue
        then_puts, then_deletions = _check_intervals(operation.request_txn.success)
        else_puts, else_deletions = _check_intervals(operation.request_txn.failure)
        # Only one of the two branches will run: they may put the same keys.
        nested = then_puts | else_puts
        if not puts.isdisjoint(nested) or any(map(deletions.covers, nested)):
            raise DuplicateKey
        puts |= nested
        deletions.add(then_deletions.ranges)
        deletions.add(else_deletions.ranges)
    for operation in operations:
        if operation.HasField("request_put"):
            key = operation.request_put.key
            if key in puts or deletions.covers(key):
                raise DuplicateKey
            puts.add(key)
    return puts, deletions


def _check_taking(operations: Iterable[RequestOp], gone: bytes | None) -> bytes | None:
    """Refuse a put that is to take the value or the lease of a key which was deleted before it by
    a range without an end: members of etcd end at the log entry. ``gone`` is where what is deleted
    begins, the result where it begins after the operations."""
    for operation in operations:
        kind = operation.WhichOneof("request")
        if kind == "request_put":
            request = operation.request_put
            takes = request.ignore_value or request.ignore_lease
            if takes and gone is not None and request.key >= gone:
                raise DuplicateKey
        elif kind == "request_delete_range":
            deletion = operation.request_delete_range
            if deletion.range_end == _NO_END and (gone is None or deletion.key < gone):
                gone = deletion.key
        elif kind == "request_txn":
            # Whichever branch is taken.
            nested = operation.request_txn
            after = [_check_taking(each, gone) for each in (nested.success, nested.failure)]
            gone = min((each for each in after if each is not None), default=None)
    return gone


def is_read_only_txn(request: TxnRequest) -> bool:
    """Whether it only reads, by etcd's rule: nothing but ranges at the top level."""
    return all(each.HasField("request_range") for each in chain(request.success, request.failure))


def is_serializable_txn(request: TxnRequest) -> bool:
    """Whether all of it are serializable ranges."""
    return all(
        each.HasField("request_range") and each.request_range.serializable
        for each in chain(request.success, request.failure)
    )
