"""gRPC calls to a server: the client's end of one HTTP/2 connection on a Twisted transport."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from typing import Protocol as TypingProtocol
from urllib.parse import unquote

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from etcdtw.errors import Code, EtcdError, ProtocolError, StatusError, known_error
from etcdtw.http2.client import ClientConnection
from etcdtw.http2.frames import ErrorCode
from etcdtw.http2.header_table import Field
from etcdtw.http2.message import Headers

from .keepalive import TIMER_GRAIN_SECONDS
from .messages import PREFIX, PREFIX_BYTES, MessageReader
from .status import TIMEOUT_FIELD, deadline_exceeded

MESSAGE_BYTES_MAX = (1 << 31) - 1
SETTINGS_SECONDS = 5.0
"""Whoever accepts a connection and says nothing on it for so long is no server, or a stuck one."""
SECRET_FIELDS = frozenset({TIMEOUT_FIELD, "token", "authorization"})
_TIMEOUT_MS_MAX = 99_999_999
_KEEPALIVE_PING = b"alive?\0\0"
_HTTP_CODES = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}


@dataclass(frozen=True)
class Keepalive:
    """When to ask a server that was not heard of for so many seconds (0: never) whether it is
    there, and how long to wait for its answer. ``while_idle``: also while no call is under way,
    for which etcd ends a connection."""

    seconds: float
    timeout: float = 20.0
    while_idle: bool = False


NO_KEEPALIVE = Keepalive(0.0)

UnaryDone = Callable[[bytes | EtcdError, bool], None]
"""Takes the answer or the error, and whether the server may have acted on the request."""


class StreamReceiver(TypingProtocol):
    """Who gets what comes on a stream."""

    def message_received(self, body: bytes) -> None: ...

    def stream_ended(self, error: EtcdError | None, answered: bool) -> None:
        """Nothing follows. ``answered``: the server said so, the connection is not to blame."""


class OutgoingConnection(Protocol):
    """One connection to a server.

    ``on_settled`` is called once, with None when the server has shown that it speaks HTTP/2, or
    with the error that came first; ``on_lost`` once after that, when no new call can be made.
    ``on_room``, where somebody sets it, is called once, when a call may be made again.
    """

    def __init__(
        self,
        clock: IReactorTime,
        authority: str,
        *,
        keepalive: Keepalive = NO_KEEPALIVE,
        scheme: str = "http",
        message_bytes_max: int = MESSAGE_BYTES_MAX,
    ) -> None:
        self.on_settled: Callable[[EtcdError | None], None] = lambda error: None
        self.on_lost: Callable[[], None] = lambda: None
        self.on_room: Callable[[], None] | None = None
        self._clock = clock
        self._authority = authority
        self._scheme = scheme
        self._pings = keepalive
        self.message_bytes_max = message_bytes_max
        self._http2 = ClientConnection(self, SECRET_FIELDS)
        self._calls: dict[int, _Call] = {}
        self._flush_call: IDelayedCall | None = None
        self._keepalive: IDelayedCall | None = None
        self._resting = False  # nothing is asked until there is a call
        self._settling: IDelayedCall | None = None
        self._receiving = False
        self._settled = False
        self._lost = False
        self._last_heard = 0.0
        self.reason = unavailable("connection closed")

    # --- what callers call ----------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether a new call may be made now."""
        return not self._lost and self._http2.can_open

    @property
    def finished(self) -> bool:
        """Whether no new call may be made ever again."""
        return self._lost or self._http2.finished

    def unary(
        self,
        path: str,
        body: bytes,
        metadata: Mapping[str, str],
        timeout_seconds: float | None,
        done: UnaryDone,
    ) -> UnaryOutgoing:
        """Send one request; ``done`` is called once, unless the call is cancelled."""
        call = UnaryOutgoing(self, done)
        self._open(path, metadata, timeout_seconds, call)
        self._send(call, body, end=True)
        call.arm(timeout_seconds)
        return call

    def stream(
        self, path: str, metadata: Mapping[str, str], receiver: StreamReceiver
    ) -> StreamOutgoing:
        call = StreamOutgoing(self, receiver)
        self._open(path, metadata, None, call)
        return call

    def close(self) -> None:
        """End it; calls under way fail."""
        if self.transport is not None:
            self.transport.loseConnection()

    def _open(
        self, path: str, metadata: Mapping[str, str], timeout_seconds: float | None, call: _Call
    ) -> None:
        assert self.usable, "a call on a connection that takes none"
        fields: list[Field] = [
            (":method", "POST"),
            (":scheme", self._scheme),
            (":path", path),
            (":authority", self._authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "etcdtw"),
            *metadata.items(),
        ]
        if timeout_seconds is not None:
            milliseconds = min(max(int(timeout_seconds * 1000), 1), _TIMEOUT_MS_MAX)
            fields.append((TIMEOUT_FIELD, f"{milliseconds}m"))
        call.stream_id = self._http2.open(fields)
        self._calls[call.stream_id] = call
        if self._resting:
            self._resting = False
            self._ping()
        self._flush_soon()

    def _send(self, call: _Call, body: bytes, end: bool) -> None:
        data = PREFIX.pack(0, len(body)) + body
        self._http2.send_data(call.stream_id, (data,), len(body) + PREFIX_BYTES, end=end)
        self._flush_soon()

    def _half_close(self, call: _Call) -> None:
        self._http2.send_data(call.stream_id, (), 0, end=True)
        self._flush_soon()

    def _reset(self, call: _Call) -> None:
        if self._calls.pop(call.stream_id, None) is not None and not self._lost:
            self._http2.reset(call.stream_id, ErrorCode.CANCEL)
            self._flush_soon()

    # --- Twisted calls ---------------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self._last_heard = self._clock.seconds()
        if self._pings.seconds:
            self._keepalive = self._clock.callLater(self._pings.seconds, self._ping)
        self._settling = self._clock.callLater(SETTINGS_SECONDS, self._not_settled)
        self._flush()

    def dataReceived(self, data: bytes) -> None:
        self._last_heard = now = self._clock.seconds()
        self._receiving = True
        try:
            self._http2.receive(data, now)
        finally:
            self._receiving = False
        if not self._settled and self._http2.settings_received:
            self._settle(None)
        self._flush()
        self._tell_lost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        for timer in (self._flush_call, self._keepalive):
            if timer is not None and timer.active():
                timer.cancel()
        if str(self.reason) == str(unavailable("connection closed")):
            self.reason = unavailable(f"connection lost: {reason.getErrorMessage()}")
        calls, self._calls = self._calls, {}
        self._settle(self.reason)
        for call in calls.values():
            call.broken(self.reason, True)
        self._tell_lost()

    def _settle(self, error: EtcdError | None) -> None:
        if not self._settled:
            self._settled = True
            if self._settling is not None and self._settling.active():
                self._settling.cancel()
            self.on_settled(error)

    def _not_settled(self) -> None:
        self._abort("the server accepts connections and does not answer")

    def _abort(self, reason: str) -> None:
        self.reason = unavailable(reason)
        transport: Any = self.transport
        transport.abortConnection()

    def _tell_lost(self) -> None:
        if self.finished:
            told, self.on_lost = self.on_lost, lambda: None
            told()

    def _flush_soon(self) -> None:
        if not self._receiving and self._flush_call is None:
            self._flush_call = self._clock.callLater(0, self._flush_late)

    def _flush_late(self) -> None:
        self._flush_call = None
        self._flush()

    def _flush(self) -> None:
        data = self._http2.take()
        if data and self.transport is not None and not self._lost:
            self.transport.write(data)
        if self._http2.failed or (self._http2.finished and not self._calls):
            self.close()
        if self.on_room is not None and self.usable:
            told, self.on_room = self.on_room, None
            told()

    def _ping(self) -> None:
        """Ask whether the server is there, when it has not been heard of lately."""
        pings = self._pings
        if not self._calls and not pings.while_idle:
            self._resting = True
            return
        delay = self._last_heard + pings.seconds - self._clock.seconds()
        if delay > TIMER_GRAIN_SECONDS:
            self._keepalive = self._clock.callLater(delay, self._ping)
            return
        heard = self._last_heard
        self._http2.ping(_KEEPALIVE_PING)
        self._flush()

        def check() -> None:
            if self._last_heard == heard:
                self._abort("no answer to a keepalive ping")
            else:
                self._keepalive = self._clock.callLater(0, self._ping)

        self._keepalive = self._clock.callLater(pings.timeout, check)

    # --- events of the codec ---------------------------------------------------------------------

    def response_received(self, stream_id: int, headers: Headers, ended: bool) -> None:
        call = self._calls.get(stream_id)
        if call is None:
            return
        if headers.status != 200:
            code = _HTTP_CODES.get(headers.status, Code.UNKNOWN)
            self._end(stream_id)
            call.ended(StatusError(code, f"unexpected HTTP status {headers.status}"))
        elif ended:
            self._end(stream_id)
            call.ended(_status_of(headers.fields))

    def data_received(self, stream_id: int, data: bytes, ended: bool) -> None:
        call = self._calls.get(stream_id)
        if call is None:
            return
        try:
            for message in call.reader.feed(data):
                call.message(message)
                if stream_id not in self._calls:
                    return  # given up on account of this message
        except StatusError as error:
            self._reset(call)
            call.ended(error)
            return
        if ended:
            self._end(stream_id)
            call.ended(StatusError(Code.INTERNAL, "the stream ended without a status"))

    def trailers_received(self, stream_id: int, fields: tuple[Field, ...]) -> None:
        call = self._calls.get(stream_id)
        if call is not None:
            self._end(stream_id)
            call.ended(_status_of(fields))

    def _end(self, stream_id: int) -> None:
        """The server is done with a stream; what we have not sent of it is not wanted."""
        del self._calls[stream_id]
        self._http2.reset(stream_id, ErrorCode.CANCEL)

    def stream_reset(self, stream_id: int, code: int) -> None:
        call = self._calls.pop(stream_id, None)
        if call is not None:
            error = unavailable(f"the stream was reset (error code {code})")
            call.broken(error, code != ErrorCode.REFUSED_STREAM)

    def stream_drained(self, stream_id: int) -> None:
        """What was sent has left; nobody waits for it."""

    def ping_received(self, acknowledged: bool, payload: bytes) -> None:
        """Heard of; that is all that counts."""

    def goaway_received(self, last_stream_id: int, code: int, debug: bytes) -> None:
        text = debug.decode("utf-8", "replace")
        self.reason = unavailable(f"the server goes away (error code {code}) {text}".rstrip())

    def connection_failed(self, error: ProtocolError) -> None:
        self.reason = unavailable(f"the server breaks HTTP/2: {error}")


