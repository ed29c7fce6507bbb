"""The reactor of the console command."""

from __future__ import annotations

import socket
from time import monotonic
from unittest import skipUnless

from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.error import AlreadyCalled, AlreadyCancelled, ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTCP
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

try:
    from etcdtw.app.reactor import EagerEPollReactor
except ImportError:  # no epoll on this platform
    has_epoll = False
else:
    has_epoll = True


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None, "it is connected"
        self.transport.write(data)


@skipUnless(has_epoll, "epoll is Linux's")
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

    def test_clock_is_set(self) -> None:
        """Whatever becomes of the time of day, calls come when they are due."""
        now = [1_000_000.0]
        self.patch(ReactorBase, "seconds", staticmethod(lambda: now[0]))
        called: list[str] = []
        self.reactor.callLater(0.02, called.append, "soon")
        later = self.reactor.callLater(100.0, called.append, "later")
        self.reactor.callLater(0, called.append, "now")
        for hours in (-1, 1):
            now[0] += hours * 3600
            end = monotonic() + 0.05
            while monotonic() < end:
                self.reactor.runUntilCurrent()
                self.reactor.doIteration(0.01)
        self.assertEqual(called, ["now", "soon"])
        later.cancel()

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

    def test_fault_while_reading(self) -> None:
        """A protocol that raises is told that its connection is lost, and logged."""

        class Faulty(Protocol):
            lost: Failure | None = None

            def dataReceived(self, data: bytes) -> None:
                raise ValueError("no")

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                Faulty.lost = reason

        factory = ServerFactory.forProtocol(Faulty)
        factory.noisy = False
        port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        client = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(client.close)
        client.sendall(b"hello")
        while Faulty.lost is None:
            self.reactor.doIteration(1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    # --- calls that are due at once ---

    def turn(self) -> None:
        """What the main loop does once, but without an endless wait."""
        self.reactor.runUntilCurrent()
        self.reactor.doIteration(self.reactor.timeout() or 0)

    def test_at_once(self) -> None:
        """Calls without a delay are made in order, in this turn, and what they ask for in the
        next."""
        made: list[object] = []

        def first(number: int, *, word: str) -> None:
            made.append((number, word))
            self.reactor.callLater(0, made.append, "later")

        call = self.reactor.callLater(0, first, 1, word="a")
        self.reactor.callLater(0.0, made.append, 2)
        self.assertEqual(self.reactor.timeout(), 0)
        self.assertEqual(len(self.reactor.getDelayedCalls()), 2)
        self.assertTrue(verifyObject(IDelayedCall, call))
        self.turn()
        self.assertEqual(made, [(1, "a"), 2])
        self.assertFalse(call.active())
        self.assertRaises(AlreadyCalled, call.cancel)
        self.turn()
        self.assertEqual(made[2:], ["later"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_cancelled(self) -> None:
        """A cancelled one is not made."""
        call = self.reactor.callLater(0, self.fail)
        call.cancel()
        self.assertFalse(call.active())
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.turn()
        self.assertRaises(AlreadyCancelled, call.cancel)

    def test_moved(self) -> None:
        """One that is put off becomes a timer like any other."""
        made: list[int] = []
        for number, put_off in enumerate((DelayedCall.delay, DelayedCall.reset)):
            call = self.reactor.callLater(0, made.append, number)
            put_off(call, 0.02)
            self.turn()
            self.assertEqual(made, list(range(number)))
            while call.active():
                self.turn()
            self.assertEqual(made, list(range(number + 1)))
        call = self.reactor.callLater(0, self.fail)
        call.delay(60)
        self.turn()
        self.assertEqual(self.reactor.getDelayedCalls(), [call])
        call.cancel()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_fault_in_call(self) -> None:
        """A call that raises is logged, and the others are made."""
        made: list[int] = []
        self.reactor.callLater(0, lambda: 1 / 0)
        self.reactor.callLater(0, made.append, 1)
        self.turn()
        self.assertEqual(made, [1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
