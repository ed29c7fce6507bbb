"""The way through a proxy to where TLS is spoken."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.peer.tunnel import HEAD_BYTES_MAX, ProxyRefused, TunnelEndpoint
from etcdtw.testing.streams import StreamNetwork
from etcdtw.testing.time import VirtualTime


class End(Protocol):
    """One end of a connection; notes what comes."""

    def __init__(self) -> None:
        self.received = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True


class TunnelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = VirtualTime(1)
        self.clock = self.time.view()
        self.network = StreamNetwork(self.clock, random.Random(1), piece_bytes_max=64)
        self.proxy = End()
        self.network.listen("proxy", 3128, Factory.forProtocol(lambda: self.proxy))

    def connect(self, host: str = "etcd.test", authorization: bytes = b"") -> Deferred[Any]:
        proxy = self.network.endpoint("client", "proxy", 3128)
        tunnel = TunnelEndpoint(self.clock, proxy, host, 2379, 5.0, authorization)
        connecting: Deferred[Any] = tunnel.connect(Factory.forProtocol(End))
        self.run_for(1)
        return connecting

    def run_for(self, seconds: float) -> None:
        self.time.run_until(self.time.now + seconds)

    def answer(self, data: bytes) -> None:
        transport: Any = self.proxy.transport
        transport.write(data)
        self.run_for(1)

    def test_led_through(self) -> None:
        """DI17: the proxy is asked for host and port; what follows its answer is the host's."""
        connecting = self.connect()
        self.assertEqual(
            self.proxy.received, b"CONNECT etcd.test:2379 HTTP/1.1\r\nhost: etcd.test:2379\r\n\r\n"
        )
        self.answer(b"HTTP/1.1 200 OK, go on\r\nvia: x\r\n\r\nhello ")
        end = self.successResultOf(connecting)
        self.answer(b"you")
        self.assertEqual(end.received, b"hello you")
        end.transport.write(b"ping")
        self.run_for(1)
        self.assertTrue(self.proxy.received.endswith(b"\r\n\r\nping"))
        transport: Any = self.proxy.transport
        transport.loseConnection()
        self.run_for(1)
        self.assertTrue(end.lost)

    def test_addresses_and_words(self) -> None:
        """IPv6 addresses are in brackets; what the proxy wants to know of its users is said."""
        self.connect("::1", b"Basic abc")
        self.assertEqual(
            self.proxy.received,
            b"CONNECT [::1]:2379 HTTP/1.1\r\nhost: [::1]:2379\r\n"
            b"proxy-authorization: Basic abc\r\n\r\n",
        )

    def refusal(self, answer: bytes) -> str:
        self.proxy = End()
        connecting = self.connect()
        self.answer(answer)
        reason = str(self.failureResultOf(connecting, ProxyRefused).value)
        self.run_for(1)
        self.assertTrue(self.proxy.lost)
        return reason

    def test_refused(self) -> None:
        """Another answer than 200 is repeated; what is no answer, or never ends, is none."""
        self.assertIn(
            "'HTTP/1.1 407 Proxy Authentication Required'",
            self.refusal(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
        )
        self.assertIn("it answered 'SSH-2.0'", self.refusal(b"SSH-2.0\r\n\r\n"))
        self.assertIn("no end", self.refusal(b"HTTP/1.1 200 OK\r\n" + b"x" * HEAD_BYTES_MAX))

    def test_closed(self) -> None:
        """A proxy that hangs up."""
        connecting = self.connect()
        transport: Any = self.proxy.transport
        transport.loseConnection()
        self.run_for(1)
        self.failureResultOf(connecting, ProxyRefused)

    def test_silent(self) -> None:
        """A proxy that never answers is left when the time is up."""
        connecting = self.connect()
        self.run_for(5)
        self.failureResultOf(connecting, TimeoutError)
        self.run_for(1)
        self.assertTrue(self.proxy.lost)
