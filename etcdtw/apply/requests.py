"""What a normal log entry holds: an InternalRaftRequest or, for the v2 tree, a bare Request."""

from __future__ import annotations

import re

from google.protobuf.message import DecodeError, Message

from etcdtw.apply.deep_nesting import decode_deep
from etcdtw.auth import Caller
from etcdtw.errors import CorruptError
from etcdtw.pb.etcdserver_pb2 import Request
from etcdtw.pb.raft_internal_pb2 import InternalRaftRequest

V2 = "v2"
_V2_TEXTS = ("Method", "Path", "Val", "PrevValue")
_ESCAPED = re.compile("[\udc80-\udcff]")


def caller_of(data: bytes) -> Caller:
    """Who proposed an entry that ``decode_request`` understands."""
    header = _decode_internal(data).header
    return Caller(header.username, header.auth_revision)


def decode_request(data: bytes, index: int) -> tuple[str, Message]:
    """The kind (the field's name in InternalRaftRequest) and the request of entry ``index``.

    etcd tries the v3 form first and falls back to the v2 one; a v2 method never parses as the
    message that has its place in the v3 form. Raises CorruptError for anything else: no member
    may guess what such an entry means.
    """
    try:
        internal = _decode_internal(data)
    except DecodeError as unreadable:
        try:
            request = Request.FromString(data)
        except DecodeError as error:
            raise CorruptError(f"log entry {index} holds no request: {error}") from error
        if not request.HasField("Method"):
            # Nearly any bytes pass for a v2 request, but etcd has never left out the method.
            raise CorruptError(f"log entry {index} is unreadable: {unreadable}") from None
        return V2, _as_text(request)
    for field, value in internal.ListFields():
        if field.message_type is not None and field.name != "header":
            return field.name, value
    raise CorruptError(f"log entry {index} holds no request that this build knows")


def _decode_internal(data: bytes) -> InternalRaftRequest:
    try:
        return InternalRaftRequest.FromString(data)
    except DecodeError:
        return decode_deep(data)


def _as_text(request: Request) -> Request:
    """The same with U+FFFD for each byte that is no UTF-8, as etcd's own snapshots have it: etcd
    takes any bytes, and protobuf shows those that are no text as bytes."""
    for name in _V2_TEXTS:
        value: str | bytes = getattr(request, name)
        if isinstance(value, bytes):
            setattr(request, name, _ESCAPED.sub("\ufffd", value.decode("utf-8", "surrogateescape")))
    return request
