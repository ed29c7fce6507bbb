"""Health, version and members over HTTP/1.1, byte by byte."""

from __future__ import annotations

import json
from collections.abc import Callable

from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.http.access import Access
from etcdtw.api.http.factory import IDLE_SECONDS, HttpFactory
from etcdtw.api.http.requests import HttpRequest, Resource
from etcdtw.api.http.resources import Health, Members, Page, Version
from etcdtw.api.http.site import Site
from etcdtw.errors import EtcdError, NoLeader

TEXT = "text/plain; charset=utf-8"


class Answer:
    """One answer, taken apart; ``rest`` is what follows the body in the stream."""

    def __init__(self, stream: bytes, has_body: bool = True) -> None:
        head, _, rest = stream.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        self.status = status
        self.headers = dict(line.lower().split(": ", 1) for line in lines)
        length = int(self.headers.get("content-length", "0")) if has_body else 0
        self.body, self.rest = rest[:length], rest[length:]


class FakeHealth:
    """A member whose reads wait until the test answers them."""

    def __init__(self) -> None:
        self.alarms: list[str] = []
        self.leader = True
        self.reads: list[Callable[[EtcdError | None], None]] = []

    def raised_alarms(self) -> list[str]:
        return self.alarms

    def has_leader(self) -> bool:
        return self.leader

    def read(self, waiter: Callable[[EtcdError | None], None]) -> None:
        self.reads.append(waiter)


class FakeCluster:
    cluster_id = 0xCDF818194E3A8C32

    def __init__(self) -> None:
        self.decided: str | None = "3.5.0"

    def version(self) -> str | None:
        return self.decided

    def members_json(self) -> list[str]:
        return ['{"id":1}', '{"id":2}']


class LongPage(Page):
    def show(self, request: HttpRequest) -> bytes:
        body = b"x" * 1_000_000
        request.setHeader(b"content-length", b"%d" % len(body))
        return body


class EchoPage:
    """Answers with the path that it was asked for and the request's body."""

    def render(self, request: HttpRequest, path: bytes) -> bytes:
        assert request.content is not None
        body = path + b" " + request.content.read()
        request.setHeader(b"content-length", b"%d" % len(body))
        return body


class PagesTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.health = FakeHealth()
        self.cluster = FakeCluster()
        self.connect()

    def connect(self, access: Access | None = None) -> None:
        """A new connection to a new factory."""
        pages: dict[bytes, Resource] = {
            b"/health": Health(self.health),
            b"/version": Version(self.cluster),
            b"/members": Members(self.cluster),
            b"/long": LongPage(),
        }
        trees: dict[bytes, Resource] = {b"/tree/": EchoPage()}
        factory = HttpFactory(Site(pages, trees, access), self.clock, body_bytes_max=100)
        factory.doStart()
        self.addCleanup(factory.doStop)
        self.channel = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.channel.makeConnection(self.transport)

    def send(self, *lines: str, body: bytes = b"") -> None:
        request = "\r\n".join((*lines, "host: a", "", ""))
        self.channel.dataReceived(request.encode() + body)

    def said(self, has_body: bool = True) -> Answer:
        """What has arrived since the last call."""
        stream = self.transport.value()
        self.transport.clear()
        return Answer(stream, has_body)

    def get(self, target: str) -> Answer:
        self.send(f"GET {target} HTTP/1.1")
        return self.said()

    def assert_health(self, answer: Answer, reason: str) -> None:
        status = "HTTP/1.1 503 Service Unavailable" if reason else "HTTP/1.1 200 OK"
        self.assertEqual((answer.status, answer.headers["content-type"]), (status, TEXT))
        expected = {"health": "false" if reason else "true", "reason": reason}
        self.assertEqual(json.loads(answer.body), expected)
        # Go's http.Error ends its text with a newline, as etcd 3.5.1 shows.
        self.assertEqual(answer.body.endswith(b"\n"), bool(reason))
        self.assertEqual("x-content-type-options" in answer.headers, bool(reason))


