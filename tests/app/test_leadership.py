"""The first election and the last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.leadership import HeadStart, hand_over


class StandInTransport:
    def __init__(self) -> None:
        self.active: set[int] = {1}
        self.longest = 0
        self.asked: list[int] = []

    def active_ids(self, seconds: float) -> set[int]:
        return self.active

    def longest_active(self, member_ids: Iterable[int]) -> int:
        self.asked = list(member_ids)
        return self.longest


class StandInReplica:
    """Member 1 of three; it leads."""

    def __init__(self) -> None:
        self.node = SimpleNamespace(
            id=1, election_ticks=10, conf_state=lambda: SimpleNamespace(voters=(1, 2, 3))
        )
        self.is_leader = True
        self.has_stopped = False
        self.ticks = 0
        self.transferred: list[int] = []
        self.on_leader_change: list[Callable[[int], None]] = []

    def advance_ticks(self, ticks: int) -> None:
        self.ticks += ticks

    def transfer_leader(self, to: int) -> None:
        self.transferred.append(to)


class LeadershipTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.replica = StandInReplica()
        self.transport = StandInTransport()


class HeadStartTests(LeadershipTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.head_start = HeadStart(self.replica, self.transport, self.clock)  # type: ignore[arg-type]
        self.head_start.start()

    def test_two_peers(self) -> None:
        """All but two ticks are skipped, once, as soon as two peers are there."""
        self.transport.active = {1, 2}
        self.clock.pump([0.05] * 20)
        self.assertEqual(self.replica.ticks, 0)
        self.transport.active = {1, 2, 3}
        self.clock.pump([0.05] * 20)
        self.assertEqual(self.replica.ticks, 8)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_late(self) -> None:
        """After five seconds nobody looks any more."""
        self.clock.pump([0.05] * 101)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.replica.ticks, 0)

    def test_stop(self) -> None:
        """Stopping while it looks."""
        self.head_start.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class HandOverTests(LeadershipTestCase):
    def hand_over(self) -> list[None]:
        """What the end of it is told."""
        ended: list[None] = []
        hand_over(self.replica, self.transport, self.clock, 2.0).addCallback(ended.append)  # type: ignore[arg-type]
        return ended

    def test_to_longest_connected(self) -> None:
        """It ends when another leads, outside of the turn that told so."""
        self.transport.longest = 3
        ended = self.hand_over()
        self.assertEqual((self.transport.asked, self.replica.transferred), ([2, 3], [3]))
        changed = self.replica.on_leader_change[0]
        changed(0)
        changed(1)
        self.clock.advance(0)
        self.assertEqual(ended, [])
        changed(3)
        self.assertEqual(ended, [])
        self.clock.advance(0)
        self.assertEqual(ended, [None])

    def test_nobody_takes_it(self) -> None:
        """It ends after its time, and whoever leads later disturbs nobody."""
        self.transport.longest = 2
        ended = self.hand_over()
        self.clock.advance(2)
        self.assertEqual(ended, [None])
        self.replica.on_leader_change[0](3)
        self.clock.advance(0)

    def test_nothing_to_do(self) -> None:
        """At once: nobody is connected, another leads, or the replica is at its end already."""
        self.assertEqual(self.hand_over(), [None])
        self.transport.longest = 2
        self.replica.is_leader = False
        self.assertEqual(self.hand_over(), [None])
        self.replica.is_leader = self.replica.has_stopped = True
        self.assertEqual(self.hand_over(), [None])
        self.assertEqual(self.replica.transferred, [])
