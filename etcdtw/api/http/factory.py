"""HTTP/1.1 on a port, by ``twisted.web``'s channel."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from etcdtw.api.http.quick import Head, QuickChannel
from etcdtw.api.http.requests import FIELD, HOST, HttpRequest, answer
from etcdtw.api.http.site import Site
from etcdtw.api.http.streams import Http2Request
from etcdtw.http2.message import Headers
from etcdtw.rpc.pages import PageStream
from etcdtw.tls.direct import DirectWriter

IDLE_SECONDS = 60.0
"""How long a connection may keep us waiting for the next bytes of a request."""

TURN_SECONDS = 0.005
"""For requests that came together on one connection, then others get their turn."""

BODY_BYTES_MAX = 64 << 20
"""The largest request body that is read. The gateway refuses messages much sooner."""

_NOT_ASCII = re.compile(rb"[^\x00-\x7f]")
_TOO_LARGE = (
    b"HTTP/1.1 413 Request Entity Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


log = Logger(namespace="etcdtw.http")


class RoutedRequest(Request):
    """A request that the site of its factory answers."""

    is_upload = False
    comes_soon = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Bodies are what they are, whatever their type says. Twisted sets this for each request.
        self._parsePOSTFormSubmission = False

    def gotLength(self, length: int | None) -> None:
        factory: HttpFactory = self.channel.factory
        uploaded = factory.uploads.get(getattr(self.channel, "_path", b""))
        if uploaded is not None:
            self.is_upload = True
            self.content = uploaded()
            self.notifyFinish().addErrback(lambda _: self._abandon())
            return
        # In memory: its size is bounded, and the reactor must not wait for a disk.
        self.content = BytesIO()
        if length is not None:
            self._check(length)

    def handleContentChunk(self, data: bytes) -> None:
        assert self.content is not None, "a body came before its headers"
        if not self.is_upload:
            self._check(self.content.tell() + len(data))
        self.content.write(data)

    def stream_writer(self) -> Callable[[bytes], None]:
        """Writes pieces of a body that was begun without a length, each at once where the socket
        takes it, not only when the reactor has gone round."""
        transport: Any = self.channel.transport
        write = DirectWriter(transport).write
        return lambda data: write(b"%x\r\n%b\r\n" % (len(data), data))

    def cut(self) -> None:
        self.channel.loseConnection()

    @property
    def is_gone(self) -> bool:
        return self._disconnected

    def _abandon(self) -> None:
        """The sender is gone before its answer: what it sent is not wanted."""
        discard = getattr(self.content, "discard", None)
        if discard is not None:
            discard()

    def _check(self, size: int) -> None:
        channel: Any = self.channel
        if size > channel.factory.body_bytes_max and not channel.transport.disconnecting:
            channel.transport.write(_TOO_LARGE)
            channel.loseConnection()

    def all_headers(self) -> Iterator[tuple[bytes, bytes]]:
        for name, values in self.requestHeaders.getAllRawHeaders():
            yield name.lower(), values[0]

    def process(self) -> None:
        fault = self._host_fault()
        if fault:
            request: HttpRequest = self
            self.channel.persistent = False
            request.setHeader(b"connection", b"close")
            text = b"400 Bad Request: " + fault
            request.write(answer(request, 400, text, b"text/plain; charset=utf-8"))
            request.finish()
            return
        if self.uri.startswith((b"http://", b"https://")):
            # The form for proxies, which servers must understand too (RFC 9112 section 3.2.2).
            self.uri = b"/" + [*self.uri.split(b"/", 3), b""][3]
            self.path = self.uri.partition(b"?")[0]
        factory: HttpFactory = self.channel.factory
        factory.site.serve(self)

    def _host_fault(self) -> bytes:
        """What is wrong with the request's host, in the words of net/http."""
        hosts = self.requestHeaders.getRawHeaders(b"host", [])
        if len(hosts) > 1:
            return b"too many Host headers"
        if not hosts:
            return b"missing required Host header" if self.clientproto == b"HTTP/1.1" else b""
        return b"" if HOST.fullmatch(hosts[0]) else b"malformed Host header"


