"""Long work in short pieces."""

from __future__ import annotations

from functools import partial
from typing import NoReturn

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.replica.slices import PAUSE_SECONDS, SLICE_SECONDS, Slices


class SlicesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.slices = Slices(self.clock)
        self.log: list[str] = []

    def job(self, name: str, steps: int, seconds: float) -> None:
        """A job of ``steps`` that take ``seconds`` each."""
        left = steps

        def step() -> bool:
            nonlocal left
            left -= 1
            self.clock.rightNow += seconds
            self.log.append(name)
            return left == 0

        self.slices.run(step, lambda: self.log.append(f"{name} done"))

    def turn(self, seconds: float = 0.0) -> list[str]:
        """What happens in one turn of the reactor."""
        self.log.clear()
        self.clock.advance(seconds)
        return list(self.log)

    def test_not_at_once(self) -> None:
        """Nothing runs within ``run``; short jobs share one slice, in their order."""
        self.job("a", 2, 0.0)
        self.job("b", 1, 0.0)
        self.assertEqual(self.log, [])
        self.assertEqual(self.turn(), ["a", "a", "a done", "b", "b done"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_pause(self) -> None:
        """A slice ends when its time is over, and the next one comes after a pause."""
        self.job("a", 5, SLICE_SECONDS / 2)
        self.assertEqual(self.turn(), ["a", "a"])
        self.assertEqual(self.turn(PAUSE_SECONDS / 2), [])
        self.assertEqual(self.turn(PAUSE_SECONDS / 2), ["a", "a"])
        self.assertEqual(self.turn(PAUSE_SECONDS), ["a", "a done"])

    def test_added_by_done(self) -> None:
        """A job that the end of another one brings runs too."""
        self.slices.run(lambda: True, lambda: self.job("b", 1, 0.0))
        self.assertEqual(self.turn(), ["b", "b done"])
        self.job("c", 1, 0.0)
        self.assertEqual(self.turn(), ["c", "c done"])

    def test_added_by_step(self) -> None:
        """Jobs that come from within a step begin no second row of slices."""

        def step() -> bool:
            self.job("b", 2, SLICE_SECONDS)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            return True

        self.slices.run(step)
        self.assertEqual(self.turn(), ["b"])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual(self.turn(PAUSE_SECONDS), ["b", "b done"])

    def test_failure(self) -> None:
        """A job that fails is gone, the others are not; whoever waits for it may know."""
        problem = ValueError()
        told: list[Exception] = []

        def fail() -> NoReturn:
            raise problem

        self.slices.run(fail, failed=told.append)
        self.slices.run(lambda: True, fail)
        self.job("a", 1, 0.0)
        self.assertRaises(ValueError, self.turn)
        self.assertEqual(told, [problem])
        self.assertRaises(ValueError, self.turn, PAUSE_SECONDS)
        self.assertEqual(self.turn(PAUSE_SECONDS), ["a", "a done"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped_by_step(self) -> None:
        """A job may stop them all, with its last step or before."""

        def stop(is_done: bool) -> bool:
            self.slices.stop()
            return is_done

        for is_done in (True, False):
            self.slices = Slices(self.clock)
            self.slices.run(partial(stop, is_done))
            self.job("a", 1, 0.0)
            self.assertEqual(self.turn(), [])
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """After ``stop`` nothing runs, neither what was under way nor what comes."""
        self.job("a", 5, SLICE_SECONDS)
        self.turn()
        self.slices.stop()
        self.job("b", 1, 0.0)
        self.assertEqual(self.turn(10.0), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
