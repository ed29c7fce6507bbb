"""The reactor of the console command."""

from __future__ import annotations

import socket
from time import monotonic
from unittest import skipUnless

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

try:
    from etcdtw.app.reactor import EagerEPollReactor
except ImportError:  # no epoll on this platform
    EagerEPollReactor = None


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


@skipUnless(EagerEPollReactor, "epoll is Linux's")
class ReactorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = EagerEPollReactor()
        self.addCleanup(self._close)

    def _close(self) -> None:
        for selectable in self.reactor.removeAll():
            selectable.connectionLost(Failure(ConnectionDone()))
        for selectable in list(self.reactor._internalReaders):
            self.reactor.removeReader(selectable)
            selectable.connectionLost(Failure(ConnectionDone()))
        self.reactor._poller.close()

    def test_provides_tcp(self) -> None:
        """It is a TCP reactor like the one it extends."""
        self.assertTrue(IReactorTCP.providedBy(self.reactor))

    def test_serves_sockets(self) -> None:
        """Bytes come in and go out, one iteration each."""
        factory = ServerFactory.forProtocol(Echo)
        factory.noisy = False
        port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        client = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(client.close)
        client.settimeout(5)
        client.sendall(b"hello")
        answer = b""
        while len(answer) < 5:
            self.reactor.doIteration(1)
            client.setblocking(False)
            try:
                answer += client.recv(5)
            except BlockingIOError:
                pass
        self.assertEqual(answer, b"hello")

    def test_waits_no_longer_than_told(self) -> None:
        """Without events an iteration ends at its timeout, eager or not."""
        for eager in (False, True):
            self.reactor._eager = eager
            begin = monotonic()
            self.reactor.doIteration(0.02)
            self.assertGreaterEqual(monotonic() - begin, 0.019)
            self.assertFalse(self.reactor._eager)

    def test_idle_iteration_returns_at_once(self) -> None:
        """With a timeout of zero it only looks."""
        begin = monotonic()
        self.reactor.doIteration(0)
        self.assertLess(monotonic() - begin, 0.5)