class HealthTests(PagesTestCase):
    def test_read(self) -> None:
        """A member is healthy when a linearizable read succeeds, and answers only then."""
        self.send("GET /health HTTP/1.1")
        self.assertEqual(self.transport.value(), b"")
        self.health.reads.pop()(None)
        answer = self.said()
        self.assert_health(answer, "")
        self.assertEqual(answer.body, b'{"health":"true","reason":""}')

    def test_failed_read(self) -> None:
        """A read that fails makes it unhealthy, with the error's text."""
        self.send("GET /health HTTP/1.1")
        self.health.reads.pop()(NoLeader())
        self.assert_health(self.said(), f"RANGE ERROR:{NoLeader()}")

    def test_serializable(self) -> None:
        """``serializable=true`` needs no read; any other value does."""
        self.assert_health(self.get("/health?serializable=true"), "")
        self.assertEqual(self.health.reads, [])
        self.send("GET /health?serializable=1 HTTP/1.1")
        self.assertEqual(len(self.health.reads), 1)

    def test_no_leader(self) -> None:
        """Without a leader it is unhealthy, serializable or not."""
        self.health.leader = False
        for target in ("/health", "/health?serializable=true"):
            self.assert_health(self.get(target), "RAFT NO LEADER")

    def test_alarms(self) -> None:
        """A raised alarm comes first, unless it is excluded; several may be."""
        self.health.alarms = ["NOSPACE", "CORRUPT"]
        self.health.leader = False
        self.assert_health(self.get("/health"), "ALARM NOSPACE")
        self.assert_health(self.get("/health?exclude=NOSPACE"), "ALARM CORRUPT")
        self.assert_health(self.get("/health?exclude=NOSPACE&exclude=CORRUPT"), "RAFT NO LEADER")

    def test_client_gone(self) -> None:
        """A client that leaves before the read is done gets nothing, and nothing fails."""
        self.send("GET /health HTTP/1.1")
        self.channel.connectionLost(Failure(ConnectionLost()))
        self.health.reads.pop()(None)
        self.assertEqual(self.transport.value(), b"")

    def test_order(self) -> None:
        """Requests of one connection are answered one after the other."""
        self.send("GET /health HTTP/1.1")
        self.send("GET /version HTTP/1.1")
        self.assertEqual(self.transport.value(), b"")
        self.health.reads.pop()(None)
        first = self.said()
        self.assert_health(first, "")
        self.assertEqual(json.loads(Answer(first.rest).body)["etcdcluster"], "3.5.0")


class OtherPagesTests(PagesTestCase):
    def test_version(self) -> None:
        """``/version`` has the release that we are and the cluster's version, once decided."""
        answer = self.get("/version")
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.assertEqual(answer.body, b'{"etcdserver":"3.5.1","etcdcluster":"3.5.0"}')
        self.cluster.decided = None
        self.assertEqual(json.loads(self.get("/version").body)["etcdcluster"], "not_decided")

    def test_members(self) -> None:
        """``/members`` is a JSON array and a newline, and names the cluster in a header."""
        answer = self.get("/members")
        self.assertEqual(answer.headers["x-etcd-cluster-id"], "cdf818194e3a8c32")
        self.assertEqual(answer.body, b'[{"id":1},{"id":2}]\n')

    def test_long(self) -> None:
        """An answer of a megabyte arrives whole."""
        self.assertEqual(self.get("/long").body, b"x" * 1_000_000)


