"""When a leader tells the others what is committed."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.raft.messages import Entry, EntryType, Message, MessageType
from etcdtw.replica.commit_notices import ASKED_SECONDS, HOLD_SECONDS
from tests.replica.floor import OTHER, OWN, THIRD, Floor

PROP = [Entry(term=0, index=0, type=EntryType.NORMAL, data=b"forwarded")]


class CommitNoticesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.floor = Floor((OWN, OTHER, THIRD))
        self.floor.start()
        self.floor.lead()
        self.floor.clock.advance(HOLD_SECONDS)
        self.floor.settle()
        self.floor.peers.sent.clear()

    def put(self, data: str) -> None:
        self.floor.propose(data)
        self.floor.settle()
        self.floor.acknowledge()

    def appends(self) -> list[Message]:
        return [each for each in self.floor.peers.sent if each.type == MessageType.APP]

    def notices(self) -> list[int]:
        """Who was told the commit index by a message of its own."""
        return [each.to for each in self.appends() if not each.entries]

    def test_goes_along(self) -> None:
        """The next entries bring the commit index; no message tells it alone."""
        for number in range(20):
            self.put(f"{number}")
            self.floor.acknowledge(THIRD)
        self.assertEqual(set(self.floor.answers), {f"{number}" for number in range(20)})
        appends = self.appends()
        self.assertEqual(self.notices(), [])
        self.assertEqual([each.commit for each in appends], [each.index for each in appends])

    def test_is_told_when_none_follow(self) -> None:
        """Without more entries it is told after a moment, once."""
        self.put("a")
        self.floor.acknowledge(THIRD)
        self.assertEqual(self.notices(), [])
        self.floor.clock.advance(HOLD_SECONDS)
        self.floor.settle()
        self.assertEqual(self.notices(), [OTHER, THIRD])
        self.assertEqual(self.appends()[-1].commit, self.floor.node.committed)
        self.floor.clock.advance(HOLD_SECONDS)
        self.floor.settle()
        self.assertEqual(self.notices(), [OTHER, THIRD])

    def test_at_once_for_who_asks_elsewhere(self) -> None:
        """After a request that a member has forwarded nothing is held from it for a while, for it
        answers when it has applied."""
        self.floor.hear(MessageType.PROP, term=0, entries=PROP)
        self.floor.acknowledge()
        self.assertEqual(self.notices(), [OTHER])
        self.floor.peers.sent.clear()
        for _ in range(2):
            self.floor.clock.advance(ASKED_SECONDS)
            self.floor.settle()
        self.floor.acknowledge(THIRD)
        self.floor.peers.sent.clear()
        self.put("a")
        self.assertEqual(self.notices(), [])

    def test_who_goes_on_asking(self) -> None:
        """Each request begins the while anew, for its member alone."""
        for _ in range(4):
            self.floor.hear(MessageType.PROP, term=0, entries=PROP)
            self.floor.clock.advance(ASKED_SECONDS / 2)
            self.floor.settle()
        self.floor.acknowledge(THIRD)
        self.floor.peers.sent.clear()
        self.floor.acknowledge()
        self.put("a")
        self.assertEqual(self.notices(), [OTHER])

    def test_a_question_brings_out_what_is_held(self) -> None:
        """A forwarded read must not wait for a commit index that is known."""
        self.put("a")
        self.floor.acknowledge(THIRD)
        question = [Entry(term=0, index=0, type=EntryType.NORMAL, data=b"context")]
        self.floor.hear(MessageType.READ_INDEX, term=0, entries=question)
        self.assertEqual(self.notices(), [OTHER])

    def test_a_silent_member_is_not_told_again_and_again(self) -> None:
        """Who does not answer is told once; heartbeats bring it back."""
        self.put("a")
        for _ in range(5):
            self.floor.clock.advance(HOLD_SECONDS)
            self.floor.settle()
        self.assertEqual(self.notices(), [OTHER, THIRD])

    def test_leaves_no_timer(self) -> None:
        """A stopped replica has nothing left to do."""
        self.floor.hear(MessageType.PROP, term=0, entries=PROP)
        self.put("a")
        self.floor.replica.stop()
        self.assertEqual(self.floor.clock.getDelayedCalls(), [])
