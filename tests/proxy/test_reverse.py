"""The v2 proxy's requests and answers, and whom it asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers

from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.site import Site
from etcdtw.proxy.director import Director
from etcdtw.proxy.reverse import ReverseProxy

MEMBER = "http://10.0.0.1:2379"


class Response:
    """A member's, as Twisted's agent gives it."""

    code = 200
    phrase = b"OK"
    length: object = 5

    def __init__(self) -> None:
        self.headers = Headers({b"date": [b"then"], b"x-etcd-index": [b"7"]})
        self.body: Any = None

    def deliverBody(self, body: Any) -> None:
        self.body = body
        body.makeConnection(StringTransport())


class ReverseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.start(readonly=False)

    def start(self, readonly: bool) -> None:
        self.asked: list[tuple[bytes, bytes]] = []
        self.answers: list[Deferred[Any]] = []
        director = Director(Clock(), Deferred, 5.0, 30.0)
        director.urls = [MEMBER]
        proxy = ReverseProxy(director, self.send, lambda file: file, "p", readonly)
        factory = HttpFactory(Site({}, {b"/": cast(Any, proxy)}), Clock())
        self.channel = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.channel.makeConnection(self.transport)

    def send(self, method: bytes, url: bytes, headers: object, body: object) -> Deferred[Any]:
        self.asked.append((method, url))
        self.answers.append(Deferred())
        return self.answers[-1]

    def request(self, line: bytes) -> None:
        self.channel.dataReceived(line + b" HTTP/1.1\r\nHost: a\r\n\r\n")

    def answered(self, body: bytes = b"hello") -> Response:
        response = Response()
        self.answers.pop().callback(response)
        if body:
            response.body.dataReceived(body)
        response.body.connectionLost(Failure(ResponseDone()))
        return response

    def test_passed_back(self) -> None:
        """An answer is the member's, but for its date, of which there is one."""
        self.request(b"GET /v2/keys/a")
        self.answered()
        said = self.transport.value()
        self.assertIn(b"X-Etcd-Index: 7\r\n", said)
        self.assertTrue(said.endswith(b"\r\nContent-Length: 5\r\n\r\nhello"))
        self.assertEqual(said.count(b"Date: "), 1)
        self.assertFalse(self.transport.disconnecting)

    def test_cut_short(self) -> None:
        """A member that dies amid its answer: the connection ends, or the client would take the
        next answer for the rest of this one."""
        for line in (b"GET /v2/keys/a", b"GET /v2/members"):
            self.start(readonly=False)
            self.request(line)
            self.answered(b"hel")
            self.assertTrue(self.transport.value().endswith(b"hel"))
            self.assertTrue(self.transport.disconnecting)

    def test_head(self) -> None:
        """No length is better than that of the body which an answer to HEAD does not have."""
        self.request(b"HEAD /v2/keys/a")
        self.answered(b"")
        self.assertNotIn(b"Content-Length", self.transport.value())
        self.assertFalse(self.transport.disconnecting)

    def test_bare_bytes(self) -> None:
        """Who does not encode what should be is understood, as without a proxy."""
        self.request("GET /v2/keys/é".encode())
        self.assertEqual(self.asked, [(b"GET", MEMBER.encode() + b"/v2/keys/%C3%A9")])

    def test_configuration(self) -> None:
        """It can be read, and nothing else."""
        self.request(b"GET /v2/config/local/proxy")
        self.assertIn(b'\r\n\r\n{"endpoints":["%b"]}\n' % MEMBER.encode(), self.transport.value())
        self.transport.clear()
        self.request(b"DELETE /v2/config/local/proxy")
        self.assertIn(b"HTTP/1.1 405 Method Not Allowed\r\n", self.transport.value())
        self.assertIn(b"\r\nAllow: GET\r\n", self.transport.value())
        self.start(readonly=True)
        self.request(b"DELETE /v2/config/local/proxy")
        self.assertIn(b"HTTP/1.1 501 Not Implemented\r\n", self.transport.value())


class DirectorTests(SynchronousTestCase):
    def test_stopped_while_looking(self) -> None:
        """It does not look again."""
        clock = Clock()
        looking: list[Deferred[Sequence[str]]] = []

        def find() -> Deferred[Sequence[str]]:
            looking.append(Deferred())
            return looking[-1]

        director = Director(clock, find, 5.0, 30.0)
        director.start()
        director.stop()
        self.assertEqual((clock.getDelayedCalls(), len(looking)), ([], 1))
