"""Clients that say with their request that they will send no more, on real sockets."""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.requests import HttpRequest, Resource, answer
from etcdtw.api.http.resources import Page
from etcdtw.api.http.site import Site
from etcdtw.api.metrics.page import MetricsPage
from etcdtw.http2.frames import PREFACE, settings_frame
from etcdtw.rpc import ClientPortFactory, Router, ServerSettings
from tests.rpc.wire import Wire

TEXT = b"here" * 1_000_000


class _Text(Page):
    def show(self, request: HttpRequest) -> bytes:
        return answer(request, 200, TEXT, b"text/plain")


class _Never(Page):
    def show(self, request: HttpRequest) -> None:
        """Like a watch: what comes, comes later."""


class HalfClosedTests(TestCase):
    def setUp(self) -> None:
        from twisted.internet import reactor

        self.clock = Clock()
        pages: dict[bytes, Resource] = {
            b"/text": _Text(),
            b"/never": _Never(),
            b"/metrics": MetricsPage([], cast(Any, reactor)),
        }
        site = HttpFactory(Site(pages), self.clock)
        self.factory = ClientPortFactory(Router(), site, ServerSettings(), self.clock)
        self.port = cast(Any, reactor).listenTCP(0, self.factory, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port.getHost().port), 5) as client:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(1 << 16), b""))

    async def test_answered(self) -> None:
        """They get the whole answer, as from etcd, and leave no timer."""
        said = await deferToThread(self._ask, b"GET /text HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(said.startswith(b"HTTP/1.1 200 OK"))
        self.assertTrue(said.endswith(TEXT))
        self.assertEqual(self.factory.connection_count, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_answered_later(self) -> None:
        """What takes several turns, but nothing else, is answered too."""
        said = await deferToThread(self._ask, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(said.startswith(b"HTTP/1.1 200 OK"))
        self.assertIn(b"promhttp_metric_handler_requests_in_flight 1.0\n", said)
        self.assertEqual(self.factory.connection_count, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """A server that stops while such an answer leaves keeps no timer behind."""
        wire = Wire(self.factory.router, factory=self.factory, clock=self.clock, handshake=False)
        self.patch(wire.transport, "unregisterProducer", lambda: None)  # real ones mind no second
        wire.send(b"GET /text HTTP/1.1\r\nHost: x\r\n\r\n")
        wire.protocol.readConnectionLost()
        stopped = self.factory.stop()
        wire.lose()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_nothing_to_wait_for(self) -> None:
        """Without an answer on its way, and with HTTP/2, the connection is over."""
        never = b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n"
        for request in (b"", b"GET /te", never, PREFACE + settings_frame({})):
            said = await deferToThread(self._ask, request)
            self.assertNotIn(b"HTTP/1.1", said)
        self.assertEqual(self.factory.connection_count, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
