"""The JSON gateway: etcd's gRPC calls as HTTP requests with JSON bodies."""

from __future__ import annotations

from itertools import islice

from twisted.internet.interfaces import IReactorTime

from etcdtw.api.gateway.answers import error_answer
from etcdtw.api.gateway.decoding import BadJson, decode_json, json_values
from etcdtw.api.gateway.exchanges import Flushing, StreamExchange, UnaryExchange
from etcdtw.api.gateway.routes import Route, find_routes
from etcdtw.api.http.requests import HttpRequest, plain_error
from etcdtw.errors import Code, EtcdError, StatusError, Stopped
from etcdtw.rpc import Router
from etcdtw.rpc.local import LocalStream, LocalUnary
from etcdtw.rpc.port import peer_text
from etcdtw.rpc.status import deadline_exceeded, parse_timeout
from etcdtw.rpc.timed import TimedLocalStream, TimedLocalUnary

_METADATA_PREFIX = b"grpc-metadata-"
_TIMEOUT = b"grpc-timeout"
STREAMS_MAX = (1 << 32) - 1


class Gateway:
    """Everything below ``/v3/``.

    Requests are POSTed; ``Grpc-Timeout`` bounds a call, ``Authorization`` carries its token and
    ``Grpc-Metadata-<name>`` other metadata. Streams answer a line per message, and take as many
    messages as the request's body holds.
    """

    def __init__(
        self,
        router: Router,
        flusher: Flushing,
        clock: IReactorTime,
        message_bytes_max: int,
        streams_max: int = STREAMS_MAX,
    ) -> None:
        """etcd's gateway is a client on one connection, whose bound for streams therefore holds
        for all its requests together: while ``streams_max`` are open, requests wait."""
        self._streams_max = streams_max
        self._waiting: dict[HttpRequest, Route] = {}
        self._routes = find_routes(router)
        timed = router.seconds is not None
        self._make_unary = TimedLocalUnary if timed else LocalUnary
        self._make_stream = TimedLocalStream if timed else LocalStream
        self._flusher = flusher
        self._clock = clock
        self._message_bytes_max = message_bytes_max
        self._streams: dict[LocalStream, None] = {}
        self._unary: dict[LocalUnary, None] = {}

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        route = self._routes.get(path)
        if route is None:
            return plain_error(request, 404, "Not Found")
        if request.method != b"POST":
            return plain_error(request, 405, "Method Not Allowed")
        if len(self._streams) >= self._streams_max:
            self._wait(request, route)
            return None
        try:
            self._call(request, route)
        except EtcdError as error:
            return error_answer(request, error)
        return None

    def _wait(self, request: HttpRequest, route: Route) -> None:
        self._waiting[request] = route
        request.notifyFinish().addErrback(lambda _: self._waiting.pop(request, None))

    def _let_in(self) -> None:
        while self._waiting and len(self._streams) < self._streams_max:
            request = next(iter(self._waiting))
            route = self._waiting.pop(request)
            try:
                self._call(request, route)
            except EtcdError as error:
                request.write(error_answer(request, error))
                request.finish()

    def stop(self) -> None:
        """End all streams: the member stops."""
        for stream in list(self._streams):
            stream.fail(Stopped())

    def end_calls(self, error: EtcdError) -> None:
        """End all calls but lasting ones."""
        calls: list[LocalUnary | LocalStream] = [*self._unary, *self._streams]
        for call in calls:
            if not call.method.lasting:
                call.expire(error)

    def _call(self, request: HttpRequest, route: Route) -> None:
        timeout = _timeout(request)
        content = request.content
        body = b"" if content is None else content.read()
        if route.method.stream_handler is None:
            self._call_unary(request, route, body, timeout)
        else:
            self._call_stream(request, route, body, timeout)

    def _call_unary(
        self, request: HttpRequest, route: Route, body: bytes, timeout: float | None
    ) -> None:
        try:
            message = decode_json(route.request_class, next(json_values(body), None))
        except BadJson as error:
            raise StatusError(Code.INVALID_ARGUMENT, str(error)) from None
        exchange = UnaryExchange(request, route.response_class)
        peer = peer_text(request.getClientAddress())
        call = self._make_unary(route.method, _metadata(request), peer, exchange.answered)
        call.start(message.SerializeToString(), self._message_bytes_max)
        if not exchange.is_over:
            self._watch_over(request, exchange, call, timeout)

    def _call_stream(
        self, request: HttpRequest, route: Route, body: bytes, timeout: float | None
    ) -> None:
        values = json_values(body)
        try:
            first = [decode_json(route.request_class, value) for value in islice(values, 1)]
        except BadJson as error:
            raise StatusError(Code.UNKNOWN, str(error)) from None
        if not first and not route.takes_stream:
            first = [route.request_class()]
        exchange = StreamExchange(request, route.response_class, self._flusher)
        peer = peer_text(request.getClientAddress())
        call = self._make_stream(route.method, _metadata(request), peer, exchange)
        self._streams[call] = None
        exchange.on_room = lambda: _tell_writable(call)
        self._watch_over(request, exchange, call, timeout)
        call.start()
        for message in first:
            call.receive(message.SerializeToString())
        try:
            for value in values:
                call.receive(decode_json(route.request_class, value).SerializeToString())
        except BadJson:
            pass  # etcd's gateway stops reading there, and the call goes on
        call.half_close()

    def _watch_over(
        self,
        request: HttpRequest,
        exchange: UnaryExchange | StreamExchange,
        call: LocalUnary | LocalStream,
        timeout: float | None,
    ) -> None:
        """End the call when its client leaves or its time is up."""
        if isinstance(call, LocalUnary):
            self._unary[call] = None
        timer = None
        if timeout is not None:
            timer = self._clock.callLater(timeout, lambda: call.expire(deadline_exceeded()))

        def finished(reason: object) -> None:
            if timer is not None and timer.active():
                timer.cancel()
            if isinstance(call, LocalUnary):
                del self._unary[call]
            else:
                self._streams.pop(call, None)
            if reason is not None:
                exchange.abandoned()
                call.cancelled()
            self._let_in()

        request.notifyFinish().addBoth(finished)


def _tell_writable(call: LocalStream) -> None:
    if not call.done and call.on_writable is not None:
        call.on_writable()


def _timeout(request: HttpRequest) -> float | None:
    header = request.getHeader(_TIMEOUT)
    if header is None:
        return None
    text = header.decode("latin-1")
    try:
        return parse_timeout(text)
    except ValueError:
        raise StatusError(Code.INVALID_ARGUMENT, f"invalid grpc-timeout: {text}") from None


def _metadata(request: HttpRequest) -> dict[str, str]:
    """What HTTP headers say to gRPC handlers."""
    found: dict[str, str] = {}
    for name, value in request.all_headers():
        if name == b"authorization":
            found["authorization"] = value.decode("latin-1")
        elif name.startswith(_METADATA_PREFIX):
            found[name[len(_METADATA_PREFIX) :].decode("latin-1")] = value.decode("latin-1")
    return found
