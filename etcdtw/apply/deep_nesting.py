"""Transactions nested deeper than protobuf's decoder goes: members of etcd put them into the log.

The decoder gives up at 100 messages inside each other, two of which are one transaction inside
another. Messages may be made as deep as one likes.
"""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import DecodeError, Message

from etcdtw.pb.raft_internal_pb2 import InternalRaftRequest
from etcdtw.pb.rpc_pb2 import RequestOp, TxnRequest
from etcdtw.raft.codec import decode_varint

_UNFOLDED = {
    kind.DESCRIPTOR.full_name: {kind.DESCRIPTOR.fields_by_name[name].number: name for name in names}
    for kind, names in (
        (InternalRaftRequest, ("txn",)),
        (TxnRequest, ("success", "failure")),
        (RequestOp, ("request_txn",)),
    )
}
"""Fields in which transactions are, by number."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def decode_deep(data: bytes) -> InternalRaftRequest:
    """What ``FromString`` gives, however deep a transaction goes. Raises DecodeError."""
    request = InternalRaftRequest()
    waiting: list[tuple[Message, int, int]] = [(request, 0, len(data))]
    while waiting:
        message, at, stop = waiting.pop()
        unfolded = _UNFOLDED[message.DESCRIPTOR.full_name]
        for tag, start, body, end in _fields(data, at, stop):
            name = unfolded.get(tag >> 3)
            if name is None:
                message.MergeFromString(data[start:end])
                continue
            if tag & 7 != _BYTES:
                raise DecodeError(f"{name} is no message")
            part = getattr(message, name)
            if isinstance(part, Message):
                part.SetInParent()
            else:
                part = part.add()
            waiting.append((part, body, end))
    return request


def _fields(data: bytes, end: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields from one place to another: tag, and where field, value and what follows begin."""
    try:
        while end < stop:
            start = end
            tag, at = decode_varint(data, start)
            kind = tag & 7
            if kind == _VARINT:
                _, end = decode_varint(data, at)
            elif kind == _BYTES:
                size, at = decode_varint(data, at)
                end = at + size
            elif kind in (_FIXED64, _FIXED32):
                end = at + (8 if kind == _FIXED64 else 4)
            else:
                raise DecodeError(f"wire type {kind}")
            if end > stop:
                raise DecodeError("a field is cut off")
            yield tag, start, at, end
    except (IndexError, ValueError) as error:
        raise DecodeError("a number is cut off") from error
