"""Messages inside a gRPC stream: a flag, a 32-bit length and that many bytes each."""

from __future__ import annotations

import zlib
from struct import Struct

from etcdtw.errors import Code, StatusError

PREFIX = Struct(">BI")
PREFIX_BYTES = PREFIX.size
# What grpc-go says of bytes that are no message of the method's type.
BAD_UNARY_MESSAGE = "grpc: error unmarshalling request: unexpected EOF"
BAD_STREAM_MESSAGE = "grpc: failed to unmarshal the received message unexpected EOF"
_GZIP = 16 + zlib.MAX_WBITS


def too_large(size: int, limit: int) -> StatusError:
    return StatusError(
        Code.RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({size} vs. {limit})"
    )


def whole_message(data: bytes, limit: int) -> bytes | None:
    """The message, if ``data`` is exactly one that needs no second look."""
    size = len(data) - PREFIX_BYTES
    if 0 <= size <= limit and PREFIX.unpack_from(data) == (0, size):
        return data[PREFIX_BYTES:]
    return None


class MessageReader:
    """Cuts the bytes of one stream into messages of at most ``limit`` bytes. ``gzip``: messages
    flagged as compressed are expanded, otherwise they are refused."""

    __slots__ = ("_buffer", "_gzip", "_limit")

    def __init__(self, limit: int, gzip: bool) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._gzip = gzip

    @property
    def buffered(self) -> int:
        """Bytes of a message that is not complete."""
        return len(self._buffer)

    def clear(self) -> None:
        """Forget the incomplete message."""
        self._buffer.clear()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that ``data`` completes.

        Raises StatusError for a message that is too large or cannot be decompressed, with the
        code and text of grpc-go.
        """
        buffer = self._buffer
        buffer += data
        messages = []
        while len(buffer) >= PREFIX_BYTES:
            flag, size = PREFIX.unpack_from(buffer)
            if flag > 1:
                raise StatusError(Code.INTERNAL, f"grpc: received unexpected payload format {flag}")
            if size > self._limit:
                raise too_large(size, self._limit)
            if flag and not self._gzip:
                raise StatusError(
                    Code.INTERNAL, "grpc: compressed flag set with identity or empty encoding"
                )
            stop = PREFIX_BYTES + size
            if len(buffer) < stop:
                break
            body = bytes(memoryview(buffer)[PREFIX_BYTES:stop])
            del buffer[:stop]
            messages.append(self._decompress(body) if flag else body)
        return messages

    def _decompress(self, body: bytes) -> bytes:
        expander = zlib.decompressobj(_GZIP)
        try:
            data = expander.decompress(body, self._limit + 1)
        except zlib.error as error:
            raise StatusError(
                Code.INTERNAL, f"grpc: failed to decompress the received message: {error}"
            ) from None
        if len(data) > self._limit:
            raise too_large(len(data), self._limit)
        if not expander.eof:
            raise StatusError(
                Code.INTERNAL, "grpc: failed to decompress the received message: unexpected EOF"
            )
        return data
