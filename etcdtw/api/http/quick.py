"""The short way of HTTP/1.1: a request that arrives in one piece, as nearly all for the JSON
gateway and for v2 keys do.

``twisted.web`` takes 60 microseconds for a request, twice what the gateway itself needs
(docs/design/0006-gateway.md). So a whole request with nothing unusual about it is read here, and
everything else, and whatever follows on a connection that began otherwise, goes to its channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES, HTTPChannel

from etcdtw.api.http.requests import FIELD, HOST, tell_finished
from etcdtw.rpc.port import peer_text
from etcdtw.tls.direct import DirectWriter

_BEGIN = (
    b"POST /v3/",
    *(method + b" /v2/keys" for method in (b"GET", b"PUT", b"POST", b"DELETE")),
)
_TLS_HANDSHAKE = b"\x16\x03"
_END = b"\r\n\r\n"
_EMPTY_LINE = b"\r\n"
_WITHOUT_BODY = (b"GET", b"DELETE")
_HEADS_MAX = 256
_HEAD_BYTES_MAX = 4096
_PENDING_BYTES_MAX = 1 << 20
# With one of these the body has no plain length, or the connection another future.
_UNUSUAL = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"connection", b"trailer"})

log = Logger(namespace="etcdtw.http")


class Head:
    """Request line and headers of requests that begin with the same bytes."""

    __slots__ = ("body_bytes", "headers", "method", "path", "uri")

    def __init__(
        self, method: bytes, uri: bytes, headers: dict[bytes, bytes], body_bytes: int
    ) -> None:
        self.method = method
        self.uri = uri
        self.path = uri.partition(b"?")[0]
        self.headers = headers
        self.body_bytes = body_bytes


def parse_head(data: bytes) -> Head | None:
    """The head, up to its empty line, if there is nothing unusual about it."""
    request_line, *lines = data.split(b"\r\n")
    words = request_line.split(b" ")
    if len(words) != 3 or words[2] != b"HTTP/1.1":
        return None
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in headers or name in _UNUSUAL or not FIELD.fullmatch(line):
            return None
        headers[name] = value.strip(b" \t")
    length = headers.get(b"content-length", b"0" if words[0] in _WITHOUT_BODY else b"")
    if not length.isdigit() or len(length) > 9 or not HOST.fullmatch(headers.get(b"host", b"/")):
        return None
    return Head(words[0], words[1], headers, int(length))


class QuickRequest:
    """A request and its answer, as far as resources look at them (``HttpRequest``)."""

    def __init__(self, connection: QuickChannel, head: Head, body: bytes) -> None:
        self._connection = connection
        self._head = head
        self._lines = [b"HTTP/1.1 200 OK"]
        self._has_length = self._begun = self._chunked = False
        self._waiting: list[Deferred[None]] = []
        self.method = head.method
        self.uri = head.uri
        self.path = head.path
        self.content = BytesIO(body)
        self.is_gone = self.comes_soon = False

    @property
    def args(self) -> Any:
        return {}

    def all_headers(self) -> Iterable[tuple[bytes, bytes]]:
        return self._head.headers.items()

    def getHeader(self, key: bytes) -> bytes | None:
        return self._head.headers.get(key)

    def isSecure(self) -> bool:
        return self._connection.is_secure

    def getClientAddress(self) -> object:
        return self._connection.peer

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        self._lines[0] = b"HTTP/1.1 %d %b" % (code, message or RESPONSES.get(code, b"Unknown"))

    def setHeader(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            self._has_length = True
        self._lines.append(_names[name] + value)

    def notifyFinish(self) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._connection.channel.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._connection.channel.unregisterProducer()

    def write(self, data: bytes) -> None:
        pieces = [] if self._begun else [self._begin()]
        if self._chunked:
            if data:
                pieces.append(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            pieces.append(data)
        self._connection.write(b"".join(pieces))

    def stream_writer(self) -> Callable[[bytes], None]:
        return self.write

    def finish(self) -> None:
        if not self._begun or self._chunked:
            head = b"" if self._begun else self._begin()
            self._connection.write(head + (b"0\r\n\r\n" if self._chunked else b""))
        tell_finished(self._waiting, None)
        self._connection.finished()

    def cut(self) -> None:
        self._connection.lose()

    def lost(self, reason: Failure) -> None:
        """For the connection: it is gone."""
        self.is_gone = True
        tell_finished(self._waiting, reason)

    def _begin(self) -> bytes:
        self._begun = True
        if not self._has_length:
            self._chunked = True
            self._lines.append(b"Transfer-Encoding: chunked")
        self._lines.append(_EMPTY_LINE)
        return b"\r\n".join(self._lines)


class _Names(dict[bytes, bytes]):
    """``Content-Type: `` for ``content-type``: our own few names, as Go writes them."""

    def __missing__(self, name: bytes) -> bytes:
        found = self[name] = name.title() + b": "
        return found


_names = _Names()


class QuickChannel(Protocol):
    """Stands in front of ``twisted.web``'s channel on one connection."""

    def __init__(
        self,
        channel: HTTPChannel,
        heads: dict[bytes, Head],
        serve: Callable[[QuickRequest], None],
        body_bytes_max: int,
        idle_seconds: float,
        clock: IReactorTime,
    ) -> None:
        """``heads`` remembers heads for all connections of a port. ``idle_seconds`` are how long
        the next request may keep us waiting."""
        self.channel = channel
        self._heads = heads
        self._serve = serve
        self._body_bytes_max = body_bytes_max
        self._idle_seconds = idle_seconds
        self._idle_since = 0.0
        self._idle_check: IDelayedCall | None = None
        self._clock = clock
        self._request: QuickRequest | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._handed_over = False
        self._closing = False
        self.is_secure = False
        self.peer: object = None

    # --- Twisted calls ---------------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self._writer = DirectWriter(transport)
        self.peer = transport.getPeer()
        self.channel.makeConnection(transport)
        self.is_secure = bool(self.channel.isSecure())
        self._idle_since = self._clock.seconds()
        self._idle_check = self._clock.callLater(self._idle_seconds, self._check_idle)

    def dataReceived(self, data: bytes) -> None:
        if self._handed_over:
            self.channel.dataReceived(data)
        elif self._request is not None:
            self._keep(data)
        elif not (data.startswith(_BEGIN) and self._take(data)):
            if not self.is_secure and data.startswith(_TLS_HANDSHAKE):
                log.warn(
                    "rejected connection",
                    error="a TLS handshake on a port without TLS: the URL to use is http://",
                    remote_addr=peer_text(self.peer),
                )
                self._abort()
                return
            self._hand_over(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_checking()
        request, self._request = self._request, None
        self._pending.clear()
        self.channel.connectionLost(reason)
        if request is not None:
            request.lost(reason)

    @property
    def is_idle(self) -> bool:
        """Whether every request is answered, though the answer may still be on its way out."""
        return self._request is None and not self.channel.requests

    @property
    def answers_soon(self) -> bool:
        """Whether every request is answered, or is about to be."""
        return self._request is None and all(each.comes_soon for each in self.channel.requests)

    def drain(self) -> None:
        """Close once what is being answered is answered."""
        self._closing = True
        if self.is_idle:
            self.lose()
        else:
            # The channel closes behind the answer that is under way.
            self.channel.persistent = False

    # --- requests --------------------------------------------------------------------------------

    def _take(self, data: bytes) -> bool:
        """Serve the data if it is exactly one plain request."""
        at = data.find(_END)
        if at < 0 or at > _HEAD_BYTES_MAX:
            return False
        head_bytes = data[:at]
        head = self._heads.get(head_bytes)
        if head is None:
            head = parse_head(head_bytes)
            if head is None:
                return False
            if len(self._heads) >= _HEADS_MAX:
                self._heads.clear()
            self._heads[head_bytes] = head
        body = data[at + len(_END) :]
        if head.body_bytes != len(body) or len(body) > self._body_bytes_max:
            return False
        self._request = QuickRequest(self, head, body)
        self._serve(self._request)
        return True

    def _keep(self, data: bytes) -> None:
        """The next request came before the answer to this one."""
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > _PENDING_BYTES_MAX:
            self._abort()

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def lose(self) -> None:
        """Close behind what was written."""
        self.channel.loseConnection()

    def finished(self) -> None:
        """For the request: it is answered."""
        self._request = None
        if self._closing:
            self.lose()
            return
        self._idle_since = self._clock.seconds()
        if self._pending:
            data = b"".join(self._pending)
            self._pending.clear()
            self._pending_bytes = 0
            # What was pipelined need not come in whole requests.
            self._hand_over(data)

    def _hand_over(self, data: bytes) -> None:
        """From here on the connection is the channel's, and so is looking at its time."""
        self._handed_over = True
        self._stop_checking()
        self.channel.setTimeout(self._idle_seconds)
        self.channel.dataReceived(data)

    # --- waiting for requests --------------------------------------------------------------------

    def _check_idle(self) -> None:
        """Rather than move a timer with every request, look when one would have ended at the
        soonest. Whoever waits for an answer is not idle."""
        left = self._idle_seconds
        if self._request is None:
            left += self._idle_since - self._clock.seconds()
        if left > 0:
            self._idle_check = self._clock.callLater(left, self._check_idle)
        else:
            self._idle_check = None
            self.channel.timeoutConnection()

    def _stop_checking(self) -> None:
        if self._idle_check is not None:
            self._idle_check.cancel()
            self._idle_check = None
