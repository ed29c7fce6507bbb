"""Who leads: sentences of the Raft paper (extended version) and of Ongaro's thesis as tests."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.raft import StateType
from etcdtw.raft.messages import MessageType
from tests.raft.lone_node import LoneNode, entry, of_type

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
