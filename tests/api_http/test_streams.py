"""Pages over HTTP/2, where a connection is encrypted."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import INegotiated
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.requests import HttpRequest, Resource, answer
from etcdtw.api.http.site import Site
from etcdtw.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    RST_STREAM,
    frame,
    settings_frame,
    window_update_frame,
)
from etcdtw.http2.header_encoder import HeaderEncoder
from etcdtw.rpc.router import Router
from etcdtw.rpc.settings import ServerSettings
from tests.http2.recorder import cut
from tests.rpc.wire import Wire


class Echo:
    """Answers with what it was asked."""

    def __init__(self) -> None:
        self.seen: list[HttpRequest] = []

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        self.seen.append(request)
        assert request.content is not None, "a request has a body, if an empty one"
        request.setHeader(b"connection", b"close")
        said = b"%s %s %s" % (request.method, request.uri, request.content.read())
        return answer(request, 200, said, b"text/plain")


class Later:
    """Is answered by the test."""

    request: Any = None
    gone = 0

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        self.request = request
        request.notifyFinish().addErrback(self._gone)
        return None

    def _gone(self, _: object) -> None:
        self.gone += 1


class Producer:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class Http2Tests(SynchronousTestCase):
    def setUp(self) -> None:
        self.echo, self.later = Echo(), Later()
        pages: dict[bytes, Resource] = {b"/echo": self.echo, b"/later": self.later}
        self.factory = HttpFactory(Site(pages), Clock(), body_bytes_max=1000)

    def connect(
        self, secure: bool = True, window: int = 1 << 20, settings: ServerSettings | None = None
    ) -> Wire:
        wire = Wire(Router(), settings, site=self.factory, handshake=False)
        if secure:
            directlyProvides(wire.transport, INegotiated)
        wire.send(PREFACE + settings_frame({4: window}) + window_update_frame(0, 1 << 24))
        return wire

    def ask(
        self, wire: Wire, stream_id: int, method: str, path: str, body: bytes | None = None,
        *extra: tuple[str, str], end: bool = True,
    ) -> None:  # fmt: skip
        fields = ((":method", method), (":scheme", "https"), (":path", path),
                  (":authority", "here:1"), *extra)  # fmt: skip
        ends = END_STREAM if body is None and end else 0
        block = HeaderEncoder(lambda _: False).encode(fields)
        wire.send(frame(HEADERS, END_HEADERS | ends, stream_id, block))
        if body is not None:
            wire.send(frame(DATA, END_STREAM if end else 0, stream_id, body))

    def frames(self, wire: Wire, stream_id: int) -> tuple[dict[str, str], bytes, bool, list[int]]:
        """Headers, body, whether it ended, and the kinds of frame that came back."""
        headers: dict[str, str] = {}
        body, ended, kinds = b"", False, []
        data = wire.transport.value()
        wire.transport.clear()
        for kind, flags, number, payload in cut(data):
            if number != stream_id:
                continue
            kinds.append(kind)
            if kind == HEADERS:
                headers.update(wire._decoder.decode(payload))
            elif kind == DATA:
                body += payload
            ended = ended or (kind in (HEADERS, DATA) and bool(flags & END_STREAM))
        return headers, body, ended, kinds

    def test_get(self) -> None:
        """A page, its query, and headers that HTTP/2 has no words for."""
        wire = self.connect()
        self.ask(wire, 1, "GET", "/echo?a=b", None, ("accept", "x"), ("accept", "y"))
        headers, body, ended, kinds = self.frames(wire, 1)
        self.assertEqual((headers[":status"], headers["content-type"]), ("200", "text/plain"))
        self.assertNotIn("connection", headers)
        self.assertEqual((body, ended, kinds), (b"GET /echo?a=b ", True, [HEADERS, DATA]))
        request = self.echo.seen[0]
        self.assertEqual(request.args, {b"a": [b"b"]})
        self.assertEqual(request.getHeader(b"Host"), b"here:1")
        self.assertEqual(request.getHeader(b"accept"), b"x")
        self.assertTrue(request.isSecure())

    def test_post(self) -> None:
        """A body in pieces, and the next request on the same connection."""
        wire = self.connect()
        self.ask(wire, 1, "POST", "/echo", b"one", end=False)
        self.assertEqual(self.frames(wire, 1)[3], [])
        wire.send(frame(DATA, END_STREAM, 1, b"two"))
        self.assertEqual(self.frames(wire, 1)[1], b"POST /echo onetwo")
        self.ask(wire, 3, "POST", "/echo", b"three")
        self.assertEqual(self.frames(wire, 3)[1], b"POST /echo three")

    def test_head(self) -> None:
        """Headers alone, and the end."""
        wire = self.connect()
        self.ask(wire, 1, "HEAD", "/echo")
        headers, body, ended, _ = self.frames(wire, 1)
        self.assertEqual((headers["content-length"], body, ended), ("11", b"", True))

    def test_too_large(self) -> None:
        """More than the bound is not kept, and refused when it is all there."""
        wire = self.connect()
        self.ask(wire, 1, "POST", "/echo", b"x" * 900, end=False)
        wire.send(frame(DATA, 0, 1, b"x" * 900))
        self.assertEqual(self.frames(wire, 1)[3], [])
        wire.send(frame(DATA, END_STREAM, 1, b""))
        self.assertEqual(self.frames(wire, 1)[0][":status"], "413")
        self.assertEqual(self.echo.seen, [])

    def test_many_incomplete(self) -> None:
        """What one connection begins and does not end is bounded over all of its streams; what is
        complete, given up or too large does not count."""
        settings = ServerSettings(max_receive_bytes=1, partial_request_bytes=3000)
        wire = self.connect(settings=settings)
        for number in range(1, 21, 2):
            self.ask(wire, number, "POST", "/echo", b"x" * 900)
        for number in range(21, 41, 2):
            self.ask(wire, number, "POST", "/echo", b"x" * 900, end=False)
            wire.send(frame(RST_STREAM, 0, number, b"\0\0\0\x08"))
        for number in range(41, 61, 2):
            self.ask(wire, number, "POST", "/echo", b"x" * 1900, end=False)
        for number in (61, 63, 65):
            self.ask(wire, number, "POST", "/echo", b"x" * 900, end=False)
        wire.transport.clear()
        self.ask(wire, 67, "POST", "/echo", b"x" * 900, end=False)
        self.assertEqual(self.frames(wire, 67)[3], [RST_STREAM])
        wire.send(frame(DATA, END_STREAM, 61, b"y"))
        self.assertEqual(self.frames(wire, 61)[0][":status"], "200")

    def test_plain(self) -> None:
        """In clear text HTTP/2 is gRPC's alone, as in etcd."""
        wire = self.connect(secure=False)
        self.ask(wire, 1, "GET", "/echo")
        headers, _, ended, _ = self.frames(wire, 1)
        self.assertEqual((headers[":status"], ended), ("415", True))
        self.assertEqual(self.echo.seen, [])

    def test_later(self) -> None:
        """An answer in its own time, in pieces, as fast as flow control lets it."""
        wire = self.connect(window=100_000)
        self.ask(wire, 1, "GET", "/later")
        request, producer = self.later.request, Producer()
        request.registerProducer(producer, True)
        request.write(b"a")
        wire.clock.advance(0)
        self.assertEqual(self.frames(wire, 1)[1], b"a")
        request.write(b"b" * 300_000)
        wire.clock.advance(0)
        self.assertEqual(producer.told, ["pause"])
        self.assertEqual(len(self.frames(wire, 1)[1]), 99_999)
        wire.send(window_update_frame(1, 1 << 20))
        wire.clock.advance(0)
        self.assertEqual(producer.told, ["pause", "resume"])
        request.unregisterProducer()
        request.finish()
        wire.clock.advance(0)
        self.assertTrue(self.frames(wire, 1)[2])
        self.assertEqual(self.later.gone, 0)

    def test_given_up(self) -> None:
        """A reset stream, and a lost connection: the page learns it once."""
        wire = self.connect()
        for number in (1, 3):
            self.ask(wire, number, "GET", "/later")
            self.later.request.registerProducer(Producer(), True)
        wire.send(frame(RST_STREAM, 0, 3, b"\0\0\0\x08"))
        self.assertEqual(self.later.gone, 1)
        self.later.request.write(b"nobody hears it")
        self.later.request.finish()
        wire.lose()
        self.assertEqual(self.later.gone, 2)
