"""What probes of a peer tell."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.counting import PeerCounts
from etcdtw.peer.calling import Answered
from etcdtw.peer.outgoing import Timeouts
from etcdtw.peer.probing import Prober
from tests.logs import logged

NOW = 1_790_000_000.0
AT = "2026-09-21T14:13:20.000000001Z"


class Caller:
    """Answers at once, or when the test says so."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.asked: list[str] = []
        self.answer: object = {"OK": True, "Now": AT}

    def call(self, method: bytes, url: str, *rest: Any) -> Deferred[Answered]:
        self.asked.append(url)
        if isinstance(self.answer, Deferred):
            return self.answer
        if self.answer is None:
            return fail(ConnectionRefusedError())
        return succeed(Answered(200, {}, json.dumps(self.answer).encode()))


class ProberTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.caller = Caller()
        self.counts = PeerCounts()
        self.events = logged(self, "etcdtw.peer")
        self.prober = Prober(
            self.caller,  # type: ignore[arg-type]
            5,
            lambda: "http://m5:1",
            self.counts,
            Timeouts(),
            lambda: NOW,
        )
        self.prober.start()
        self.addCleanup(self.prober.stop)

    @property
    def told(self) -> list[str]:
        return [event["what"] for event in self.events]

    def test_round_trip(self) -> None:
        """Every four seconds, and how long it took is counted; nothing is wrong."""
        self.caller.reactor.pump([1.0] * 12)
        self.assertEqual(self.caller.asked, ["http://m5:1/raft/probing"] * 3)
        self.assertEqual(sum(self.counts.round_trip_seconds.counts), 3)
        self.assertEqual(self.told, [])

    def test_slow_answer(self) -> None:
        """While an answer is waited for, nothing else is asked; it counts when it comes."""
        waiting: Deferred[Answered] = Deferred()
        self.caller.answer = waiting
        self.caller.reactor.pump([1.0] * 9)
        self.assertEqual(len(self.caller.asked), 1)
        body = json.dumps({"OK": True, "Now": AT}).encode()
        waiting.callback(Answered(200, {}, body))
        self.assertEqual(self.counts.round_trip_seconds.total, 5.0)

    def test_clock_drift(self) -> None:
        """A clock that is off by more than a second is told of, every half minute."""
        self.caller.answer = {"OK": True, "Now": "2026-09-21T16:13:22+02:00"}
        self.caller.reactor.pump([1.0] * 32)
        self.assertEqual(self.told, ["prober found high clock drift"])
        self.caller.reactor.pump([1.0] * 4)
        self.assertEqual(len(self.told), 2)

    def test_not_well(self) -> None:
        """So is a peer that does not answer, or not as one."""
        answers: tuple[object, ...] = (None, {"OK": False}, [], {"OK": True, "Now": "noon"})
        for answer in answers:
            self.caller.answer = answer
            self.caller.reactor.pump([1.0] * 36)
        self.assertEqual(self.told, ["prober detected unhealthy status"] * len(self.told))
        self.assertGreaterEqual(len(self.told), 4)
        self.assertEqual(sum(self.counts.round_trip_seconds.counts), 0)

    def test_stop(self) -> None:
        """Nothing is asked, and nothing told, after the end."""
        self.caller.answer = Deferred()
        self.caller.reactor.pump([1.0] * 5)
        self.prober.stop()
        self.caller.reactor.pump([1.0] * 10)
        self.assertEqual((len(self.caller.asked), self.told), (1, []))
