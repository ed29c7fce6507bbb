"""The dialling end of an endless HTTP answer: one GET, its head, and a body in chunks.

Twisted's agent takes several times as long for each piece; a follower reads tens of thousands of
pieces a second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from typing import Protocol as TypingProtocol

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

HEAD_BYTES_MAX = 64 * 1024
CHUNK_BYTES_MAX = 1 << 30
_LINE_BYTES_MAX = 4096
_STATUS = re.compile(rb"[0-9]{3}")
_HEX = re.compile(rb"[0-9A-Fa-f]+")


class BadAnswer(ValueError):
    """What came is no HTTP/1.1 answer."""


class StreamEvents(TypingProtocol):
    """Who reads the stream."""

    def answered(self, status: int, headers: Mapping[bytes, bytes]) -> None:
        """The head is there; names in lower case."""

    def received(self, data: bytes) -> None:
        """Some of the body."""

    def ended(self, reason: str) -> None:
        """The connection is gone."""


class ChunkDecoder:
    """Bytes of a body in chunks to the bytes that it carries (RFC 9112 section 7.1)."""

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0  # of the chunk under way, with its end of line
        self.finished = False

    def feed(self, data: bytes) -> bytes:
        """BadAnswer for what is no chunk."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        elif not (self._left or self.finished) and data.endswith(b"\r\n"):
            # Mostly a write of the peer is a chunk and comes in one piece.
            line, _, body = data[:-2].partition(b"\r\n")
            if _chunk_size(line) == len(body) and body:
                return body
        pieces = []
        at = 0
        while at < len(data) and not self.finished:
            if self._left > 2:
                piece = data[at : at + self._left - 2]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
            elif self._left:
                skipped = min(self._left, len(data) - at)
                at += skipped
                self._left -= skipped
            else:
                end = data.find(b"\r\n", at)
                if end < 0:
                    if len(data) - at > _LINE_BYTES_MAX:
                        raise BadAnswer("a chunk's size is too long")
                    break
                size = _chunk_size(data[at:end])
                at = end + 2
                self._left = size + 2
                self.finished = size == 0
        if at < len(data) and not self.finished:
            self._rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@lru_cache(maxsize=256)
def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not _HEX.fullmatch(digits) or int(digits, 16) > CHUNK_BYTES_MAX:
        raise BadAnswer(f"not the size of a chunk: {line[:40]!r}")
    return int(digits, 16)


class StreamRequest(Protocol):
    """One GET on a connection of its own."""

    def __init__(
        self, path: str, host: str, headers: Mapping[bytes, bytes], events: StreamEvents
    ) -> None:
        lines = [f"GET {path} HTTP/1.1".encode(), b"Host: " + host.encode()]
        lines += [name + b": " + value for name, value in headers.items()]
        self._request = b"\r\n".join((*lines, b"", b""))
        self._events = events
        self._head = b""
        self._body: ChunkDecoder | None = None
        self._is_plain = False
        self._reason = ""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        try:
            if self._body is not None:
                self._decode(data)
            elif self._is_plain:
                self._events.received(data)
            else:
                self._read_head(data)
        except BadAnswer as error:
            self.close(str(error))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._events.ended(self._reason or reason.getErrorMessage())

    def close(self, reason: str) -> None:
        """End it; ``reason`` is what the reader hears."""
        self._reason = self._reason or reason
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _read_head(self, data: bytes) -> None:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            if len(self._head) > HEAD_BYTES_MAX:
                raise BadAnswer("the head of the answer is too long")
            return
        self._head = b""
        status_line, *lines = head.split(b"\r\n")
        words = status_line.split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not _STATUS.fullmatch(words[1]):
            raise BadAnswer(f"not an HTTP answer: {status_line[:80]!r}")
        headers = {}
        for line in lines:
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            self._body = ChunkDecoder()
        else:
            self._is_plain = True
        self._events.answered(int(words[1]), headers)
        if rest:
            self.dataReceived(rest)
        elif headers.get(b"content-length") == b"0":
            self.close("")

    def _decode(self, data: bytes) -> None:
        assert self._body is not None, "a body without its head"
        content = self._body.feed(data)
        if content:
            self._events.received(content)
        if self._body.finished:
            self.close("the peer ended the stream")
