"""When a leader looks."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.leader_checks import LeaderCheck

SECONDS = 5.0


class LeaderCheckTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.under_way: list[Deferred[None]] = []
        self.check = LeaderCheck(self.look, "failed to look", self.clock, SECONDS)

    async def look(self) -> None:
        looked: Deferred[None] = Deferred()
        self.under_way.append(looked)
        await looked

    def test_while_it_leads(self) -> None:
        """Now and then, and no more when another leads; a failure ends nothing."""
        self.check.lead()
        self.check.lead()
        for count in (1, 2, 3):
            self.clock.advance(SECONDS)
            self.assertEqual(len(self.under_way), count)
            self.under_way[-1].errback(ValueError("nobody answers"))
        self.check.follow()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_at_a_time(self) -> None:
        """One that takes longer than from one to the next is not overtaken by others: they would
        pile up, and whatever else is done beside requests would wait behind them."""
        self.check.lead()
        self.clock.pump([SECONDS] * 4)
        self.assertEqual(len(self.under_way), 1)
        self.under_way[0].callback(None)
        self.clock.advance(SECONDS)
        self.assertEqual(len(self.under_way), 2)
