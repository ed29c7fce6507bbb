"""Answers that take many turns."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3.working_out import work_out
from etcdtw.errors import Code, Compacted, StatusError
from etcdtw.replica.slices import PAUSE_SECONDS, Slices
from tests.api_v3.fakes import FakeUnary


class Job:
    """Takes so many steps; ``problem`` is what the last one raises."""

    def __init__(self, steps: int, problem: Exception | None = None) -> None:
        self.left = steps
        self.problem = problem
        self.closed = 0

    def step(self) -> bool:
        self.left -= 1
        if not self.left and self.problem is not None:
            raise self.problem
        return self.left <= 0

    def close(self) -> None:
        self.closed += 1
        self.left = 0


class WorkOutTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.slices = Slices(self.clock)
        self.call = FakeUnary()

    def begin(self, job: Job, problem: Exception | None = None) -> None:
        def answer() -> bytes:
            if problem is not None:
                raise problem
            return b"answer"

        work_out(self.slices, cast("Any", self.call), job, answer)

    def test_answered(self) -> None:
        """Not within the request's own turn."""
        self.begin(Job(3))
        self.assertIsNone(self.call.answer)
        self.clock.advance(0)
        self.assertEqual(self.call.answer, b"answer")

    def test_refused(self) -> None:
        """What is found out at the end only."""
        problem = Compacted()
        self.begin(Job(1), problem)
        self.clock.advance(0)
        self.assertIs(self.call.answer, problem)

    def test_failed(self) -> None:
        """The client is told, nothing is held on to, and the others go on."""
        job, problem = Job(2, ValueError("disk")), ValueError
        self.begin(job)
        self.assertRaises(problem, self.clock.advance, 0)
        told = self.call.answer
        assert isinstance(told, StatusError)
        self.assertEqual((told.code, str(told), job.closed), (Code.UNKNOWN, "disk", 1))
        self.call = FakeUnary()
        self.begin(Job(1))
        self.clock.advance(PAUSE_SECONDS)
        self.assertEqual(self.call.answer, b"answer")

    def test_cancelled(self) -> None:
        """Nobody works for a client who has gone."""
        job = Job(1000)
        self.begin(job)
        self.call.done = True
        assert self.call.on_cancel is not None
        self.call.on_cancel()
        self.clock.advance(0)
        self.assertEqual((job.closed, self.call.answer), (1, None))