class HttpTests(PagesTestCase):
    def test_unknown_path(self) -> None:
        """Any other path, a trailing slash included, is Go's 404; the connection stays."""
        for target in ("/", "/health/", "/v3", "*"):
            answer = self.get(target)
            self.assertEqual(answer.status, "HTTP/1.1 404 Not Found", target)
            self.assertEqual(answer.body, b"404 page not found\n")
            self.assertEqual(answer.headers["content-type"], TEXT)
            self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
        self.assertFalse(self.transport.disconnecting)

    def test_other_methods(self) -> None:
        """Pages are for GET alone; the rest is Go's 405, and the body sent is skipped."""
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            self.send(f"{method} /version HTTP/1.1", "content-length: 3", body=b"abc")
            answer = self.said()
            self.assertEqual(answer.status, "HTTP/1.1 405 Method Not Allowed", method)
            self.assertEqual(answer.body, b"Method Not Allowed\n")
            self.assertEqual(answer.headers["allow"], "get")
        self.assertEqual(self.get("/version").status, "HTTP/1.1 200 OK")

    def test_head(self) -> None:
        """HEAD is refused like other methods, without a body."""
        for target, length in (("/version", 19), ("/nope", 19), ("/health", 19)):
            self.send(f"HEAD {target} HTTP/1.1")
            answer = self.said(has_body=False)
            self.assertEqual(answer.headers["content-length"], str(length))
            self.assertEqual(answer.rest, b"")

    def test_trees(self) -> None:
        """A tree has all that begins with its path, percent escapes undone."""
        self.assertEqual(self.get("/tree/a/b").body, b"/tree/a/b ")
        self.assertEqual(self.get("/%74ree/").body, b"/tree/ ")
        self.assertEqual(self.get("/treeb").status, "HTTP/1.1 404 Not Found")

    def test_clean_paths(self) -> None:
        """Empty and dotted parts are sent to the clean path, the query with them, and a tree's
        name alone to the tree."""
        for target, location in (
            ("/tree", "/tree/"),
            ("/tree//a?x=1", "/tree/a?x=1"),
            ("/tree/../version", "/version"),
            ("//version", "/version"),
            ("/tree/./b/", "/tree/b/"),
            ("/tree//a+b&c=$,;:@%20%C3%A9?", "/tree/a+b&c=$,;:@%20%c3%a9"),
        ):
            answer = self.get(target)
            self.assertEqual(answer.status, "HTTP/1.1 301 Moved Permanently", target)
            self.assertEqual(answer.headers["location"], location)

    def test_moved_body(self) -> None:
        """Who asks for a page is shown a link to the clean path, as by Go's server."""
        answer = self.get("/tree//a&'?x=1&y=%22")
        self.assertEqual(
            answer.body, b'<a href="/tree/a&amp;%27?x=1&amp;y=%22">Moved Permanently</a>.\n\n'
        )
        self.assertEqual(answer.headers["content-type"], "text/html; charset=utf-8")
        self.send("DELETE /tree//a HTTP/1.1")
        answer = self.said()
        self.assertEqual((answer.headers["content-length"], answer.body), ("0", b""))

    def test_no_escape(self) -> None:
        """A percent sign that begins no byte."""
        for target in ("/tree/%", "/tree/a%2", "/tree/%zz", "/%?x=1"):
            answer = self.get(target)
            self.assertEqual(
                (answer.status, answer.body), ("HTTP/1.1 400 Bad Request", b"400 Bad Request")
            )
        self.assertEqual(self.get("/tree/a?%zz").status, "HTTP/1.1 200 OK")

    def test_absolute_form(self) -> None:
        """The form for proxies means the same."""
        self.send("POST http://here:1/tree/x?a=b HTTP/1.1", "content-length: 1", body=b"y")
        self.assertEqual(self.said().body, b"/tree/x y")

    def test_body_bound(self) -> None:
        """A body over the bound is refused as soon as that shows, and the connection closed."""
        self.send("POST /tree/ HTTP/1.1", "content-length: 100", body=b"x" * 100)
        self.assertEqual(self.said().body, b"/tree/ " + b"x" * 100)
        self.send("POST /tree/ HTTP/1.1", "content-length: 101")
        self.assertEqual(self.said().status, "HTTP/1.1 413 Request Entity Too Large")
        self.assertTrue(self.transport.disconnecting)
        self.connect()
        self.send("POST /tree/ HTTP/1.1", "transfer-encoding: chunked", body=b"60\r\n" + b"x" * 96)
        self.assertEqual(self.transport.value(), b"")
        self.channel.dataReceived(b"\r\n60\r\n" + b"x" * 96)
        self.assertEqual(self.said().status, "HTTP/1.1 413 Request Entity Too Large")
        self.assertTrue(self.transport.disconnecting)

    def test_endless_length(self) -> None:
        """A length that no number holds is a bad request."""
        self.send("POST /tree/ HTTP/1.1", f"content-length: {'9' * 5000}")
        self.assertEqual(self.transport.value(), b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertTrue(self.transport.disconnecting)

    def test_form_body(self) -> None:
        """A body is a body, also if its type says that it is a form."""
        self.send(
            "POST /tree/ HTTP/1.1",
            "content-type: application/x-www-form-urlencoded",
            "content-length: 4",
            body=b"a=%3",
        )
        self.assertEqual(self.said().body, b"/tree/ a=%3")
        self.send(
            "POST /tree/ HTTP/1.1",
            "content-type: multipart/form-data",
            "content-length: 4",
            body=b"a=%3",
        )
        self.assertEqual(self.said().body, b"/tree/ a=%3")


class AccessTests(PagesTestCase):
    def ask(self, *lines: str) -> Answer:
        self.channel.dataReceived("\r\n".join((*lines, "", "")).encode())
        return self.said()

    def test_all_origins(self) -> None:
        """``*`` lets any web page read, errors included. No software is named; the date is."""
        self.connect(Access(["*"], ["*"]))
        for target in ("/version", "/nope"):
            headers = self.get(target).headers
            self.assertEqual(headers["access-control-allow-origin"], "*")
            self.assertEqual(
                headers["access-control-allow-methods"], "post, get, options, put, delete"
            )
            self.assertEqual(
                headers["access-control-allow-headers"], "accept, content-type, authorization"
            )
            self.assertNotIn("server", headers)
            self.assertTrue(headers["date"].endswith("gmt"))

    def test_peer_port(self) -> None:
        """Without rules there are no such headers, and OPTIONS is a method like others."""
        headers = self.get("/version").headers
        self.assertFalse([name for name in headers if name.startswith("access-control")])
        self.assertEqual(self.ask("OPTIONS /version HTTP/1.1", "host: a").headers["allow"], "get")

    def test_listed_origins(self) -> None:
        """Only listed origins get the headers; others are served without."""
        self.connect(Access(["http://a.example:80"], ["*"]))
        for origin in ("http://a.example:80", "http://b.example:80"):
            answer = self.ask("GET /version HTTP/1.1", "host: x", f"origin: {origin}")
            expected = origin if "//a." in origin else None
            self.assertEqual(answer.headers.get("access-control-allow-origin"), expected)
            self.assertEqual(answer.status, "HTTP/1.1 200 OK")

    def test_options(self) -> None:
        """A preflight is answered 200 and empty, whatever the path."""
        self.connect(Access(["*"], ["*"]))
        for target in ("/version", "/nope", "/tree/x"):
            answer = self.ask(f"OPTIONS {target} HTTP/1.1", "host: x")
            self.assertEqual(answer.status, "HTTP/1.1 200 OK")
            self.assertEqual((answer.headers["content-length"], answer.rest), ("0", b""))
            self.assertEqual(answer.headers["access-control-allow-origin"], "*")

    def test_hosts(self) -> None:
        """A host name that is not listed is refused with the sentence of etcd, port and brackets
        aside; nothing else about the request is looked at."""
        self.connect(Access(["*"], ["localhost", "::1"]))
        for host, listed in (
            ("localhost", True),
            ("localhost:2379", True),
            ("[::1]:2379", True),
            ("evil.example:99", False),
            ("LOCALHOST", False),
        ):
            answer = self.ask("GET /version HTTP/1.1", f"host: {host}")
            self.assertEqual(answer.status.split()[1], "200" if listed else "421", host)
            if not listed:
                name = host.partition(":")[0]
                self.assertIn(f'  - e.g. etcd --host-whitelist "{name}"\n'.encode(), answer.body)
                self.assertTrue(answer.body.startswith(b"\netcd received your request, but"))
                self.assertNotIn("access-control-allow-origin", answer.headers)


class ConnectionTests(PagesTestCase):
    def test_closing(self) -> None:
        """HTTP/1.0 and ``connection: close`` end the connection after the answer."""
        for lines in (["GET /version HTTP/1.0"], ["GET /version HTTP/1.1", "connection: close"]):
            self.connect()
            self.send(*lines)
            self.assertTrue(self.said().body)
            self.assertTrue(self.transport.disconnecting)

    def test_not_http(self) -> None:
        """What is no request is answered 400 and the connection closed."""
        self.channel.dataReceived(b"nonsense\r\n\r\n")
        self.assertEqual(self.said().status, "HTTP/1.1 400 Bad Request")
        self.assertTrue(self.transport.disconnecting)

    def test_idle(self) -> None:
        """An idle connection is closed on our own clock, and an idle factory has no timers."""
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(IDLE_SECONDS - 1)
        self.get("/version")
        self.clock.advance(IDLE_SECONDS - 1)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(self.transport.disconnecting)