class _Channel(HTTPChannel):
    """Stricter than Twisted's where it would take what etcd refuses."""

    _clock: IReactorTime
    _next_turn: IDelayedCall | None = None
    _turn_ends = 0.0
    _begins_request = True
    _buffer: bytes
    _busyReceiving: bool
    _waitingForTransport: bool

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        if not self._busyReceiving:
            self._turn_ends = self._clock.seconds() + TURN_SECONDS
        if not transport.disconnecting:  # nothing behind a refusal is read
            super().dataReceived(data)  # type: ignore[no-untyped-call]

    def requestDone(self, request: Request) -> None:
        """One read may hold thousands of requests: others get their turn in between, and who does
        not take his answers gets no more of them."""
        super().requestDone(request)  # type: ignore[no-untyped-call]
        is_late = self._waitingForTransport or self._clock.seconds() > self._turn_ends
        if self._buffer and is_late:
            self.paused = True
            self._networkProducer.pauseProducing()
            self._later()

    def resumeProducing(self) -> None:
        super().resumeProducing()  # type: ignore[no-untyped-call]
        self._later()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def _later(self) -> None:
        if self.paused and self._next_turn is None and not self._waitingForTransport:
            self._next_turn = self._clock.callLater(0, self._take_turn)

    def _take_turn(self) -> None:
        self._next_turn = None
        self.paused = False
        self._networkProducer.resumeProducing()
        try:
            self.dataReceived(b"")
        except Exception:
            # What the reactor does where it has brought the data itself.
            log.failure("a connection is cut for what it received")
            transport: Any = self.transport
            transport.abortConnection()

    def lineReceived(self, line: bytes) -> None:
        if line and self._begins_request:
            self._begins_request = False
            if not line.isascii():
                # Go takes UTF-8 in a path or a query for its escapes.
                line = _NOT_ASCII.sub(lambda found: b"%%%02X" % found[0][0], line)
        super().lineReceived(line)  # type: ignore[no-untyped-call]

    def allContentReceived(self) -> None:
        self._begins_request = True
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def headerReceived(self, line: bytes) -> bool:
        name, _, value = line.partition(b":")
        is_plain = FIELD.fullmatch(line) and (
            name.lower() != b"transfer-encoding" or value.strip(b" \t").lower() == b"chunked"
        )
        try:
            if is_plain:
                return bool(super().headerReceived(line))  # type: ignore[no-untyped-call]
        except ValueError:
            pass  # a length of thousands of digits: Python reads none of these
        self._respondToBadRequestAndDisconnect()  # type: ignore[no-untyped-call]
        return False


class HttpFactory(ServerFactory[Any]):
    """Serves a site.

    It does without ``twisted.web.server``, whose sessions, templates and perspective broker would
    take 3 MiB of every member's memory, and without an access log, which etcd has not either.
    """

    noisy = False

    def __init__(
        self, site: Site, clock: IReactorTime, body_bytes_max: int = BODY_BYTES_MAX
    ) -> None:
        self.site = site
        self.body_bytes_max = body_bytes_max
        self._clock = clock
        self._heads: dict[bytes, Head] = {}
        self.uploads: dict[bytes, Callable[[], Any]] = {}
        """Paths whose bodies are of any size, with what takes them: something like a file."""

    def buildProtocol(self, addr: object) -> QuickChannel:
        channel: Any = _Channel()  # type: ignore[no-untyped-call]
        channel.factory = self
        channel.requestFactory = RoutedRequest
        channel.callLater = self._clock.callLater
        channel._clock = self._clock
        channel.timeOut = None
        return QuickChannel(
            channel,
            self._heads,
            self.site.serve,
            self.body_bytes_max,
            IDLE_SECONDS,
            self._clock,
        )

    def open_page(self, stream: PageStream, headers: Headers) -> Http2Request:
        """Serve a request that came by HTTP/2."""
        return Http2Request(stream, headers, self.site.serve, self.body_bytes_max)

    def log(self, request: HttpRequest) -> None:
        """For the channel: a request was answered."""
