"""Range: from the store's chunks to a response, with filters, order and limit as etcd has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from etcdtw.errors import InvalidArgument
from etcdtw.mvcc.keyvalue import parse_record, unchunk, without_value
from etcdtw.mvcc.range_result import RangeResult
from etcdtw.pb.kv_pb2 import KeyValue
from etcdtw.pb.rpc_pb2 import RangeRequest
from etcdtw.varint import varint

SORT_FIELDS = ("key", "version", "create_revision", "mod_revision", "value")


class Ranged(Protocol):
    """Something to read from: the store, or a transaction under way."""

    def range(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        revision: int = 0,
        limit: int = 0,
        count_only: bool = False,
    ) -> RangeResult: ...


def check_sort_target(request: RangeRequest) -> None:
    """Refuse a sort target that does not exist; etcd 3.5 dies of it, 3.6 answers this."""
    if not 0 <= request.sort_target < len(SORT_FIELDS):
        raise InvalidArgument("etcdserver: invalid sort option")


def range_response(source: Ranged, request: RangeRequest, header: Callable[[int], bytes]) -> bytes:
    """The body of a RangeResponse; ``header`` makes its header from the current revision."""
    limit = request.limit
    order = request.sort_order
    target = request.sort_target
    filtered = (
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )
    if target:
        check_sort_target(request)
    # One pair more than asked for tells whether there are more. An order or a filter must see
    # everything; but, as in etcd, a target without an order sorts only what the limit let through.
    fetched = 0 if order or filtered or limit <= 0 else limit + 1
    result = source.range(
        request.key,
        request.range_end,
        revision=request.revision,
        limit=fetched,
        count_only=request.count_only,
    )
    chunks = result.chunks
    if filtered or target or order == RangeRequest.DESCEND:
        chunks = _arranged(request, chunks)
    more = b""
    if 0 < limit < len(chunks):
        chunks = chunks[:limit]
        more = b"\x18\x01"
    if request.keys_only:
        chunks = [without_value(chunk) for chunk in chunks]
    count = b"\x20" + varint(result.count) if result.count else b""
    return b"".join((header(result.revision), *chunks, more, count))


def filters(request: RangeRequest) -> Iterator[Callable[[KeyValue], bool]]:
    """What a pair must satisfy."""
    if request.max_mod_revision:
        yield lambda kv: kv.mod_revision <= request.max_mod_revision
    if request.min_mod_revision:
        yield lambda kv: kv.mod_revision >= request.min_mod_revision
    if request.max_create_revision:
        yield lambda kv: kv.create_revision <= request.max_create_revision
    if request.min_create_revision:
        yield lambda kv: kv.create_revision >= request.min_create_revision


def _arranged(request: RangeRequest, chunks: list[bytes]) -> list[bytes]:
    """What the filters leave, in the order asked for."""
    pairs = [(parse_record(unchunk(chunk)), chunk) for chunk in chunks]
    for keep in filters(request):
        pairs = [pair for pair in pairs if keep(pair[0])]
    order = request.sort_order
    if order == RangeRequest.NONE and request.sort_target != RangeRequest.KEY:
        order = RangeRequest.ASCEND
    # An order that does not exist sorts nothing. Equal ones stay in key order.
    if order in (RangeRequest.ASCEND, RangeRequest.DESCEND):
        field = SORT_FIELDS[request.sort_target]
        pairs.sort(key=lambda pair: getattr(pair[0], field), reverse=order == RangeRequest.DESCEND)
    return [chunk for _, chunk in pairs]
