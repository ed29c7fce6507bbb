"""gRPC over one HTTP/2 connection: a thin shell around the codec on a Twisted transport."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from google.protobuf.message import DecodeError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from etcdtw.errors import Code, EtcdError, NoLeader, ProtocolError, StatusError, Stopped
from etcdtw.http2.frames import ErrorCode
from etcdtw.http2.header_table import Field
from etcdtw.http2.message import Headers
from etcdtw.http2.server import ServerConnection

from .call import MESSAGES_AT_ONCE, Call, StreamCall, Target, UnaryCall, UnaryRequest
from .flusher import Flusher
from .keepalive import TIMER_GRAIN_SECONDS, PingStrikes
from .messages import BAD_UNARY_MESSAGE, PREFIX, MessageReader
from .output import Output
from .pages import OpenPage, PageStream
from .router import Router
from .settings import ServerSettings
from .status import (
    OK_TRAILERS,
    RESPONSE_HEADERS,
    TIMEOUT_FIELD,
    deadline_exceeded,
    parse_timeout,
)
from .targets import Refusal, find_target
from .timed import TimedStream, TimedUnary
from .transport import Transport

TURN_BYTES = 4096  # that came; with more, the time is looked at after each so many
TURN_SECONDS = 0.005  # for what came on one connection, then others get their turn
UNSENT_BYTES_MAX = 256 * 1024  # streams should wait once a turn has produced more than this
HELD_REQUESTS_MAX = 10_000  # while the client does not take its answers
HELD_REQUEST_BYTES_MAX = 16 * 1024 * 1024  # of their messages
DEADLINE_SWEEP_SECONDS = 0.1
DRAIN_NOTICE_SECONDS = 1.0
CLOSE_SECONDS = 5.0  # for the last bytes to leave, then the connection is cut
_DRAIN_PING = b"draining"
_IDLE_PING = b"are you?"

log = Logger(namespace="etcdtw.rpc")


class RpcConnection:
    """Serves one client. ``dataReceived`` and ``connectionLost`` are called as a protocol's."""

    __slots__ = (
        "_answer_bytes_max", "_at_once_bytes", "_attention", "_clock", "_closing", "_draining",
        "_flusher", "_held_request_bytes", "_held_requests", "_holding", "_lost", "_make_stream",
        "_make_unary", "_now", "_open_page", "_output", "_partial_bytes_max", "_router",
        "_settings", "_stalled", "_strikes", "_timers", "_unread", "calls", "dirty", "http2",
        "message_bytes_max", "partial_bytes", "peer", "transport", "undelivered", "unsent_bytes",
    )  # fmt: skip

    def __init__(
        self,
        transport: Transport,
        peer: str,
        router: Router,
        settings: ServerSettings,
        clock: IReactorTime,
        flusher: Flusher,
        open_page: OpenPage | None = None,
    ) -> None:
        """``open_page`` takes requests that are not gRPC, which are refused without it."""
        self.transport = transport
        self.peer = peer
        self.calls: dict[int, Call] = {}
        self.dirty = False
        self.unsent_bytes = 0  # of streams, since the last write
        self.partial_bytes = 0  # of incomplete requests
        self._router = router
        timed = router.seconds is not None
        self._make_unary = TimedUnary if timed else UnaryCall
        self._make_stream = TimedStream if timed else StreamCall
        self._open_page = open_page
        self._settings = settings
        self.message_bytes_max = settings.max_receive_bytes
        # One message as large as is allowed may arrive in pieces, however large that is.
        self._partial_bytes_max = max(settings.partial_request_bytes, settings.max_receive_bytes)
        self._answer_bytes_max = settings.queued_answer_bytes
        self._clock = clock
        self._flusher = flusher
        self._now = clock.seconds()
        self.http2 = ServerConnection(
            self,
            varying_field=TIMEOUT_FIELD,
            ok_headers=RESPONSE_HEADERS,
            ok_trailers=OK_TRAILERS,
            concurrent_streams_max=settings.max_concurrent_streams,
        )
        self._strikes = PingStrikes(settings.keepalive_min_time)
        self._output = Output(transport, settings.queued_answer_bytes, self._look_after)
        self._held_requests: deque[tuple[int, int, Callable[[], None]]] = deque()
        self._held_request_bytes = 0
        self._stalled: dict[StreamCall | PageStream, None] = {}
        # Too much waits for the client: new requests wait as well.
        self._holding = False
        self._draining = False
        self._closing = False
        self._lost = False
        # What came and waits for its turn; nothing that comes behind it may be handled at once.
        self._unread = b""
        self.undelivered: deque[tuple[StreamCall, list[bytes], bool]] = deque()
        self._at_once_bytes = TURN_BYTES
        # Whether the end of a flush has more to look after than writing.
        self._attention = False
        self._timers: dict[str, IDelayedCall] = {}
        self._later("handshake", settings.handshake_timeout, self._handshake_is_late)
        self._later("idle", settings.keepalive_interval, self._check_idle)
        self.flush()

    # --- Twisted calls ------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        if len(data) > self._at_once_bytes:
            self._unread += data
            # Zero: the rest of what came before waits.
            if self._at_once_bytes:
                self._take_turn()
            return
        flusher = self._flusher
        flusher.held = self.dirty = True
        self._now = now = self._clock.seconds()
        http2 = self.http2
        try:
            http2.receive(data, now)
        finally:
            # Others may wait for what a request that breaks has led to.
            flusher.held = False
            if flusher.waiting:
                flusher.flush()
        if http2.out or self._attention or http2.blocked_bytes > self._answer_bytes_max:
            self.flush()
        else:
            self.dirty = False
            self.unsent_bytes = 0

    def connectionLost(self, reason: Failure) -> None:
        self._closing = self._lost = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._unread = b""
        self.undelivered.clear()
        self._held_requests.clear()
        self._stalled.clear()
        calls = list(self.calls.values())
        self.calls.clear()
        for call in calls:
            call.cancelled()

    # --- Turns --------------------------------------------------------------------------------

    def deliver_later(self, call: StreamCall, messages: list[bytes], ended: bool) -> None:
        """Messages of a stream, too many for one turn or behind such."""
        for at in range(0, len(messages), MESSAGES_AT_ONCE):
            last = at + MESSAGES_AT_ONCE >= len(messages)
            part = messages[at : at + MESSAGES_AT_ONCE]
            self.undelivered.append((call, part, ended and last))
        self._wait_for_turn()

    def _take_turn(self) -> None:
        """One read may hold thousands of requests: handle some, the rest when others had theirs."""
        flusher = self._flusher
        data = self._unread
        at = 0
        now = self._clock.seconds()
        until = now + TURN_SECONDS
        flusher.held = self.dirty = True
        try:
            while now <= until and not self._lost:
                if self.undelivered:
                    call, messages, ended = self.undelivered.popleft()
                    call.deliver(messages, ended)
                elif at < len(data):
                    self._now = now
                    self.http2.receive(data[at : at + TURN_BYTES], now)
                    at += TURN_BYTES
                else:
                    break
                now = self._clock.seconds()
        finally:
            flusher.release()
        self._unread = data[at:]
        if self._lost:
            return
        if self._unread or self.undelivered:
            self._wait_for_turn()
        elif not self._at_once_bytes:
            self._at_once_bytes = TURN_BYTES
            self._output.let_read(True)
        self.flush()

    def _wait_for_turn(self) -> None:
        self._later("turn", 0, self._take_next_turn)
        if self._at_once_bytes:
            self._at_once_bytes = 0
            self._output.let_read(False)

    def _take_next_turn(self) -> None:
        try:
            self._take_turn()
        except Exception:
            # What the reactor does where it has brought the data itself.
            log.failure("a connection is cut for what it received")
            self.abort()

    # --- Output -------------------------------------------------------------------------------

    def mark_dirty(self) -> None:
        """There is output to write."""
        if not self.dirty:
            self.dirty = True
            self._flusher.add(self)

    def flush(self) -> None:
        """Write what is queued, at once."""
        self.dirty = False
        if self._lost:
            return
        http2 = self.http2
        if http2.is_large:
            self._output.write_pieces(http2.take_pieces())
        elif data := http2.take():
            self._output.write(data)
        # What windows hold back is not among that, and not unsent: others need not wait for it.
        self.unsent_bytes = 0
        if self._attention or http2.blocked_bytes > self._answer_bytes_max:
            self._look_after()

    def congested(self) -> bool:
        """Whether streams should wait before they send more."""
        return self._output.paused or self.unsent_bytes > UNSENT_BYTES_MAX

    def stalled(self, call: StreamCall | PageStream) -> None:
        """Tell this call when it may send again."""
        self._stalled[call] = None
        if self.congested():
            self._attention = True
            self.mark_dirty()

    def _look_after(self) -> None:
        """What is rarely due: closing, streams that wait, requests that wait."""
        http2 = self.http2
        if http2.failed or (
            self._draining and not http2.open_streams and not self._output.held_bytes
        ):
            self._close()
            return
        self._attention = self._draining
        if self._stalled:
            if self.congested():
                self._attention = True
            else:
                self._later("wake", 0, self._wake_streams)
        self._holding = bool(self._held_requests) or self._is_overfull()
        if self._holding:
            self._attention = True
            if not self._is_overfull():
                self._later("held", 0, self._run_held_requests)

    def _is_overfull(self) -> bool:
        """Whether more waits for this client than it is allowed to let wait."""
        queued = self.unsent_bytes + self._output.held_bytes + self.http2.blocked_bytes
        return queued > self._answer_bytes_max

    def _wake_streams(self) -> None:
        for call in list(self._stalled):
            if self.congested():
                self._attention = True
                self.mark_dirty()
                return
            if not call.queued_bytes:
                del self._stalled[call]
                if not call.done and call.on_writable is not None:
                    call.on_writable()

    def _close(self) -> None:
        if not self._closing:
            self._closing = True
            self._output.close()
            self._later("close", CLOSE_SECONDS, self.transport.abortConnection)

    # --- Timers -------------------------------------------------------------------------------

    def _later(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        """Do this once; a second wish for the same changes nothing."""
        if name not in self._timers:

            def act() -> None:
                del self._timers[name]
                action()

            self._timers[name] = self._clock.callLater(seconds, act)

    def _handshake_is_late(self) -> None:
        if not self.http2.settings_received:
            self.transport.abortConnection()

    def _check_idle(self) -> None:
        interval = self._settings.keepalive_interval
        left = self._now + interval - self._clock.seconds()
        if left > TIMER_GRAIN_SECONDS:
            self._later("idle", left, self._check_idle)
            return
        self.http2.ping(_IDLE_PING)
        self.mark_dirty()
        seen = self._now

        def check_answer() -> None:
            if self._now == seen:
                self.transport.abortConnection()
            else:
                self._check_idle()

        self._later("idle", self._settings.keepalive_timeout, check_answer)

    def _sweep_deadlines(self) -> None:
        now = self._clock.seconds()
        left = False
        for call in list(self.calls.values()):
            if call.deadline is None:
                continue
            if call.deadline <= now:
                call.expire(deadline_exceeded())
            else:
                left = True
        if left:
            self._later("deadlines", DEADLINE_SWEEP_SECONDS, self._sweep_deadlines)

    # --- Requests -----------------------------------------------------------------------------

    def request_received(
        self, stream_id: int, headers: Headers, varying: str | None, message: bytes
    ) -> None:
        """A request in one piece; nearly all unary ones are."""
        target = headers.note
        if (
            type(target) is not Target
            or target.method.unary_handler is None
            or len(message) > self.message_bytes_max
        ):
            self.headers_received(stream_id, headers, varying, False)
            self.data_received(stream_id, PREFIX.pack(0, len(message)) + message, True)
            return
        deadline = None
        if varying is not None:
            try:
                deadline = self._now + parse_timeout(varying)
            except ValueError:
                self.http2.reset(stream_id, ErrorCode.PROTOCOL_ERROR)  # as grpc-go does
                return
        self._start_unary(stream_id, target, deadline, message)

    def headers_received(
        self, stream_id: int, headers: Headers, varying: str | None, ended: bool
    ) -> None:
        """A request that comes in pieces, or a stream."""
        target = headers.note
        if target is None:
            target = headers.note = find_target(self._router, headers)
        if isinstance(target, Refusal):
            if target.is_page and self._open_page is not None:
                page = self.calls[stream_id] = PageStream(self, stream_id)
                page.receiver = self._open_page(page, headers)
                if ended:
                    page.data_received(b"", True)
                return
            self.http2.send_headers(stream_id, target.fields, end=True)
            return
        assert isinstance(target, Target), f"headers with a foreign note: {target!r}"
        deadline = None
        if varying is not None:
            try:
                deadline = self._now + parse_timeout(varying)
            except ValueError:
                self.http2.reset(stream_id, ErrorCode.PROTOCOL_ERROR)  # as grpc-go does
                return
            self._later("deadlines", DEADLINE_SWEEP_SECONDS, self._sweep_deadlines)
        if target.method.stream_handler is None:
            self.calls[stream_id] = UnaryRequest(self, stream_id, target, deadline)
        else:
            target.clients.count += 1
            reader = MessageReader(self.message_bytes_max, target.gzip)
            self._start_stream(self._make_stream(self, stream_id, target, deadline, reader))
        if ended:
            self.data_received(stream_id, b"", True)

    def data_received(self, stream_id: int, data: bytes, ended: bool) -> None:
        call = self.calls.get(stream_id)
        if call is None:
            return  # already answered
        call.data_received(data, ended)
        if self.partial_bytes > self._partial_bytes_max:
            call = self.calls.get(stream_id)
            if call is not None:
                text = "grpc: too many bytes of incomplete messages on one connection"
                call.fail(StatusError(Code.RESOURCE_EXHAUSTED, text))

    def trailers_received(self, stream_id: int, fields: tuple[Field, ...]) -> None:
        self.data_received(stream_id, b"", True)

    def unary_received(self, request: UnaryRequest, message: bytes) -> None:
        """A request that came in pieces is complete."""
        self._start_unary(request.stream_id, request.target, request.deadline, message)

    def _start_unary(
        self, stream_id: int, target: Target, deadline: float | None, message: bytes
    ) -> None:
        if self._holding or self.unsent_bytes > self._answer_bytes_max:
            self._hold(stream_id, target, deadline, message)
            return
        method = target.method
        method.started += 1
        method.received_bytes += len(message)
        target.clients.count += 1
        call = self._make_unary(self, stream_id, target, deadline)
        if deadline is not None and deadline <= self._now:
            call.expire(deadline_exceeded())
            return
        if target.needs_leader and not self._router.has_leader():
            call.fail(NoLeader())
            return
        try:
            method.unary_handler(call, message)  # type: ignore[misc]  # checked by the caller
        except EtcdError as error:
            call.fail(error)
        except DecodeError:
            call.fail(StatusError(Code.INTERNAL, BAD_UNARY_MESSAGE))
        if not call.done:
            self.calls[stream_id] = call
            if deadline is not None:
                self._later("deadlines", DEADLINE_SWEEP_SECONDS, self._sweep_deadlines)

    def _start_stream(self, call: StreamCall) -> None:
        method = call.method
        method.started += 1
        self.calls[call.stream_id] = call
        assert method.stream_handler is not None, f"{method.path} is no streaming method"
        try:
            method.stream_handler(call)
        except EtcdError as error:
            call.finish(error)

    def _hold(self, stream_id: int, target: Target, deadline: float | None, message: bytes) -> None:
        """Keep a request until the client has taken more of its answers."""
        size = len(message)
        if len(self._held_requests) >= HELD_REQUESTS_MAX or (
            self._held_requests and self._held_request_bytes + size > HELD_REQUEST_BYTES_MAX
        ):
            self.http2.reset(stream_id, ErrorCode.REFUSED_STREAM)
            return
        self._holding = self._attention = True

        def start() -> None:
            self._start_unary(stream_id, target, deadline, message)

        self._held_requests.append((stream_id, size, start))
        self._held_request_bytes += size

    def _run_held_requests(self) -> None:
        self._holding = False
        while self._held_requests and not self._is_overfull():
            stream_id, size, start = self._held_requests.popleft()
            self._held_request_bytes -= size
            if self.http2.is_open(stream_id):
                start()
        self._attention = True
        self.mark_dirty()

    # --- Events of the codec ------------------------------------------------------------------

    def stream_reset(self, stream_id: int, code: int) -> None:
        self.stream_drained(stream_id)  # nothing of it waits any more
        call = self.calls.pop(stream_id, None)
        if call is not None:
            call.cancelled()

    def stream_drained(self, stream_id: int) -> None:
        if self._stalled:
            self._attention = True

    def ping_received(self, acknowledged: bool, payload: bytes) -> None:
        http2 = self.http2
        if acknowledged:
            if payload == _DRAIN_PING:
                self._refuse_streams()
            return
        if self._strikes.too_many(self._now, http2.open_streams, http2.sent_content):
            http2.fail(ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings"))
        http2.sent_content = False

    def goaway_received(self, last_stream_id: int, code: int, debug: bytes) -> None:
        """A client that goes away finishes its calls and closes."""

    def connection_failed(self, error: ProtocolError) -> None:
        self._attention = True

    # --- The end ------------------------------------------------------------------------------

    def abort(self) -> None:
        """Cut the connection; what was not written yet never is."""
        self._lost = True
        self.transport.abortConnection()

    def end_calls(self, error: EtcdError) -> None:
        """End all calls but lasting ones, the connection stays."""
        for call in list(self.calls.values()):
            if isinstance(call, StreamCall | UnaryCall) and not call.method.lasting:
                call.expire(error)
        self.flush()

    def drain(self) -> None:
        """Stop serving: streams end now, unary calls get their answers, then it closes."""
        if self._closing or "cut" in self._timers:
            return
        self._later("cut", self._settings.drain_timeout, self.transport.abortConnection)
        self.http2.announce_drain()
        self.http2.ping(_DRAIN_PING)
        for call in list(self.calls.values()):
            if isinstance(call, StreamCall):
                call.fail(Stopped())
        self._later("drain", DRAIN_NOTICE_SECONDS, self._refuse_streams)
        self.flush()

    def _refuse_streams(self) -> None:
        if not self._draining:
            self._draining = self._attention = True
            self.http2.drain()
            self.mark_dirty()
