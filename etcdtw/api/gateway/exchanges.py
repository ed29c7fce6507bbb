"""One HTTP request of the gateway and the call behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from google.protobuf.message import Message
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from etcdtw.api.gateway.answers import JSON, error_answer, error_piece
from etcdtw.api.gateway.encoding import encode_json
from etcdtw.api.http.requests import HttpRequest, answer
from etcdtw.errors import EtcdError
from etcdtw.rpc.flusher import Flushable

QUEUE_BYTES = 64 * 1024
"""A stream with more than this waiting for its turn's end is not writable."""


class Flushing(Protocol):
    """Who writes what a turn brought, at its end."""

    def add(self, connection: Flushable) -> None: ...


class UnaryExchange:
    """Answers one request with one message or an error."""

    def __init__(self, request: HttpRequest, response_class: type[Message]) -> None:
        self._request = request
        self._response_class = response_class
        self.is_over = False

    def answered(self, result: bytes | EtcdError) -> None:
        if self.is_over:
            return
        self.is_over = True
        request = self._request
        if isinstance(result, EtcdError):
            body = error_answer(request, result)
        else:
            request.setHeader(b"grpc-metadata-content-type", b"application/grpc")
            text = encode_json(self._response_class.FromString(result))
            body = answer(request, 200, text.encode(), JSON)
        request.write(body)
        request.finish()

    def abandoned(self) -> None:
        """The client is gone."""
        self.is_over = True


@implementer(IPushProducer)
class StreamExchange:
    """Answers one request with a line of JSON per message, written at the end of each turn."""

    def __init__(
        self, request: HttpRequest, response_class: type[Message], flusher: Flushing
    ) -> None:
        self._request = request
        self._response_class = response_class
        self._flusher = flusher
        self._lines: list[str] = []
        self._queued_bytes = 0
        self._waits_for_flush = False
        self._begun = False
        self._error: EtcdError | None = None
        self._paused = False
        self._starved = False
        self.is_ended = False
        self.is_over = False
        self.on_room: Callable[[], None] = lambda: None

    # --- the call's side -----------------------------------------------------------------------

    def message(self, body: bytes) -> None:
        line = f'{{"result":{encode_json(self._response_class.FromString(body))}}}\n'
        self._lines.append(line)
        self._queued_bytes += len(line)
        self._flush_soon()

    def ended(self, error: EtcdError | None) -> None:
        self.is_ended = True
        self._error = error
        self._flush_soon()

    def is_writable(self) -> bool:
        if self._paused or self._queued_bytes > QUEUE_BYTES:
            self._starved = True
            return False
        return True

    def _flush_soon(self) -> None:
        if not self._waits_for_flush:
            self._waits_for_flush = True
            self._flusher.add(self)

    def flush(self) -> None:
        self._waits_for_flush = False
        if self.is_over:
            return
        lines, self._lines, self._queued_bytes = self._lines, [], 0
        if lines:
            if not self._begun:
                self._begin()
                self._request.setHeader(b"grpc-metadata-content-type", b"application/grpc")
            self._request.write("".join(lines).encode())
        if self.is_ended:
            self._end()
        elif self._starved and not self._paused:
            self._starved = False
            self.on_room()

    def _begin(self) -> None:
        self._begun = True
        self._request.setResponseCode(200)
        self._request.setHeader(b"content-type", JSON)
        self._request.registerProducer(self, True)

    def _end(self) -> None:
        self.is_over = True
        if self._begun:
            self._request.unregisterProducer()
            if self._error is not None:
                self._request.write(error_piece(self._error).encode())
        elif self._error is not None:
            self._request.write(error_answer(self._request, self._error))
        else:
            self._request.setHeader(b"content-type", JSON)
        self._request.finish()

    # --- the connection's side -----------------------------------------------------------------

    def abandoned(self) -> None:
        """The client is gone."""
        self.is_over = True

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        if self._starved:
            self._starved = False
            self.on_room()

    def stopProducing(self) -> None:
        self._paused = True
