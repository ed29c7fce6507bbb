"""The space quota: what a request costs, and whether it still fits (etcd's rules)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from etcdtw.apply.plain_put import is_plain
from etcdtw.pb.rpc_pb2 import RequestOp

DEFAULT_QUOTA_BYTES = 2 * 1024 * 1024 * 1024
PUT_OVERHEAD = 256
_LEASE_COST = 64
# No request costs more than this many times the bytes of its log entry: a put takes at least the
# bytes of a tag and a length.
COST_PER_BYTE_MAX = PUT_OVERHEAD // 2 + 1


class Quota:
    """Compares the backend's size with ``limit_bytes``: 0 means the default, negative none.

    It looks at the size only now and then: a look that finds room gives half of it as credit to
    the requests that follow, which cost more than they add. The nearer the limit, the more often
    it looks. Whoever adds to the backend without having asked calls ``look_again``.
    """

    def __init__(self, size: Callable[[], int], limit_bytes: int) -> None:
        self._size = size
        self._limit = limit_bytes or DEFAULT_QUOTA_BYTES
        self._credit = 0

    def exceeded_by(self, cost: int) -> bool:
        """Whether a request of this cost does not fit any more; what costs nothing always does."""
        self._credit -= cost
        return self._credit <= 0 and self._is_full(cost)

    def look_again(self) -> None:
        """Give no more credit from an earlier look."""
        self._credit = 0

    def _is_full(self, cost: int) -> bool:
        if cost <= 0 or self._limit < 0:
            return False
        room = self._limit - self._size() - cost
        self._credit = room // 2
        return room <= 0


def request_cost(kind: str, request: Any) -> int:
    """Bytes that a request counts for against the quota."""
    if kind == "put":
        if is_plain(request):
            return PUT_OVERHEAD + sum(map(len, request))
        return PUT_OVERHEAD + len(request.key) + len(request.value)
    if kind == "txn":
        return max(_puts_cost(request.success), _puts_cost(request.failure))
    return _LEASE_COST if kind == "lease_grant" else 0


def _puts_cost(operations: Iterable[RequestOp]) -> int:
    return sum(
        request_cost("put", each.request_put) for each in operations if each.HasField("request_put")
    )