class _Call:
    """What both kinds of call have in common."""

    stream_id = 0

    def __init__(self, connection: OutgoingConnection) -> None:
        self._connection = connection
        self.reader = MessageReader(connection.message_bytes_max, gzip=False)

    def message(self, body: bytes) -> None:
        """A whole message came."""
        raise NotImplementedError

    def ended(self, error: EtcdError | None) -> None:
        """The server ended the call."""
        raise NotImplementedError

    def broken(self, error: EtcdError, maybe_done: bool) -> None:
        """The call ended without a word of the server; ``maybe_done``: it may have been carried
        out."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        self._connection._reset(self)


class UnaryOutgoing(_Call):
    """A request under way."""

    def __init__(self, connection: OutgoingConnection, done: UnaryDone) -> None:
        super().__init__(connection)
        self._done = done
        self._body: bytes | None = None
        self._timer: IDelayedCall | None = None

    def arm(self, timeout_seconds: float | None) -> None:
        """Give up after so long."""
        if timeout_seconds is not None:
            self._timer = self._connection._clock.callLater(timeout_seconds, self._late)

    def message(self, body: bytes) -> None:
        self._body = body

    def ended(self, error: EtcdError | None) -> None:
        self._disarm()
        if error is not None:
            self._done(error, True)
        elif self._body is None:
            self._done(StatusError(Code.INTERNAL, "the server answered nothing"), True)
        else:
            self._done(self._body, True)

    def broken(self, error: EtcdError, maybe_done: bool) -> None:
        self._disarm()
        self._done(error, maybe_done)

    def cancel(self) -> None:
        self._disarm()
        super().cancel()

    def _late(self) -> None:
        super().cancel()
        self._done(deadline_exceeded(), True)

    def _disarm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


class StreamOutgoing(_Call):
    """A stream under way."""

    def __init__(self, connection: OutgoingConnection, receiver: StreamReceiver) -> None:
        super().__init__(connection)
        self._receiver = receiver

    def send(self, body: bytes) -> None:
        """Send a message; nothing happens when the stream has ended."""
        if self.stream_id in self._connection._calls:
            self._connection._send(self, body, end=False)

    def half_close(self) -> None:
        """Send no more messages."""
        if self.stream_id in self._connection._calls:
            self._connection._half_close(self)

    def message(self, body: bytes) -> None:
        self._receiver.message_received(body)

    def ended(self, error: EtcdError | None) -> None:
        self._receiver.stream_ended(error, True)

    def broken(self, error: EtcdError, maybe_done: bool) -> None:
        self._receiver.stream_ended(error, False)


def unavailable(text: str) -> EtcdError:
    return StatusError(Code.UNAVAILABLE, text)


def _status_of(fields: tuple[Field, ...]) -> EtcdError | None:
    status = dict(fields)
    try:
        code = Code(int(status.get("grpc-status", "")))
    except ValueError:
        return StatusError(Code.UNKNOWN, f"unknown gRPC status {status.get('grpc-status')!r}")
    if code is Code.OK:
        return None
    return known_error(code, unquote(status.get("grpc-message", "")))
