"""The short way answers as the long one does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.http.access import Access
from etcdtw.api.http.factory import IDLE_SECONDS, HttpFactory
from etcdtw.api.http.quick import parse_head
from etcdtw.api.http.requests import HttpRequest, plain_error
from etcdtw.api.http.site import Site

PLAIN = (
    b"POST /v3/echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: 5\r\n\r\nhello"
)


class Echo:
    """Answers with what it got; to ``later`` not yet, to ``chunked`` without a length."""

    def __init__(self) -> None:
        self.waiting: list[HttpRequest] = []
        self.gone: list[object] = []
        self.bodies: list[bytes] = []
        self.on_render: Callable[[], None] = lambda: None

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        assert request.content is not None
        body = request.content.read()
        self.bodies.append(body)
        self.on_render()
        request.setHeader(b"x-type", request.getHeader(b"content-type") or b"none")
        if path.endswith(b"later"):
            self.waiting.append(request)
            request.notifyFinish().addErrback(self.gone.append)
            return None
        if path.endswith(b"error"):
            return plain_error(request, 421, "no")
        if not path.endswith(b"chunked"):
            request.setHeader(b"content-length", b"%d" % len(body))
        return body


class QuickTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.echo = Echo()
        trees = {b"/v3/": self.echo, b"/v2/keys/": self.echo}
        site = Site({b"/v2/keys": self.echo}, trees, Access(["*"], ["*"]))
        self.factory = HttpFactory(site, self.clock, body_bytes_max=1000)
        self.connect()

    def connect(self) -> None:
        self.channel = self.factory.buildProtocol(None)
        self.transport = StringTransport()
        self.channel.makeConnection(self.transport)

    def said(self) -> bytes:
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def both(self, request: bytes) -> tuple[set[bytes], bytes]:
        """The answer, headers in any order; the same whether the request comes in one piece or
        in many."""
        answers = []
        for step in (len(request), 7):
            self.connect()
            for at in range(0, len(request), step):
                self.channel.dataReceived(request[at : at + step])
            head, _, body = self.said().partition(b"\r\n\r\n")
            lines = {each for each in head.split(b"\r\n") if not each.startswith(b"Date: ")}
            answers.append((lines, body))
        self.assertEqual(*answers)
        return answers[0]

    def test_plain(self) -> None:
        """A request with a body."""
        head, body = self.both(PLAIN)
        self.assertIn(b"HTTP/1.1 200 OK", head)
        self.assertIn(b"X-Type: application/json", head)
        self.assertEqual(body, b"hello")

    def test_others(self) -> None:
        """Answers with an error, in chunks, to nobody's path, to an empty body, with a query."""
        for old, new in (
            (b"/v3/echo", b"/v3/error"),
            (b"/v3/echo", b"/v3/chunked"),
            (b"/v3/echo", b"/v3/a/../b"),
            (b"/v3/echo", b"/v3/echo?x=1"),
            (b"Content-Length: 5\r\n\r\nhello", b"content-length:0\r\n\r\n"),
            (b"Host: a\r\n", b"Host: a\r\nX-Y:  z \r\n"),
        ):
            self.both(PLAIN.replace(old, new))

    def test_v2_keys(self) -> None:
        """Every method for v2 keys, with a body or without; what only begins like that path."""
        bare = b"Content-Type: application/json\r\nContent-Length: 5\r\n\r\nhello"
        for line in (
            b"PUT /v2/keys/a", b"POST /v2/keys/a", b"DELETE /v2/keys/a", b"GET /v2/keys/a?wait=no",
            b"GET /v2/keys", b"GET /v2/keysandmore", b"HEAD /v2/keys/a", b"PUT /v2/keys/a/../b",
        ):  # fmt: skip
            request = PLAIN.replace(b"POST /v3/echo", line)
            if not line.startswith(b"HEAD"):
                self.both(request)
            self.both(request.replace(bare, b"\r\n"))

    def test_unusual(self) -> None:
        """Whatever is unusual takes the long way, and is answered as well."""
        for old, new in (
            (b"Host: a", b"Host: a\r\nConnection: close"),
            (b"Host: a", b"Host: a\r\nExpect: 100-continue"),
            (b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            (b"HTTP/1.1", b"HTTP/1.0"),
            (b"Host: a", b"Host: a\r\nX: 1\r\nX: 2"),
        ):
            request = PLAIN.replace(old, new)
            self.assertIsNone(parse_head(request.partition(b"\r\n\r\n")[0]))
            self.connect()
            self.channel.dataReceived(request)
            self.assertIn(b" 200 OK\r\n", self.said())

    def test_refused(self) -> None:
        """What is wrong is refused by the library, not taken for something else."""
        for old, new in (
            (b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: 6"),
            (b"Content-Length: 5", b"Content-Length: +5"),
            (b"Content-Length: 5", b"Content-Length : 5"),
            (b"Host: a", b"Host a"),
        ):
            self.connect()
            self.channel.dataReceived(PLAIN.replace(old, new))
            self.assertTrue(self.said().startswith(b"HTTP/1.1 400 "), new)
            self.assertTrue(self.transport.disconnecting)

    def test_malformed(self) -> None:
        """What etcd refuses, as others could read it otherwise, is refused in either way."""
        for field in (
            b"X: a\0b",
            b"X: a\nContent-Length: 0",
            b"X: a\rb",
            b"X: a\x01b",
            b"X y: b",
            b"X(: b",
            b": b",
            b"Host: b",
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        ):
            lines, _ = self.both(PLAIN.replace(b"\r\n\r\n", b"\r\n%b\r\n\r\n" % field))
            self.assertIn(b"HTTP/1.1 400 Bad Request", lines, field)
            self.assertTrue(self.transport.disconnecting)

    def test_hosts(self) -> None:
        """A request has one host, but for those of HTTP/1.0."""
        for host, fault in (
            (b"Host: a\r\nHost: b", b"too many Host headers"),
            (b"Y: a", b"missing required Host header"),
            (b"Host: a b", b"malformed Host header"),
            (b"Host: a/b", b"malformed Host header"),
        ):
            lines, body = self.both(PLAIN.replace(b"Host: a", host))
            self.assertIn(b"HTTP/1.1 400 Bad Request", lines)
            self.assertEqual(body, b"400 Bad Request: " + fault)
        old = PLAIN.replace(b"1.1", b"1.0")
        for request in (
            old,
            old.replace(b"Host", b"Y"),
            PLAIN.replace(b"Host: a", b"Host: [::1]:9"),
        ):
            self.assertEqual(self.both(request)[1], b"hello")

    def test_utf8(self) -> None:
        """UTF-8 in a path need not be escaped, on whichever way."""
        request = PLAIN.replace(b"/v3/echo", "/v3/ü?ü=ü".encode())
        self.assertEqual(self.both(request)[1], b"hello")

    def test_too_large(self) -> None:
        """The bound on bodies holds here too."""
        body = b"x" * 1001
        self.channel.dataReceived(
            PLAIN.replace(b"5\r\n\r\nhello", b"%d\r\n\r\n%b" % (len(body), body))
        )
        self.assertTrue(self.said().startswith(b"HTTP/1.1 413 "))

    def test_many(self) -> None:
        """One connection takes many, quick ones and others in turn."""
        for _ in range(3):
            self.channel.dataReceived(PLAIN)
            self.assertTrue(self.said().endswith(b"\r\n\r\nhello"))
        self.channel.dataReceived(PLAIN[:20])
        self.channel.dataReceived(PLAIN[20:])
        self.assertTrue(self.said().endswith(b"\r\n\r\nhello"))
        self.channel.dataReceived(PLAIN)
        self.assertTrue(self.said().endswith(b"\r\n\r\nhello"))

    def test_pipelined(self) -> None:
        """Requests that come before an answer are answered in turn."""
        self.channel.dataReceived(PLAIN.replace(b"/v3/echo", b"/v3/later"))
        self.channel.dataReceived(PLAIN.replace(b"hello", b"again")[:30])
        self.channel.dataReceived(PLAIN.replace(b"hello", b"again")[30:])
        self.assertEqual(self.said(), b"")
        self.echo.waiting.pop().finish()
        self.assertTrue(self.said().endswith(b"\r\n\r\nagain"))
        self.connect()
        self.channel.dataReceived(PLAIN + PLAIN)
        self.assertEqual(self.said().count(b"\r\n\r\nhello"), 2)

    def _pipeline(self, count: int) -> list[int]:
        """How many answers each turn brings to requests of one read."""
        get = b"GET /v2/keys/a HTTP/1.1\r\nHost: a\r\n\r\n"
        self.channel.dataReceived(get * count)
        found = [self.said().count(b"200 OK")]
        while self.transport.producerState != "producing":
            call = next(each for each in self.clock.calls if each.time <= self.clock.seconds())
            self.clock.calls.remove(call)
            call.called = 1
            call.func()
            found.append(self.said().count(b"200 OK"))
        return found

    def test_turns(self) -> None:
        """Others get their turn between requests of one read, and every request its answer."""
        self.echo.on_render = lambda: self.clock.advance(0.001)
        turns = self._pipeline(200)
        self.assertLess(max(turns), 10)
        self.assertEqual(sum(turns), 200)
        self.assertEqual(self._pipeline(3), [3])
        self.clock.advance(IDLE_SECONDS + 1)
        self.assertTrue(self.transport.disconnecting)

    def test_answers_are_not_taken(self) -> None:
        """Requests wait while the client does not take the answers to those before."""
        producer: Any = self.channel.channel
        self.echo.on_render = producer.pauseProducing
        with self.assertRaises(StopIteration):
            self._pipeline(200)
        self.assertLess(len(self.echo.bodies), 3)
        self.echo.on_render = lambda: None
        producer.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(len(self.echo.bodies), 200)

    def test_lost_between_turns(self) -> None:
        """A connection that ends between turns leaves no timer behind."""
        self.echo.on_render = lambda: self.clock.advance(0.01)
        self.channel.dataReceived(b"GET /v2/keys/a HTTP/1.1\r\nHost: a\r\n\r\n" * 9)
        self.channel.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_endless_pipeline(self) -> None:
        """Nobody may queue without bound behind an answer."""
        self.channel.dataReceived(PLAIN.replace(b"/v3/echo", b"/v3/later"))
        for _ in range(20):
            self.channel.dataReceived(bytes(100_000))
        self.assertTrue(self.transport.disconnected)

    def test_client_gone(self) -> None:
        """Whoever waits to answer hears that the client left."""
        self.channel.dataReceived(PLAIN.replace(b"/v3/echo", b"/v3/later"))
        self.channel.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(len(self.echo.gone), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_idle(self) -> None:
        """An idle connection is closed; one that waits for its answer is not."""
        self.channel.dataReceived(PLAIN.replace(b"/v3/echo", b"/v3/later"))
        self.clock.advance(10 * IDLE_SECONDS)
        self.assertFalse(self.transport.disconnecting)
        self.echo.waiting.pop().finish()
        self.clock.advance(IDLE_SECONDS - 1)
        self.channel.dataReceived(PLAIN)
        self.clock.advance(IDLE_SECONDS - 1)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(self.transport.disconnecting)

    def test_drain(self) -> None:
        """A connection that is to end ends behind the answer under way, an idle one at once."""
        for step in (len(PLAIN) + 1, 20):
            self.connect()
            request = PLAIN.replace(b"/v3/echo", b"/v3/later")
            for at in range(0, len(request), step):
                self.channel.dataReceived(request[at : at + step])
            self.channel.drain()
            self.assertFalse(self.transport.disconnecting)
            self.echo.waiting.pop().finish()
            self.assertTrue(self.transport.disconnecting)
        self.connect()
        self.channel.drain()
        self.assertTrue(self.transport.disconnecting)

    def test_heads_are_bounded(self) -> None:
        """Heads are remembered, but not without bound."""
        for number in range(1000):
            self.channel.dataReceived(PLAIN.replace(b"Host: a", b"Host: %d" % number))
        self.assertLessEqual(len(self.factory._heads), 256)
