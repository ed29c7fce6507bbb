"""Sentences of the Raft paper (extended version) and of Ongaro's thesis, each as a test."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.raft import StateType
from etcdtw.raft.messages import MessageType
from tests.raft.lone_node import LoneNode, entries_of, entry, of_type

APP, APP_RESP = MessageType.APP, MessageType.APP_RESP
VOTE, VOTE_RESP = MessageType.VOTE, MessageType.VOTE_RESP
PRE_VOTE, PRE_VOTE_RESP = MessageType.PRE_VOTE, MessageType.PRE_VOTE_RESP
HEARTBEAT, HEARTBEAT_RESP = MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP


class Terms(SynchronousTestCase):
    """Section 5.1."""

    def test_larger_term_is_adopted(self) -> None:
        """5.1: a server whose current term is smaller updates it to the larger value."""
        for state in ("follower", "candidate", "leader"):
            node = LoneNode(term=1)
            if state == "candidate":
                node.node.campaign()
            elif state == "leader":
                node.lead()
            node.hear(APP, term=7)
            self.assertEqual((node.node.term, node.node.state), (7, StateType.FOLLOWER), state)

    def test_stale_term_is_rejected(self) -> None:
        """5.1: a request with a stale term number has no effect."""
        node = LoneNode(term=3, terms=[1, 3])
        node.hear(APP, term=2, log_term=1, index=1, entries=[entry(2, 2)])
        self.assertEqual(node.log_terms(), [1, 3])

    def test_stale_vote_request_is_not_answered_with_a_vote(self) -> None:
        """5.1: a vote request of an older term gets no vote."""
        node = LoneNode(term=3)
        self.assertEqual(node.hear(VOTE, term=2, log_term=9, index=9), [])

    def test_servers_start_as_followers(self) -> None:
        """5.2: when servers start up they begin as followers."""
        self.assertIs(LoneNode().node.state, StateType.FOLLOWER)


class Elections(SynchronousTestCase):
    """Section 5.2."""

    def test_leader_sends_heartbeats(self) -> None:
        """5.2: leaders send periodic heartbeats to all followers."""
        node = LoneNode(heartbeat_ticks=2)
        node.lead()
        self.assertEqual(node.tick(), [])
        self.assertEqual([each.to for each in of_type(node.tick(), HEARTBEAT)], [2, 3])

    def test_silence_begins_an_election(self) -> None:
        """5.2: a follower that hears nothing over the election timeout increments its term, votes
        for itself and asks all others in parallel."""
        node = LoneNode(term=1, terms=[1])
        self.assertEqual(node.tick(9), [])
        sent = node.tick()
        self.assertEqual([(m.type, m.to, m.term) for m in sent], [(VOTE, 2, 2), (VOTE, 3, 2)])
        self.assertEqual([(m.log_term, m.index) for m in sent], [(1, 1), (1, 1)])
        self.assertEqual((node.node.term, node.node.vote), (2, 1))
        self.assertIs(node.node.state, StateType.CANDIDATE)

    def test_hearing_a_leader_prevents_an_election(self) -> None:
        """5.2: a server remains a follower as long as it hears from a leader."""
        node = LoneNode(term=1)
        for _ in range(5):
            node.tick(8)
            node.hear(HEARTBEAT)
        self.assertIs(node.node.state, StateType.FOLLOWER)

    def test_majority_wins(self) -> None:
        """5.2: a candidate wins with votes from a majority of the full cluster."""
        for size, granted, refused, expected in (
            (1, 0, 0, StateType.LEADER),
            (3, 1, 0, StateType.LEADER),
            (3, 1, 1, StateType.LEADER),
            (3, 0, 1, StateType.CANDIDATE),
            (3, 0, 2, StateType.FOLLOWER),
            (5, 1, 0, StateType.CANDIDATE),
            (5, 2, 2, StateType.LEADER),
            (5, 1, 3, StateType.FOLLOWER),
        ):
            node = LoneNode(voters=range(1, size + 1))
            node.node.campaign()
            node.settle()
            for member in range(2, 2 + granted):
                node.hear(VOTE_RESP, member, term=1)
            for member in range(2 + granted, 2 + granted + refused):
                node.hear(VOTE_RESP, member, term=1, reject=True)
            self.assertIs(node.node.state, expected, (size, granted, refused))

    def test_a_voter_counts_once(self) -> None:
        """5.2: a vote that arrives twice, or from a stranger, counts no more than once."""
        node = LoneNode(voters=range(1, 6))
        node.node.campaign()
        node.settle()
        for _ in range(3):
            node.hear(VOTE_RESP, 2)
            node.hear(VOTE_RESP, 9)
        self.assertIs(node.node.state, StateType.CANDIDATE)

    def test_one_vote_per_term(self) -> None:
        """5.2: each server votes for at most one candidate in a term, first come first served."""
        for vote, asker, granted in ((0, 2, True), (2, 2, True), (1, 2, False), (3, 2, False)):
            node = LoneNode(term=1, vote=vote)
            (answer,) = node.hear(VOTE, asker, term=1)
            self.assertEqual((answer.type, answer.reject), (VOTE_RESP, not granted), vote)

    def test_vote_is_remembered(self) -> None:
        """Figure 2: the vote is on stable storage before the answer leaves."""
        node = LoneNode(term=1)
        self.assertEqual(node.hear(VOTE, 3, term=2)[0].reject, False)
        self.assertEqual(node.log.initial_state()[0][:2], (2, 3))

    def test_candidate_returns_to_follower(self) -> None:
        """5.2: a candidate that hears a leader of its own or a later term recognises it."""
        for term in (1, 2):
            node = LoneNode()
            node.node.campaign()
            node.settle()
            node.hear(APP, 2, term=term)
            self.assertIs(node.node.state, StateType.FOLLOWER)
            self.assertEqual((node.node.lead, node.node.term), (2, term))

    def test_split_vote_times_out(self) -> None:
        """5.2: a candidate that neither wins nor loses starts a new election with a new term."""
        node = LoneNode()
        node.tick(10)
        sent = node.tick(10)
        self.assertEqual([(m.type, m.term) for m in of_type(sent, VOTE)], [(VOTE, 2), (VOTE, 2)])

    def test_timeouts_are_drawn_from_the_interval(self) -> None:
        """5.2: election timeouts are chosen randomly from a fixed interval, E to 2E - 1 ticks."""
        for face in range(10):
            node = LoneNode(dice_face=face)
            node.tick(10 + face - 1)
            self.assertIs(node.node.state, StateType.FOLLOWER, face)
            node.tick()
            self.assertIs(node.node.state, StateType.CANDIDATE, face)


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


class Membership(SynchronousTestCase):
    """Section 6 and thesis 4: one server at a time."""

    def test_removed_servers_do_not_disturb(self) -> None:
        """6: servers disregard vote requests when they believe that a leader exists."""
        node = LoneNode(term=1, check_quorum=True, terms=[1])
        node.hear(HEARTBEAT)
        self.assertEqual(node.hear(VOTE, 3, term=9, log_term=1, index=1), [])
        self.assertEqual(node.node.term, 1)

    def test_silence_lifts_the_ban(self) -> None:
        """6: after the minimum election timeout without a leader they answer again."""
        node = LoneNode(term=1, check_quorum=True, terms=[1], dice_face=5)
        node.hear(HEARTBEAT)
        node.tick(10)
        (answer,) = node.hear(VOTE, 3, term=9, log_term=1, index=1)
        self.assertFalse(answer.reject)

    def test_leader_without_majority_steps_down(self) -> None:
        """Thesis 6.2: a leader steps down if an election timeout elapses without a successful
        round of heartbeats to a majority."""
        node = LoneNode(check_quorum=True)
        node.lead()
        node.acknowledge(2)
        node.tick(10)
        self.assertIs(node.node.state, StateType.LEADER)
        node.tick(10)
        self.assertIs(node.node.state, StateType.FOLLOWER)
        self.assertEqual(node.node.lead, 0)


class PreVote(SynchronousTestCase):
    """Thesis 9.6."""

    def test_term_is_not_increased(self) -> None:
        """9.6: a candidate increments its term only if a majority would be willing to vote."""
        node = LoneNode(term=3, pre_vote=True)
        sent = node.tick(10)
        self.assertEqual([(m.type, m.term) for m in sent], [(PRE_VOTE, 4)] * 2)
        self.assertEqual((node.node.term, node.node.state), (3, StateType.PRE_CANDIDATE))

    def test_majority_leads_to_an_election(self) -> None:
        """9.6: with the answers of a majority the election itself begins."""
        node = LoneNode(term=3, pre_vote=True)
        node.tick(10)
        sent = node.hear(PRE_VOTE_RESP, term=4)
        self.assertEqual([(m.type, m.term) for m in sent], [(VOTE, 4)] * 2)

    def test_refusal_ends_it(self) -> None:
        """9.6: without a majority the member follows on in its old term."""
        node = LoneNode(term=3, pre_vote=True)
        node.tick(10)
        node.hear(PRE_VOTE_RESP, 2, reject=True)
        node.hear(PRE_VOTE_RESP, 3, reject=True)
        self.assertEqual((node.node.term, node.node.state), (3, StateType.FOLLOWER))

    def test_answering_changes_nothing(self) -> None:
        """9.6: a pre-vote is granted by log and silence alone, and binds to nothing."""
        node = LoneNode(term=3, vote=2, terms=[1, 3], pre_vote=True)
        for asker in (2, 3):
            (answer,) = node.hear(PRE_VOTE, asker, term=4, log_term=3, index=2)
            self.assertEqual((answer.reject, answer.term), (False, 4))
        (answer,) = node.hear(PRE_VOTE, 2, term=4, log_term=1, index=9)
        self.assertEqual((answer.reject, answer.term), (True, 3))
        self.assertEqual((node.node.term, node.node.vote), (3, 2))

    def test_old_term_is_told(self) -> None:
        """9.6: a pre-candidate behind in terms learns the present one."""
        node = LoneNode(term=5, pre_vote=True)
        (answer,) = node.hear(PRE_VOTE, term=2)
        self.assertEqual((answer.type, answer.reject, answer.term), (PRE_VOTE_RESP, True, 5))

    def test_stuck_leader_is_told(self) -> None:
        """9.6: a leader of an old term would never learn of a later one, so it is answered."""
        node = LoneNode(term=5, pre_vote=True)
        for kind in (APP, HEARTBEAT):
            (answer,) = node.hear(kind, term=2)
            self.assertEqual((answer.type, answer.term), (APP_RESP, 5))


class ReadIndex(SynchronousTestCase):
    """Thesis 6.4."""

    def leader(self, **settings: object) -> LoneNode:
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
        ready = node.node.take_ready()
        node.node.persisted(ready)
        node.node.read_index(b"r")
        node.settle()
        self.assertEqual([r.index for r in node.reads], [3])


class Transfer(SynchronousTestCase):
    """Thesis 3.10."""

    def test_up_to_date_member_is_told_at_once(self) -> None:
        """3.10: the leader sends TimeoutNow once the target's log matches its own."""
        node = LoneNode()
        node.lead()
        node.acknowledge(2)
        node.node.transfer_leader(3)
        self.assertEqual(of_type(node.settle(), MessageType.TIMEOUT_NOW), [])
        (told,) = of_type(node.acknowledge(3), MessageType.TIMEOUT_NOW)
        self.assertEqual(told.to, 3)

    def test_target_campaigns_without_asking(self) -> None:
        """3.10: the target starts an election immediately, and says that the leader wants it."""
        node = LoneNode(term=1, pre_vote=True, check_quorum=True)
        node.hear(HEARTBEAT)
        sent = node.hear(MessageType.TIMEOUT_NOW)
        self.assertEqual([(m.type, m.context) for m in sent], [(VOTE, b"CampaignTransfer")] * 2)

    def test_given_up_after_an_election_timeout(self) -> None:
        """3.10: if the transfer takes too long the leader accepts requests again."""
        node = LoneNode()
        node.lead()
        node.tick(5)
        node.node.transfer_leader(3)
        node.tick(9)
        self.assertEqual(node.node.transferee, 3)
        node.tick()
        self.assertEqual(node.node.transferee, 0)
