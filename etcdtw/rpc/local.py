"""Calls that come from within the process: the JSON gateway's, an embedding program's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from google.protobuf.message import DecodeError

from etcdtw.errors import Code, EtcdError, StatusError

from .call import StreamCall, Target, UnaryCall
from .messages import BAD_STREAM_MESSAGE, BAD_UNARY_MESSAGE, too_large
from .router import Method
from .transport import Transport

Answered = Callable[[bytes | EtcdError], None]
"""Takes the encoded answer of a unary call, or its error, once."""


class StreamSink(Protocol):
    """Where the answers of a stream go."""

    def message(self, body: bytes) -> None: ...

    def ended(self, error: EtcdError | None) -> None:
        """Nothing more comes."""

    def is_writable(self) -> bool:
        """Whether more should be sent now. After a False the stream's ``on_writable`` is due."""


class _Local:
    """What both kinds of call say instead of what their connection would."""

    __slots__ = ()
    _peer: str

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def transport(self) -> Transport:
        raise AssertionError("a call from within the process has no connection")


class LocalUnary(_Local, UnaryCall):
    """A unary call without a connection."""

    __slots__ = ("_answered", "_peer")

    def __init__(
        self, method: Method, metadata: Mapping[str, str], peer: str, answered: Answered
    ) -> None:
        self._target = Target(method, metadata, False, method.clients)
        self._peer = peer
        self._answered = answered
        self.stream_id = 0
        self.deadline = None
        self.done = False
        self.on_cancel = None

    def start(self, body: bytes, bytes_max: int) -> None:
        """Run it with this request."""
        method = self._target.method
        assert method.unary_handler is not None, f"{method.path} is a streaming method"
        method.started += 1
        method.clients.count += 1
        if len(body) > bytes_max:
            self.fail(too_large(len(body), bytes_max))
            return
        method.received_bytes += len(body)
        try:
            method.unary_handler(self, body)
        except EtcdError as error:
            self.fail(error)
        except DecodeError:
            self.fail(StatusError(Code.INTERNAL, BAD_UNARY_MESSAGE))

    def reply(self, body: bytes) -> None:
        if not self.done:
            self.done = True
            method = self._target.method
            method.handled[0] += 1
            method.sent_bytes += len(body)
            self._answered(body)

    def fail(self, error: EtcdError) -> None:
        if not self.done:
            self.done = True
            self._target.method.handled[error.code] += 1
            self._answered(error)


class LocalStream(_Local, StreamCall):
    """A streaming call without a connection."""

    __slots__ = ("_peer", "_sink")

    is_local = True

    def __init__(
        self, method: Method, metadata: Mapping[str, str], peer: str, sink: StreamSink
    ) -> None:
        self._target = Target(method, metadata, False, method.clients)
        self._peer = peer
        self._sink = sink
        self.stream_id = 0
        self.deadline = None
        self.done = False
        self.on_cancel = None
        self.on_message = None
        self.on_half_close = None
        self.on_writable = None

    @property
    def queued_bytes(self) -> int:
        return 0

    @property
    def writable(self) -> bool:
        return not self.done and self._sink.is_writable()

    def start(self) -> None:
        """Begin; messages and the half-close may follow."""
        method = self._target.method
        assert method.stream_handler is not None, f"{method.path} is no streaming method"
        method.started += 1
        method.clients.count += 1
        try:
            method.stream_handler(self)
        except EtcdError as error:
            self.finish(error)

    def receive(self, body: bytes) -> None:
        """A message of the caller."""
        if self.done:
            return
        method = self._target.method
        method.received += 1
        method.received_bytes += len(body)
        try:
            if self.on_message is not None:
                self.on_message(body)
        except EtcdError as error:
            self.finish(error)
        except DecodeError:
            self.fail(StatusError(Code.INTERNAL, BAD_STREAM_MESSAGE))

    def half_close(self) -> None:
        """The caller sends no more messages."""
        if not self.done and self.on_half_close is not None:
            try:
                self.on_half_close()
            except EtcdError as error:
                self.finish(error)

    def send_headers(self) -> None:
        """There is nothing to send ahead of the first message."""

    def send_shared(self, prefix: bytes, body: bytes) -> None:
        if not self.done:
            method = self._target.method
            method.sent += 1
            method.sent_bytes += len(prefix) + len(body)
            self._sink.message(prefix + body)

    def finish(self, error: EtcdError | None = None) -> None:
        if not self.done:
            self.done = True
            self._target.method.handled[0 if error is None else error.code] += 1
            self._sink.ended(error)

    def _drop_partial(self) -> None:
        """Messages come whole."""
