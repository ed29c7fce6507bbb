"""Calls over HTTP/1.1: answers of all lengths, and none."""

from __future__ import annotations

import random
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed

from etcdtw.peer.calling import Answered, HttpCaller, TooLong, why_no_answer
from etcdtw.testing.streams import StreamNetwork
from etcdtw.testing.time import VirtualTime

HEAD = b"HTTP/1.1 200 OK\r\nX-Etcd-Index: 7\r\n"


class Canned(Protocol):
    """Sends an answer to whatever it is asked, and may end the connection then."""

    def __init__(self, answer: bytes, ends: bool) -> None:
        self._answer = answer
        self._ends = ends

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        answer, self._answer = self._answer, b""
        self.transport.write(answer)
        if self._ends:
            self.transport.loseConnection()


class CallTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = VirtualTime(1)
        self.clock = self.time.view()
        self.network = StreamNetwork(self.clock, random.Random(1), piece_bytes_max=40)

    def call(self, answer: bytes, ends: bool = False, bytes_max: int = 100) -> Deferred[Answered]:
        factory: Any = Factory.forProtocol(lambda: Canned(answer, ends))
        self.network.listen("h", 80, factory)
        caller = HttpCaller(
            self.clock,
            2.0,
            lambda scheme, host, port: self.network.endpoint("me", host, port),
            body_bytes_max=bytes_max,
        )
        called = caller.call(b"GET", "http://h/x", {}, b"", 5.0)
        self.time.run_until(self.time.now + 1)
        caller.stop()
        return called

    def test_lengths(self) -> None:
        """With a length, in chunks, or up to the end of the connection: it is the same answer."""
        for answer, ends in (
            (HEAD + b"Content-Length: 5\r\n\r\nhello", False),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", False),
            (HEAD + b"\r\nhello", True),
        ):
            found = self.successResultOf(self.call(answer, ends))
            self.assertEqual((found.status, found.body), (200, b"hello"))
            self.assertEqual(found.headers[b"x-etcd-index"], b"7")
            self.network.stop_listening("h", 80)

    def test_urls_that_cannot_be_called(self) -> None:
        """Who calls is told so later, as if nobody had answered."""
        caller = HttpCaller(self.clock, 2.0)
        for url in ("ftp://m:1", "https://m:1", "http://\u00e4:1", "http://[::1", ""):
            calls: list[Deferred[Any]] = [
                caller.call(b"GET", url, {}),
                caller.upload(url, {}, BytesIO(b"x"), 5.0),
                caller.send(b"GET", url.encode(), [], None),
            ]
            for each in calls:
                self.assertNoResult(each)
            self.time.run_until(self.time.now + 1)
            for each in calls:
                self.failureResultOf(each, ValueError)

    def test_too_long(self) -> None:
        """Nobody collects more bytes than he wants, whatever length was announced."""
        for head in (b"Content-Length: 101\r\n\r\n", b"\r\n"):
            error = self.failureResultOf(self.call(HEAD + head + b"x" * 101), TooLong).value
            self.assertIn("more than 100 bytes", str(error))
            self.network.stop_listening("h", 80)
        self.network.listen("h", 80, Factory())

    def test_cut_off(self) -> None:
        """An answer that ends before its length is none."""
        called = self.call(HEAD + b"Content-Length: 50\r\n\r\nhello", ends=True)
        error = self.failureResultOf(called, ResponseFailed).value
        self.assertNotIn("[<", why_no_answer(error))

    def test_cancelled(self) -> None:
        """Whoever does not want the rest is rid of the connection and of the clock's calls."""
        called = self.call(HEAD + b"Content-Length: 50\r\n\r\nhello")
        self.assertNoResult(called)
        called.cancel()
        self.failureResultOf(called)
        self.time.run_until(self.time.now + 10)
        self.assertEqual(list(self.clock.getDelayedCalls()), [])


class Silent:
    """Listens to a stream that never begins."""

    def answered(self, status: int, headers: Mapping[bytes, bytes]) -> None: ...

    def received(self, data: bytes) -> None: ...

    def ended(self, reason: str) -> None: ...


class SocketTests(SynchronousTestCase):
    def test_names(self) -> None:
        """A unix URL leads to the socket whose file has the name of its host and port, in the
        letters that it was written with."""
        reactor: Any = MemoryReactorClock()
        caller = HttpCaller(reactor, 2.0)
        for url, path in (
            ("unix://localhost:1", "localhost:1"),
            ("unix://Sock:0", "Sock:0"),
            ("unix://[::1]:2", "[::1]:2"),
        ):
            opened = caller.open(url + "/raft", {}, Silent())
            called = caller.call(b"GET", url + "/members", {})
            self.assertEqual([each[0] for each in reactor.unixClients], [path, path])
            reactor.unixClients.clear()
            for each in (opened, called):
                each.addErrback(lambda _: None)
                each.cancel()
        caller.stop()
