"""A daemon that is told to stop before it runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.taps.etcd import stop_once_running


class FakeReactor:
    """Remembers what is to be done when it runs."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.stops = 0

    def callWhenRunning(self, action: Callable[[], None]) -> None:
        self.waiting.append(action)

    def stop(self) -> None:
        self.stops += 1


class EarlyStopTests(SynchronousTestCase):
    def test_sigterm(self) -> None:
        """SIGTERM does not end the process, but stops the reactor once it runs; twice is once."""
        self.addCleanup(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        reactor = FakeReactor()
        stop_once_running(reactor)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        self.assertEqual(reactor.stops, 0)
        for action in reactor.waiting:
            action()
        self.assertEqual(reactor.stops, 1)
