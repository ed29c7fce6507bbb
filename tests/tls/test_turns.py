"""Handshakes take at most their share of the time."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.tls.turns import BURST_SECONDS, SHARE, HandshakeTurns


class TurnsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.meter = 0.0
        self.turns = HandshakeTurns(self.clock, lambda: self.meter)
        self.done: list[int] = []

    def step(self, number: int, seconds: float, stolen: float = 0) -> Callable[[], None]:
        def run() -> None:
            self.clock.rightNow += seconds * (1 + stolen)
            self.meter += seconds
            self.done.append(number)

        return run

    def test_at_once(self) -> None:
        """Few handshakes do not wait."""
        for number in range(10):
            self.turns.run(self.step(number, BURST_SECONDS / 2))
            self.assertEqual(self.done[-1], number)
            self.clock.advance(BURST_SECONDS)

    def test_flood(self) -> None:
        """Many wait for their turn, in order, and leave the rest of the time to others."""
        for number in range(100):
            self.turns.run(self.step(number, BURST_SECONDS / 4))
        self.assertLess(len(self.done), 20)
        begin, spent_before = self.clock.seconds(), len(self.done)
        while len(self.done) < 100:
            self.clock.advance(BURST_SECONDS)
        self.assertEqual(self.done, list(range(100)))
        worked = (100 - spent_before) * BURST_SECONDS / 4
        self.assertLess(worked / (self.clock.seconds() - begin), SHARE * 1.1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failing_step(self) -> None:
        """A step that fails, also while others wait, is the only one to suffer."""

        def fail() -> None:
            raise RuntimeError("as asked for")

        with self.assertRaises(RuntimeError):
            self.turns.run(fail)
        self.turns.run(self.step(0, 3 * BURST_SECONDS))
        self.turns.run(fail)
        self.turns.run(self.step(1, 0))
        with self.assertRaises(RuntimeError):
            self.clock.pump([BURST_SECONDS] * 3)
        self.clock.pump([BURST_SECONDS] * 3)
        self.assertEqual(self.done, [0, 1])
        self.turns.run(self.step(2, 0))
        self.assertEqual(self.done, [0, 1, 2])

    def test_stolen_time(self) -> None:
        """Steps that take long only because the processor was elsewhere make nobody wait."""
        for number in range(10):
            self.turns.run(self.step(number, BURST_SECONDS / 4, stolen=100))
        self.assertEqual(self.done, list(range(10)))
