"""Plain and TLS connections on one port."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.tls.either import EitherFactory
from etcdtw.tls.transport import HANDSHAKE_SECONDS


class Noting(Protocol):
    def __init__(self) -> None:
        self.heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data


class EitherTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        plain: Any = Factory.forProtocol(lambda: self.plain)
        secure: Any = Factory.forProtocol(lambda: self.secure)
        self.plain, self.secure = Noting(), Noting()
        self.factory = EitherFactory(plain, secure, self.clock)
        self.transport = StringTransport()
        self.protocol = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        self.protocol.makeConnection(self.transport)

    def test_told_apart(self) -> None:
        """By the first byte: a handshake's record, or anything else."""
        for data, name in ((b"\x16\x03\x01", "secure"), (b"PRI * HTTP", "plain")):
            self.setUp()
            serving = getattr(self, name)
            self.protocol.dataReceived(data)
            self.assertEqual(serving.heard, data)
            self.assertIs(serving.transport, self.transport)
            # What follows goes there directly.
            self.assertIs(self.transport.protocol, serving)  # type: ignore[attr-defined]
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silence(self) -> None:
        """Who says nothing is let go."""
        self.clock.advance(HANDSHAKE_SECONDS)
        self.assertTrue(self.transport.disconnected)

    def test_left(self) -> None:
        """Who leaves leaves nothing behind."""
        self.protocol.connectionLost()
        self.assertEqual(self.clock.getDelayedCalls(), [])
