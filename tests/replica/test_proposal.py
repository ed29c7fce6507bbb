"""Requests on their way through the log."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import EtcdError, Stopped, TimedOut
from etcdtw.raft import ConfChangeRefused, ProposalDropped
from etcdtw.raft.messages import ConfChange, ConfChangeType
from etcdtw.replica.proposal import ConfChangeProposal, Proposal, ProposalQueue

SECONDS = 5.0
CHANGE = ConfChange(1, ConfChangeType.REMOVE_NODE, 2)


class FakeNode:
    """Takes proposals while it has a leader; refuses membership changes when told."""

    def __init__(self) -> None:
        self.has_leader = True
        self.refuses_changes = False
        self.taken: list[list[bytes]] = []

    def propose_batch(self, datas: list[bytes]) -> None:
        if not self.has_leader:
            raise ProposalDropped
        self.taken.append(datas)

    def propose_conf_change(self, data: bytes, change: ConfChange) -> None:
        if self.refuses_changes:
            raise ConfChangeRefused("no voter would be left")
        self.propose_batch([data])


class ProposalQueueTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.queue = ProposalQueue(SECONDS)
        self.node = FakeNode()
        self.answers: list[tuple[bytes, object]] = []

    def proposal(self, data: bytes, kind: type[Proposal] = Proposal) -> Proposal:
        return kind(data, "put", CHANGE, lambda result: self.answers.append((data, result)))

    def add(self, *names: bytes, now: float = 0.0) -> None:
        """Names that begin with ``c`` are membership changes."""
        for name in names:
            kind = ConfChangeProposal if name.startswith(b"c") else Proposal
            self.queue.add(self.proposal(name, kind), now)

    def hand_over(self) -> None:
        self.queue.hand_over(self.node)  # type: ignore[arg-type]

    def outcome(self) -> list[tuple[bytes, type, str]]:
        return [(data, type(error), str(error)) for data, error in self.answers]

    def test_order(self) -> None:
        """Everything is handed over once, in its order; what lies between two membership changes
        is one batch."""
        self.add(b"1", b"2", b"c1", b"3", b"c2", b"c3", b"4", b"5")
        self.assertTrue(self.queue.new_count)
        self.hand_over()
        wanted = [[b"1", b"2"], [b"c1"], [b"3"], [b"c2"], [b"c3"], [b"4", b"5"]]
        self.assertEqual(self.node.taken, wanted)
        self.hand_over()
        self.assertEqual(self.node.taken, wanted)
        self.assertFalse(self.queue.new_count)
        self.assertEqual((len(self.queue), self.answers), (8, []))

    def test_without_leader(self) -> None:
        """What cannot be handed over stays in its order and goes when there is a leader; nobody
        is told meanwhile."""
        self.add(b"1", b"c1", b"2")
        self.node.has_leader = False
        self.hand_over()
        self.add(b"3")
        self.hand_over()
        self.assertEqual((self.node.taken, self.answers), ([], []))
        self.node.has_leader = True
        self.hand_over()
        self.assertEqual(self.node.taken, [[b"1"], [b"c1"], [b"2", b"3"]])

    def test_leader_lost_half_way(self) -> None:
        """What was taken before the leader was lost is not handed over again."""
        self.add(b"1", b"c1", b"2")
        take = self.node.propose_batch

        def take_one(datas: list[bytes]) -> None:
            take(datas)
            self.node.has_leader = False

        self.node.propose_batch = take_one  # type: ignore[method-assign]
        self.hand_over()
        self.node.has_leader, self.node.propose_batch = True, take  # type: ignore[method-assign]
        self.hand_over()
        self.assertEqual(self.node.taken, [[b"1"], [b"c1"], [b"2"]])

    def test_refused_change(self) -> None:
        """A refused membership change is answered, and only it; what comes behind it goes on."""
        self.add(b"1", b"c1", b"2")
        self.node.refuses_changes = True
        self.hand_over()
        self.assertEqual(self.node.taken, [[b"1"], [b"2"]])
        self.assertEqual([data for data, _, _ in self.outcome()], [b"c1"])
        self.assertIn("no voter", self.outcome()[0][2])
        self.assertEqual(len(self.queue), 2)

    def test_proposed_by_an_answer(self) -> None:
        """A request that a refusal gives rise to is kept, even when the leader is lost just
        then."""
        refused = ConfChangeProposal(b"c1", "put", CHANGE, lambda result: self.add(b"3"))
        self.queue.add(refused, 0.0)
        self.add(b"2")
        self.node.refuses_changes = True
        self.node.has_leader = False
        self.hand_over()
        self.node.has_leader = True
        self.hand_over()
        self.assertEqual(self.node.taken, [[b"2", b"3"]])

    def test_timeout(self) -> None:
        """Who waits too long is told so, handed over or not, and is not handed over later."""
        self.add(b"1", now=0.0)
        self.hand_over()
        self.add(b"2", now=1.0)
        self.add(b"3", now=2.0)
        self.queue.expire(SECONDS - 0.1)
        self.assertEqual(self.answers, [])
        self.queue.expire(SECONDS + 1.0)
        self.assertEqual(
            [(data, kind) for data, kind, _ in self.outcome()], [(b"1", TimedOut), (b"2", TimedOut)]
        )
        self.hand_over()
        self.assertEqual(self.node.taken, [[b"1"], [b"3"]])
        self.assertEqual(list(self.queue.waiting), [b"3"])

    def test_fail_all(self) -> None:
        """At the end everybody who waits is told, once."""
        self.add(b"1")
        self.hand_over()
        self.add(b"2", b"c1")
        self.queue.fail_all(Stopped())
        self.queue.fail_all(Stopped())
        self.assertEqual([data for data, _ in self.answers], [b"1", b"2", b"c1"])
        self.assertTrue(all(isinstance(error, EtcdError) for _, error in self.answers))
        self.assertFalse(self.queue.new_count)
