"""What services with streams share."""

from __future__ import annotations

from typing import Protocol, TypeVar

from google.protobuf.message import Message

from etcdtw.api.v3.canonical import canonical
from etcdtw.errors import StatusError
from etcdtw.rpc import StreamCall

M = TypeVar("M", bound=Message)
_UNARY_WORDS = "grpc: error unmarshalling request: "
_STREAM_WORDS = "grpc: failed to unmarshal the received message "


class HeaderSource(Protocol):
    def encode(self, revision: int) -> bytes:
        """The tagged ResponseHeader of an answer; revision 0 is left out."""


def decode_streamed(request_class: type[M], body: bytes) -> M:
    """One message of a stream. Raises Internal in the words that grpc-go has for streams."""
    try:
        return canonical(request_class, body)[0]
    except StatusError as error:
        raise StatusError(error.code, str(error).replace(_UNARY_WORDS, _STREAM_WORDS)) from None


def requires_leader(call: StreamCall) -> bool:
    """Whether the client wants the stream to end when there is no leader."""
    return call.metadata.get("hasleader") == "true"
