"""Which handler serves a path, and what was counted about it."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from functools import partial
from typing import Literal

from etcdtw.counting import Histogram
from etcdtw.errors import Code, EtcdError, StatusError, Unimplemented

from .call import StreamCall, UnaryCall

UnaryHandler = Callable[[UnaryCall, bytes], None]
StreamHandler = Callable[[StreamCall], None]
CLIENT_VERSIONS_MAX = 64
"""Versions that are told apart; clients choose the word, and must not fill our memory."""
CLIENT_VERSION_LENGTH_MAX = 32
UNKNOWN_VERSION = "unknown"
HANDLING_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
Kind = Literal["unary", "client_stream", "server_stream", "bidi_stream"]


class Tally:
    """Counts requests of one kind."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class CallTimes:
    """How long calls of a method took, on the clock ``seconds``."""

    __slots__ = ("histogram", "seconds")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self.histogram = Histogram(HANDLING_BOUNDS)


class Method:
    """One method and its counters, which whoever shows metrics reads when asked.

    ``handled`` counts ended calls by gRPC code, ``received`` and ``sent`` messages of streams;
    bytes are those of messages without framing; ``clients`` counts those of no known version.
    ``times`` is None where nobody asked for them.
    Calls of a ``lasting`` method go on when another life of the member takes the router over.
    """

    __slots__ = (
        "clients",
        "handled",
        "kind",
        "lasting",
        "name",
        "path",
        "received",
        "received_bytes",
        "sent",
        "sent_bytes",
        "service",
        "started",
        "stream_handler",
        "times",
        "unary_handler",
    )

    def __init__(
        self,
        path: str,
        kind: Kind,
        unary_handler: UnaryHandler | None,
        stream_handler: StreamHandler | None,
        lasting: bool = False,
    ) -> None:
        self.path = path
        self.service, _, self.name = path.removeprefix("/").rpartition("/")
        self.kind = kind
        self.lasting = lasting
        self.unary_handler = unary_handler
        self.stream_handler = stream_handler
        self.started = 0
        self.clients = Tally()
        self.handled = [0] * len(Code)
        self.received = self.sent = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.times: CallTimes | None = None


class Router:
    """The methods of a server by path, ``/package.Service/Method``."""

    def __init__(self, seconds: Callable[[], float] | None = None) -> None:
        """``seconds`` is a clock to tell how long calls take, None where nobody wants to know."""
        self.seconds = seconds
        self.has_leader: Callable[[], bool] = lambda: True
        """Asked for unary calls of clients that want no answer from a member without a leader."""
        self._methods: dict[str, Method] = {}
        self._old: dict[str, Method] = {}
        self._services: set[str] = set()
        self.requests: dict[tuple[str, str], Tally] = {}
        """By type (unary or stream) and version of the client, as it says itself."""
        self._closed: list[tuple[Method, UnaryHandler | None, StreamHandler | None]] = []

    def add_unary(self, path: str, handler: UnaryHandler) -> None:
        """Serve a method with one request and one answer. ``handler`` takes the call and the
        request's bytes; it answers at once or later, or raises EtcdError."""
        self._add(Method(path, "unary", handler, None))

    def add_stream(
        self,
        path: str,
        handler: StreamHandler,
        kind: Kind = "bidi_stream",
        *,
        lasting: bool = False,
    ) -> None:
        """Serve a streaming method. ``handler`` takes the call when it begins and sets the
        call's callbacks; messages come through them. Where the kind has one request, no second
        one comes, and a call without any ends."""
        if kind == "server_stream":
            handler = _with_one_request(handler)
        self._add(Method(path, kind, None, handler, lasting))

    def methods(self) -> Iterator[Method]:
        """All methods with their counters."""
        return iter(self._methods.values())

    def clients(self, version: str, kind: Kind) -> Tally:
        """Where requests of such clients are counted."""
        key = ("unary" if kind == "unary" else "stream", version[:CLIENT_VERSION_LENGTH_MAX])
        found = self.requests.get(key)
        if found is None:
            if len(self.requests) >= CLIENT_VERSIONS_MAX:
                key = (key[0], "other")
            found = self.requests.setdefault(key, Tally())
        return found

    def find(self, path: str) -> Method | EtcdError:
        """The method at a path, or the refusal that grpc-go gives for it."""
        method = self._methods.get(path)
        if method is not None:
            return method
        service, slash, name = path.removeprefix("/").rpartition("/")
        if not slash:
            return StatusError(Code.RESOURCE_EXHAUSTED, f'malformed method name: "{path}"')
        if service in self._services:
            return Unimplemented(f"unknown method {name} for service {service}")
        return Unimplemented(f"unknown service {service}")

    def close(self, error: EtcdError, open_services: Container[str]) -> None:
        """Refuse calls to all but these services from now on, streams under way go on."""
        self.reopen()

        def refuse_unary(call: UnaryCall, body: bytes) -> None:
            raise error

        def refuse_stream(call: StreamCall) -> None:
            raise error

        # In place, for connections remember methods.
        for method in self._methods.values():
            if method.service not in open_services:
                self._closed.append((method, method.unary_handler, method.stream_handler))
                if method.unary_handler is not None:
                    method.unary_handler = refuse_unary
                else:
                    method.stream_handler = refuse_stream

    def reopen(self) -> None:
        """Serve again what was closed."""
        for method, unary_handler, stream_handler in self._closed:
            method.unary_handler = unary_handler
            method.stream_handler = stream_handler
        self._closed.clear()

    def begin_again(self) -> None:
        """All methods are to be added once more, by handlers that take the place of those there
        are; counters and connections stay."""
        self._closed.clear()
        self._old = self._methods
        self._methods = {}

    def _add(self, method: Method) -> None:
        assert method.service and method.name, f"{method.path!r} is no gRPC path"
        assert method.path not in self._methods, f"{method.path} is served twice"
        old = self._old.pop(method.path, None)
        if old is not None:
            # In place, for connections remember methods.
            old.unary_handler = method.unary_handler
            old.stream_handler = method.stream_handler
            method = old
        elif self.seconds is not None:
            method.times = CallTimes(self.seconds)
        method.clients = self.clients(UNKNOWN_VERSION, method.kind)
        self._methods[method.path] = method
        self._services.add(method.service)


def _with_one_request(handler: StreamHandler) -> StreamHandler:
    def begin(call: StreamCall) -> None:
        handler(call)
        if not call.done:
            call.on_message = partial(_only_request, call, call.on_message)
            call.on_half_close = lambda: call.finish(StatusError(Code.UNKNOWN, "EOF"))

    return begin


def _only_request(call: StreamCall, received: Callable[[bytes], None] | None, body: bytes) -> None:
    call.on_message = call.on_half_close = None
    if received is not None:
        received(body)
