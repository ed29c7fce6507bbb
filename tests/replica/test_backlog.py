"""Entries that take several turns to apply."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from etcdtw.errors import Stopped, TimedOut
from etcdtw.raft.codec import encode_conf_change
from etcdtw.raft.messages import ConfChange, ConfChangeType, Entry, MessageType
from etcdtw.raft.state_machine import IStateMachine, Proposed
from etcdtw.replica import backlog
from etcdtw.replica.proposal import ConfChangeProposal
from etcdtw.turns import TakesTurns, Work
from tests.replica.floor import (
    OTHER,
    OWN,
    REQUEST_SECONDS,
    THIRD,
    TICK_SECONDS,
    Floor,
    NotingMachine,
)

ALL = (OWN, OTHER, THIRD)
PIECE_SECONDS = 0.004
PAUSE_SECONDS = 0.001


@implementer(IStateMachine)
class SlowMachine(NotingMachine):
    """Applies ``large N`` in N pieces, each of which takes a while, ``slow`` ones in one such,
    and quick ones together."""

    def __init__(self, floor: Floor) -> None:
        super().__init__(floor.journal)
        self.floor = floor

    def apply_run(
        self, entries: Sequence[Entry], proposals: Sequence[Proposed | None], start: int
    ) -> Sequence[object]:
        """Applies entries in a row that begin with ``quick`` together."""
        run = list(takewhile(lambda each: (each.data or b"").startswith(b"quick"), entries[start:]))
        if len(run) > 1:
            self._journal.append("together")
        return [
            super(SlowMachine, self).apply(*each)
            for each in zip(run, proposals[start:], strict=False)
        ]

    def apply(self, entry: Entry, proposed: Proposed | None) -> object:
        data = entry.data or b""
        if data.startswith(b"large"):
            raise TakesTurns(self._pieces(entry, proposed, int(data.split()[1])))
        if data.startswith(b"slow"):
            self.floor.clock.rightNow += PIECE_SECONDS
        return super().apply(entry, proposed)

    def _pieces(self, entry: Entry, proposed: Proposed | None, count: int) -> Work[object]:
        for number in range(count):
            self._journal.append(f"piece {number}")
            self.floor.clock.rightNow += PIECE_SECONDS
            yield
        return super().apply(entry, proposed)


class BacklogTests(SynchronousTestCase):
    def floor(self, voters: tuple[int, ...] = (OWN,), **options: Any) -> Floor:
        floor = Floor(voters, pause_seconds=PAUSE_SECONDS, machine=SlowMachine, **options)
        floor.start()
        floor.journal.clear()
        return floor

    def turn(self, floor: Floor, *datas: str) -> None:
        for data in datas:
            floor.propose(data)
        floor.clock.advance(PAUSE_SECONDS)

    def settle(self, floor: Floor) -> None:
        for _ in range(20):
            self.turn(floor)

    def test_slow_applies(self) -> None:
        """They are counted from the threshold on, however low it is."""
        for threshold, count in ((2 * PIECE_SECONDS, 0), (PIECE_SECONDS / 2, 1)):
            floor = self.floor(slow_apply_seconds=threshold)
            self.turn(floor, "slow")
            self.settle(floor)
            self.assertEqual(floor.answers, {"slow": "result of slow"})
            self.assertEqual(floor.replica.slowness.slow_applies, count)

    def test_order(self) -> None:
        """Later entries, membership changes among them, wait for the large one, and everybody is
        answered in the order of the log."""
        floor = self.floor()
        done: list[object] = []
        change = ConfChange(id=1, type=ConfChangeType.ADD_LEARNER_NODE, node_id=7)
        self.turn(floor, "a")
        self.turn(floor, "large 20")
        self.turn(floor, "b")
        floor.replica.propose(
            ConfChangeProposal(encode_conf_change(change), "conf_change", change, done.append)
        )
        self.turn(floor, "large 2", "c")
        self.assertEqual(set(floor.answers), {"a"})
        self.assertTrue(floor.replica.applies_in_turns)
        self.settle(floor)
        pieces = [f"piece {number}" for number in range(20)]
        self.assertEqual(
            [each for each in floor.journal if not each.startswith("send")],
            [
                "apply a of put",
                *pieces,
                "apply large 20 of put",
                "apply b of put",
                "configure (1,)",
                *pieces[:2],
                "apply large 2 of put",
                "apply c of put",
            ],
        )
        self.assertEqual(list(floor.answers), ["a", "large 20", "b", "large 2", "c"])
        self.assertEqual(done, [None])
        self.assertFalse(floor.replica.applies_in_turns)
        self.assertEqual(floor.node.applied, floor.machine.applied_index)

    def test_runs(self) -> None:
        """Entries that go together do so before, between and behind others, and each is answered
        with its own result."""
        floor = self.floor()
        datas = ("quick 1", "quick 2", "a", "quick 3", "large 2", "quick 4", "quick 5", "b")
        self.turn(floor, *datas)
        self.settle(floor)
        applied = [each for each in floor.journal if not each.startswith(("send", "sync", "write"))]
        self.assertEqual(
            applied,
            [
                "together",
                "apply quick 1 of put",
                "apply quick 2 of put",
                "apply a of put",
                "apply quick 3 of put",
                "piece 0",
                "piece 1",
                "apply large 2 of put",
                "together",
                "apply quick 4 of put",
                "apply quick 5 of put",
                "apply b of put",
            ],
        )
        self.assertEqual(floor.answers, {each: f"result of {each}" for each in datas})
        self.assertEqual(list(floor.answers), list(datas))
        self.assertFalse(floor.replica._proposals.waiting)

    def test_a_piece_in_each_turn(self) -> None:
        """A turn ends once it has taken its share of time; until the entry is applied the applied
        index stays where it was."""
        floor = self.floor()
        before = floor.machine.applied_index
        self.turn(floor, "large 9")
        self.assertEqual(floor.journal.count("piece 2"), 1)
        self.assertNotIn("piece 3", floor.journal)
        self.assertEqual((floor.machine.applied_index, floor.node.applied), (before, before))
        self.turn(floor)
        self.assertIn("piece 5", floor.journal)
        self.assertNotIn("piece 6", floor.journal)
        self.settle(floor)
        self.assertEqual(floor.machine.applied_index, before + 1)

    def test_many_at_once(self) -> None:
        """Entries that together take long are applied over several turns as well, in order."""
        floor = self.floor()
        names = [f"slow {number}" for number in range(20)]
        self.turn(floor, *names)
        first = len(floor.answers)
        self.assertLess(first, 10)
        self.assertFalse(floor.replica.applies_in_turns, "none of them is half applied")
        self.turn(floor, "after")
        self.assertLess(len(floor.answers), 2 * first + 10)
        self.settle(floor)
        self.assertEqual(list(floor.answers), [*names, "after"])
        self.assertEqual(floor.node.applied, floor.machine.applied_index)

    def test_the_many_behind_it(self) -> None:
        """Those that waited are applied in pieces too, and all of them before newer ones."""
        self.patch(backlog, "PIECE_ENTRIES", 2)
        floor = self.floor()
        self.turn(floor, "large 3")
        names = [f"{number}" for number in range(7)]
        floor.propose("large 1")
        for name in names:
            floor.propose(name)
        self.settle(floor)
        self.assertEqual(list(floor.answers), ["large 3", "large 1", *names])

    def test_reads_wait(self) -> None:
        """A linearizable read sees the large entry that was committed before it."""
        floor = self.floor()
        self.assertTrue(floor.replica.reads_are_local)
        self.turn(floor, "large 9")
        self.assertFalse(floor.replica.reads_are_local)
        floor.read("read")
        self.turn(floor)
        self.assertNotIn("read", floor.answers)
        self.settle(floor)
        self.assertEqual(list(floor.answers), ["large 9", "read"])

    def test_the_others_are_heard(self) -> None:
        """Meanwhile a leader sends and takes acknowledgements, and heartbeats go out."""
        floor = self.floor(ALL)
        floor.lead()
        floor.propose("large 1000")
        self.settle(floor)
        floor.acknowledge()
        self.turn(floor)
        floor.peers.sent.clear()
        self.assertTrue(floor.replica.applies_in_turns)
        floor.propose("a")
        self.turn(floor)
        self.assertIn(MessageType.APP, {each.type for each in floor.peers.sent})
        floor.clock.advance(TICK_SECONDS)
        self.turn(floor)
        self.assertIn(MessageType.HEARTBEAT, {each.type for each in floor.peers.sent})
        self.assertTrue(floor.replica.applies_in_turns)

    def test_who_waits_too_long(self) -> None:
        """Whoever asked hears at the usual time that it took too long; the entry is applied."""
        floor = self.floor()
        pieces = round(2 * REQUEST_SECONDS / PIECE_SECONDS)
        self.turn(floor, f"large {pieces}")
        while not floor.answers:
            floor.clock.advance(TICK_SECONDS)
        self.assertIsInstance(floor.answers[f"large {pieces}"], TimedOut)
        while floor.replica.applies_in_turns:
            self.settle(floor)
        self.assertEqual(floor.journal[-1], f"apply large {pieces} of put")

    def test_stopped_in_the_middle(self) -> None:
        """Nothing goes on after the end, and a start applies the entry from the beginning."""
        floor = self.floor()
        self.turn(floor, "large 9")
        floor.replica.stop()
        before = list(floor.journal)
        self.settle(floor)
        self.assertEqual(floor.journal, before)
        self.assertIsInstance(floor.answers["large 9"], Stopped)
        again = self.floor(disk=floor.disk)
        self.settle(again)
        self.assertEqual(again.journal[-1], "apply large 9")
