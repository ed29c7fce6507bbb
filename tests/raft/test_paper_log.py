"""What is in the log: sentences of the Raft paper (extended version) and of Ongaro's thesis."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.raft.messages import MessageType
from tests.raft.lone_node import LoneNode, entries_of, entry, of_type, ready_of

APP, VOTE, VOTE_RESP = MessageType.APP, MessageType.VOTE, MessageType.VOTE_RESP
HEARTBEAT, HEARTBEAT_RESP = MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP


class Replication(SynchronousTestCase):
    """Section 5.3."""

    def test_proposals_are_appended_and_sent(self) -> None:
        """5.3: the leader appends the command and issues AppendEntries to each server."""
        node = LoneNode()
        node.lead()
        node.acknowledge(2, 3)
        node.node.propose(b"x")
        sent = of_type(node.settle(), APP)
        self.assertEqual([(m.to, m.log_term, m.index) for m in sent], [(2, 1, 1), (3, 1, 1)])
        self.assertEqual([list(m.entries) for m in sent], [[entry(1, 2, b"x")]] * 2)

    def test_committed_when_on_a_majority(self) -> None:
        """5.3: an entry is committed once it is replicated on a majority of the servers."""
        for size, acks, committed in (
            (1, (), True),
            (3, (), False),
            (3, (2,), True),
            (5, (2,), False),
            (5, (2, 4), True),
        ):
            node = LoneNode(voters=range(1, size + 1))
            node.node.campaign()
            node.settle()
            for each in range(2, size + 1):
                node.hear(VOTE_RESP, each)
            node.acknowledge(*range(2, size + 1))
            node.node.propose(b"x")
            node.settle()
            node.acknowledge(*acks)
            self.assertEqual(node.node.committed == 2, committed, (size, acks))

    def test_commit_index_reaches_followers(self) -> None:
        """5.3: a follower that learns that an entry is committed applies it, in log order."""
        node = LoneNode(term=1)
        news = [entry(1, 1, b"a"), entry(1, 2, b"b")]
        node.hear(APP, entries=news)
        self.assertEqual(node.applied, [])
        node.hear(APP, index=2, log_term=1, commit=1)
        node.hear(APP, index=2, log_term=1, commit=2)
        self.assertEqual(node.applied, news)

    def test_preceding_entries_are_committed_too(self) -> None:
        """5.3: committing an entry commits all preceding ones, those of former leaders too."""
        for terms in ([], [2], [1, 2], [1, 1]):
            node = LoneNode(term=2, terms=terms)
            node.lead()
            node.node.propose(b"x")
            node.settle()
            node.acknowledge(2)
            self.assertEqual([each.term for each in node.applied], [*terms, 3, 3])

    def test_consistency_check(self) -> None:
        """5.3: a follower refuses entries when it has none with the previous index and term."""
        for index, term, refused in ((0, 0, False), (1, 1, False), (2, 2, False), (1, 2, True)):
            node = LoneNode(term=2, terms=[1, 2])
            (answer,) = node.hear(APP, index=index, log_term=term)
            self.assertEqual(answer.reject, refused, (index, term))
        node = LoneNode(term=2, terms=[1, 2])
        (answer,) = node.hear(APP, index=3, log_term=3)
        self.assertEqual((answer.reject, answer.index, answer.reject_hint), (True, 3, 2))

    def test_late_append_is_answered_with_what_is_settled(self) -> None:
        """5.3: an append about entries that are committed, and gone by now, is no conflict."""
        node = LoneNode(term=1, terms=[1] * 5, commit=4, applied=4)
        node.log.compact(4)
        (answer,) = node.hear(APP, index=2, log_term=1, entries=entries_of([1], 3))
        self.assertEqual((answer.reject, answer.index), (False, 4))

    def test_conflicting_entries_are_overwritten(self) -> None:
        """5.3: an entry that conflicts is deleted with all that follow it; others stay."""
        for index, term, news, expected in (
            (2, 2, [3], [1, 2, 3]),
            (1, 1, [3, 4], [1, 3, 4]),
            (0, 0, [1], [1, 2]),
            (0, 0, [3], [3]),
        ):
            node = LoneNode(term=4, terms=[1, 2])
            node.hear(APP, index=index, log_term=term, entries=entries_of(news, index + 1))
            self.assertEqual(node.log_terms(), expected)

    def test_followers_of_figure_7_are_brought_in_line(self) -> None:
        """5.3: the leader finds where each log of figure 7 agrees and makes it equal its own."""
        leader_terms = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
        for terms in (
            [1, 1, 1, 4, 4, 5, 5, 6, 6],
            [1, 1, 1, 4],
            [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
            [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
            [1, 1, 1, 4, 4, 4, 4],
            [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
        ):
            leader = LoneNode(term=7, terms=leader_terms)
            follower = LoneNode(id=2, term=7, terms=terms)
            messages = leader.lead()
            leader.hear(VOTE_RESP, 3)
            messages += leader.settle()
            rounds = 0
            while messages:
                rounds += 1
                answers = []
                for each in messages:
                    if each.to == 2 and each.type == APP:
                        follower.node.step(each)
                        answers += follower.settle()
                messages = []
                for each in answers:
                    leader.node.step(each)
                    messages += leader.settle()
            self.assertEqual(follower.log_terms(), [*leader_terms, 8])
            self.assertLess(rounds, 6, "whole terms are skipped")


class Safety(SynchronousTestCase):
    """Section 5.4."""

    def test_voters_deny_outdated_candidates(self) -> None:
        """5.4.1: a voter denies its vote if its own log is more up to date."""
        for terms, log_term, index, granted in (
            ([1], 1, 1, True),
            ([1], 1, 2, True),
            ([1, 1], 1, 1, False),
            ([1], 2, 1, True),
            ([1, 1], 2, 1, True),
            ([2], 1, 1, False),
            ([2], 1, 2, False),
            ([1, 2], 1, 9, False),
        ):
            node = LoneNode(term=2, terms=terms)
            (answer,) = node.hear(VOTE, term=3, log_term=log_term, index=index)
            self.assertEqual(answer.reject, not granted, (terms, log_term, index))

    def test_only_entries_of_the_own_term_are_counted(self) -> None:
        """5.4.2: a leader commits entries of previous terms only by committing one of its own
        (figure 8)."""
        node = LoneNode(term=2, terms=[1, 2])
        node.lead()
        for index in (1, 2):
            node.acknowledge(2, 3, index=index)
            self.assertEqual(node.node.committed, 0)
        node.acknowledge(2, index=3)
        self.assertEqual(node.node.committed, 3)

    def test_commit_is_bound_by_the_last_new_entry(self) -> None:
        """Figure 2: a follower commits up to min(leader's commit, index of the last new entry):
        what it has beyond may be something else."""
        node = LoneNode(term=2, terms=[1, 1, 1])
        node.hear(APP, index=1, log_term=1, commit=3)
        self.assertEqual(node.node.committed, 1)

    def test_heartbeats_do_not_commit_the_unknown(self) -> None:
        """5.4: a heartbeat tells a follower no more than what its log is known to share."""
        node = LoneNode()
        node.lead()
        node.acknowledge(2)
        told = {each.to: each.commit for each in of_type(node.tick(), HEARTBEAT)}
        self.assertEqual(told, {2: 1, 3: 0})


class ReadIndex(SynchronousTestCase):
    """Thesis 6.4."""

    def leader(self, **settings: Any) -> LoneNode:
        node = LoneNode(term=1, terms=[1], **settings)
        node.lead()
        return node

    def test_waits_for_a_commit_in_its_term(self) -> None:
        """6.4 (1): a leader that has not committed an entry of its term waits until it has."""
        node = self.leader()
        node.node.read_index(b"r")
        node.settle()
        node.hear(HEARTBEAT_RESP, context=b"r")
        self.assertEqual(node.reads, [])
        sent = node.acknowledge(2)
        self.assertEqual({m.context for m in of_type(sent, HEARTBEAT)}, {b"r"})
        node.hear(HEARTBEAT_RESP, context=b"r")
        self.assertEqual([(r.index, r.context) for r in node.reads], [(2, b"r")])

    def test_leadership_is_confirmed(self) -> None:
        """6.4 (3): a majority must acknowledge a heartbeat that was sent after the read came."""
        node = self.leader()
        node.acknowledge(2)
        node.node.read_index(b"r")
        node.settle()
        node.hear(HEARTBEAT_RESP)
        node.hear(HEARTBEAT_RESP, context=b"older")
        self.assertEqual(node.reads, [])
        node.hear(HEARTBEAT_RESP, context=b"r")
        self.assertEqual(len(node.reads), 1)

    def test_index_is_that_of_the_request(self) -> None:
        """6.4 (2): the read index is the commit index when the read arrived."""
        node = self.leader()
        node.acknowledge(2)
        node.node.read_index(b"r")
        node.node.propose(b"later")
        node.settle()
        node.acknowledge(2)
        node.hear(HEARTBEAT_RESP, context=b"r")
        self.assertEqual([r.index for r in node.reads], [2])

    def test_deposed_leader_does_not_answer(self) -> None:
        """6.4: reads of a leader that was deposed meanwhile are not answered."""
        node = self.leader()
        node.acknowledge(2)
        node.node.read_index(b"r")
        node.settle()
        node.hear(HEARTBEAT, 3, term=9)
        node.hear(HEARTBEAT_RESP, context=b"r")
        self.assertEqual(node.reads, [])

    def test_acknowledgement_confirms_no_later_read(self) -> None:
        """6.4 (3): an answer confirms the reads that came before its heartbeat, no others."""
        node = self.leader()
        node.acknowledge(2)
        for context in (b"a", b"b", b"c"):
            node.node.read_index(context)
        node.settle()
        node.hear(HEARTBEAT_RESP, context=b"b")
        self.assertEqual([r.context for r in node.reads], [b"a", b"b"])

    def test_reads_end_with_the_term(self) -> None:
        """6.4: a later term of the same leader does not take over reads of an earlier one."""
        node = self.leader()
        node.acknowledge(2)
        node.node.read_index(b"r")
        node.settle()
        node.hear(HEARTBEAT, 3, term=9)
        node.lead()
        node.node.read_index(b"early")
        node.hear(HEARTBEAT, 3, term=20)
        node.lead()
        node.acknowledge(2)
        node.hear(HEARTBEAT_RESP, context=b"r")
        node.hear(HEARTBEAT_RESP, context=b"early")
        self.assertEqual(node.reads, [])

    def test_lease(self) -> None:
        """6.4.1: with a lease no round is needed."""
        node = self.leader(read_only="lease", check_quorum=True)
        node.acknowledge(2)
        node.node.read_index(b"r")
        node.settle()
        self.assertEqual([r.index for r in node.reads], [2])

    def test_only_voter_waits_for_its_commit_too(self) -> None:
        """6.4 (1): after a restart even a lone leader may not know yet what was committed."""
        node = LoneNode(voters=(1,), term=1, terms=[1, 1])
        node.node.campaign()
        ready = ready_of(node.node)
        node.node.persisted(ready)
        node.node.read_index(b"r")
        node.settle()
        self.assertEqual([r.index for r in node.reads], [3])
