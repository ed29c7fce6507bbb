"""The contract between a RaftNode and its driver."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.raft import (
    ConfChangeRefused,
    LogLost,
    MemoryLog,
    ProposalDropped,
    RaftConfig,
    RaftNode,
    StateType,
    UnexpectedMessage,
)
from etcdtw.raft.codec import encode_conf_change
from etcdtw.raft.messages import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
)
from tests.raft.lone_node import FixedDice, LoneNode, entries_of, entry, of_type, ready_of

APP, APP_RESP = MessageType.APP, MessageType.APP_RESP
PROP, READ_INDEX = MessageType.PROP, MessageType.READ_INDEX


def change(kind: ConfChangeType, member: int) -> ConfChange:
    return ConfChange(id=0, type=kind, node_id=member, context=None)


class ReadyContract(SynchronousTestCase):
    def test_nothing_to_do_at_first(self) -> None:
        """A fresh follower has no Ready."""
        self.assertIsNone(LoneNode().node.take_ready())

    def test_one_durable_ready_at_a_time(self) -> None:
        """While one Ready is being written, others carry only what does not depend on it."""
        node = LoneNode()
        node.lead()
        node.acknowledge(2, 3)
        node.node.propose(b"a")
        first = ready_of(node.node)
        self.assertEqual([each.data for each in first.entries], [b"a"])
        node.node.propose(b"b")
        second = ready_of(node.node)
        self.assertEqual([m.entries[0].data for m in of_type(second.messages, APP)], [b"b"] * 2)
        self.assertFalse(second.is_durable_work)
        self.assertIsNone(node.node.take_ready())
        node.log.append(first.entries)
        node.node.persisted(first)
        third = ready_of(node.node)
        self.assertEqual([each.data for each in third.entries], [b"b"])

    def test_committed_entries_come_while_another_ready_is_written(self) -> None:
        """Committing what is durable does not wait for the write under way."""
        node = LoneNode()
        node.lead()
        node.node.propose(b"a")
        node.settle()
        node.node.propose(b"b")
        writing = ready_of(node.node)
        node.node.step(Message(type=APP_RESP, to=1, from_=2, term=1, index=3))
        ready = ready_of(node.node)
        self.assertEqual([each.data for each in ready.committed], [None, b"a"])
        self.assertEqual(node.node.committed, 2)
        node.log.append(writing.entries)
        node.node.persisted(writing)
        ready = ready_of(node.node)
        self.assertEqual([each.data for each in ready.committed], [b"b"])

    def test_own_log_counts_as_far_as_it_is_durable(self) -> None:
        """Of two voters both must hold an entry: this one does so when it is on its disk."""
        node = LoneNode(voters=(1, 2))
        node.lead()
        node.node.propose(b"a")
        writing = ready_of(node.node)
        node.node.propose(b"b")
        node.node.step(Message(type=APP_RESP, to=1, from_=2, term=1, index=3))
        self.assertEqual(node.node.committed, 1)
        node.log.append(writing.entries)
        node.node.persisted(writing)
        self.assertEqual(node.node.committed, 2)

    def test_acknowledgements_wait_for_the_disk(self) -> None:
        """What tells of durable state is released with the Ready that makes it durable."""
        node = LoneNode(term=1)
        node.node.step(Message(type=APP, to=1, from_=2, term=1, entries=entries_of([1])))
        ready = ready_of(node.node)
        self.assertFalse(ready.messages)
        self.assertEqual([m.type for m in ready.after_persist], [APP_RESP])
        self.assertTrue(ready.is_durable_work)

    def test_acknowledgements_of_what_is_durable_leave_at_once(self) -> None:
        """With nothing to write, nothing is held back."""
        node = LoneNode(term=1, terms=[1])
        node.node.step(Message(type=APP, to=1, from_=2, term=1, log_term=1, index=1))
        ready = ready_of(node.node)
        self.assertEqual([m.type for m in ready.messages], [APP_RESP])
        self.assertFalse(ready.is_durable_work or ready.after_persist)

    def test_lone_voter_commits_when_durable(self) -> None:
        """A single voter leads, and commits, in ``persisted``."""
        node = LoneNode(voters=(1,), pre_vote=True).node
        node.campaign()
        ready = ready_of(node)
        self.assertEqual(ready.hard_state, HardState(term=1, vote=1))
        self.assertIs(node.state, StateType.CANDIDATE)
        node.persisted(ready)
        self.assertIs(node.state, StateType.LEADER)

    def test_commit_alone_need_not_be_saved(self) -> None:
        """A commit index that moved is learnt again: it gives something to apply, and no more."""
        node = LoneNode(term=1, terms=[1, 1])
        node.node.step(Message(type=MessageType.HEARTBEAT, to=1, from_=2, term=1, commit=2))
        ready = ready_of(node.node)
        self.assertEqual([each.index for each in ready.committed], [1, 2])
        self.assertFalse(ready.is_durable_work)
        self.assertIsNone(node.node.take_ready())

    def test_committed_by_own_write(self) -> None:
        """What ``persisted`` has committed need not wait for the next Ready."""
        node = LoneNode(voters=(1,))
        node.lead()
        node.node.propose(b"a")
        ready = ready_of(node.node)
        self.assertFalse(ready.committed)
        self.assertEqual(node.node.take_committed(), [])
        node.log.append(ready.entries)
        node.node.persisted(ready)
        self.assertEqual([each.data for each in node.node.take_committed()], [b"a"])
        self.assertIsNone(node.node.take_ready())

    def test_foreign_ready_is_refused(self) -> None:
        """Reporting a Ready that is not out is a bug of the driver."""
        node = LoneNode(voters=(1,)).node
        node.campaign()
        ready = ready_of(node)
        node.persisted(ready)
        self.assertRaises(AssertionError, node.persisted, ready)

    def test_committed_entries_come_in_portions(self) -> None:
        """What one Ready gives to apply is bounded."""
        log = MemoryLog(HardState(1, 0, 4), ConfState(voters=(1, 2)))
        log.append([entry(1, index, b"x" * 100) for index in range(1, 5)])
        node = RaftNode(RaftConfig(id=1, max_committed_bytes=250), log, FixedDice())
        portions = []
        while (ready := node.take_ready()) is not None:
            portions.append([each.index for each in ready.committed])
        self.assertEqual(portions, [[1, 2], [3, 4]])

    def test_restart_applies_from_where_it_was(self) -> None:
        """Entries applied before are not given out again, even if the commit index was not
        saved."""
        log = MemoryLog(HardState(1, 0, 1), ConfState(voters=(1, 2)))
        log.append(entries_of([1, 1, 1]))
        node = RaftNode(RaftConfig(id=1, applied=2), log, FixedDice())
        self.assertEqual((node.applied, node.committed), (2, 2))
        self.assertIsNone(node.take_ready())

    def test_lost_log_is_refused(self) -> None:
        """A member whose disk lost committed entries does not start."""
        log = MemoryLog(HardState(1, 0, 5), ConfState(voters=(1,)))
        self.assertRaises(LogLost, RaftNode, RaftConfig(id=1), log, FixedDice())


class Proposals(SynchronousTestCase):
    def test_batch_is_contiguous(self) -> None:
        """A batch becomes consecutive entries, sent in one append."""
        node = LoneNode()
        node.lead()
        node.acknowledge(2)
        node.node.propose_batch([b"a", b"b", b"c"])
        sent = of_type(node.settle(), APP)
        self.assertEqual([[e.data for e in m.entries] for m in sent], [[b"a", b"b", b"c"]])
        self.assertEqual(node.log_terms(), [1] * 4)

    def test_dropped_without_leader(self) -> None:
        """Nobody leads, or leadership is changing hands: the proposer is told."""
        node = LoneNode()
        self.assertRaises(ProposalDropped, node.node.propose, b"x")
        node.node.campaign()
        self.assertRaises(ProposalDropped, node.node.propose, b"x")
        node.settle()
        node.hear(MessageType.VOTE_RESP)
        node.acknowledge(2)
        node.node.transfer_leader(2)
        self.assertRaises(ProposalDropped, node.node.propose, b"x")

    def test_forwarded_to_the_leader(self) -> None:
        """A follower passes a batch on in one message, unless that is switched off."""
        node = LoneNode(term=1)
        node.hear(MessageType.HEARTBEAT)
        node.node.propose_batch([b"a", b"b"])
        (message,) = node.settle()
        self.assertEqual((message.type, message.to, message.term), (PROP, 2, 0))
        self.assertEqual([e.data for e in message.entries], [b"a", b"b"])
        node = LoneNode(term=1, disable_proposal_forwarding=True)
        node.hear(MessageType.HEARTBEAT)
        self.assertRaises(ProposalDropped, node.node.propose, b"x")

    def test_forwarded_ones_are_taken_or_dropped(self) -> None:
        """A leader takes forwarded proposals; a member without a leader drops them silently."""
        forwarded = [entry(0, 0, b"a")]
        node = LoneNode()
        node.hear(PROP, term=0, entries=forwarded)
        self.assertEqual(node.node.last_index, 0)
        node.lead()
        node.hear(PROP, term=0, entries=forwarded)
        self.assertEqual(node.log.entries(2, 3, None), [entry(1, 2, b"a")])

    def test_removed_leader_takes_none(self) -> None:
        """A leader that was removed drops proposals, and steps down if so configured."""
        for steps_down in (False, True):
            node = LoneNode(step_down_on_removal=steps_down)
            node.lead()
            node.node.apply_conf_change(change(ConfChangeType.REMOVE_NODE, 1))
            self.assertRaises(ProposalDropped, node.node.propose, b"x")
            self.assertEqual(node.node.state is StateType.FOLLOWER, steps_down)

    def test_large_backlog_is_sent_in_pieces(self) -> None:
        """An append holds at most ``max_message_bytes``, but at least one entry."""
        node = LoneNode(max_message_bytes=300)
        node.lead()
        node.node.propose_batch([b"x" * 100] * 6 + [b"y" * 1000])
        node.settle()
        sent = of_type(node.acknowledge(2, index=1), APP)
        self.assertEqual([len(m.entries) for m in sent], [2, 2, 2, 1])


class Configurations(SynchronousTestCase):
    def test_second_change_becomes_empty(self) -> None:
        """While a change is not applied, another one is replaced by an empty normal entry."""
        node = LoneNode(voters=(1,))
        node.lead()
        node.node.propose_conf_change(b"1", change(ConfChangeType.ADD_NODE, 2))
        node.node.propose_conf_change(b"2", change(ConfChangeType.ADD_NODE, 3))
        node.settle()
        first, second = node.applied[-2:]
        self.assertEqual((first.type, first.data), (EntryType.CONF_CHANGE, b"1"))
        self.assertEqual((second.type, second.data), (EntryType.NORMAL, None))
        node.node.propose_conf_change(b"3", change(ConfChangeType.ADD_NODE, 3))
        node.settle()
        self.assertEqual(node.applied[-1].type, EntryType.CONF_CHANGE)

    def test_new_leader_reckons_with_an_old_change(self) -> None:
        """Before it has applied what it was elected with, a leader takes no change: there may be
        one in its log."""
        node = LoneNode(term=1, terms=[1, 1])
        node.lead()
        node.node.propose_conf_change(b"1", change(ConfChangeType.ADD_NODE, 4))
        node.settle()
        self.assertEqual(node.log.entries(4, 5, None)[0].type, EntryType.NORMAL)
        node.acknowledge(2)
        node.node.propose_conf_change(b"1", change(ConfChangeType.ADD_NODE, 4))
        node.settle()
        self.assertEqual(node.log.entries(5, 6, None)[0].type, EntryType.CONF_CHANGE)

    def test_void_change(self) -> None:
        """A change with node id 0 has no effect."""
        node = LoneNode()
        state = node.node.apply_conf_change(change(ConfChangeType.REMOVE_NODE, 0))
        self.assertEqual(state, ConfState(voters=(1, 2, 3)))

    def test_last_voter_cannot_be_removed(self) -> None:
        """A change that leaves no voter is refused and changes nothing."""
        node = LoneNode(voters=(1,))
        removal = change(ConfChangeType.REMOVE_NODE, 1)
        self.assertRaises(ConfChangeRefused, node.node.apply_conf_change, removal)
        self.assertEqual(node.node.conf_state().voters, (1,))
        node.lead()
        self.assertRaises(ConfChangeRefused, node.node.propose_conf_change, b"r1", removal)
        self.assertEqual(node.log_terms(), [1])

    def test_last_voter_cannot_be_removed_from_elsewhere(self) -> None:
        """Two voters are each asked to remove the other: the second removal, forwarded to the one
        that stays, has no effect. In the log it would end every member that applies it."""
        node = LoneNode(voters=(1, 2))
        node.lead()
        node.acknowledge(2)
        node.node.apply_conf_change(change(ConfChangeType.REMOVE_NODE, 2))
        for kind, data in (
            (EntryType.CONF_CHANGE, encode_conf_change(change(ConfChangeType.REMOVE_NODE, 1))),
            (EntryType.CONF_CHANGE, b"\xff"),
            (EntryType.CONF_CHANGE_V2, b""),
        ):
            node.hear(PROP, 2, term=0, entries=[Entry(0, 0, kind, data)])
            self.assertEqual(node.applied[-1][2:], (EntryType.NORMAL, None))
        added = encode_conf_change(change(ConfChangeType.ADD_NODE, 3))
        node.hear(PROP, 2, term=0, entries=[Entry(0, 0, EntryType.CONF_CHANGE, added)])
        self.assertEqual(node.applied[-1][2:], (EntryType.CONF_CHANGE, added))

    def test_removal_may_commit(self) -> None:
        """With a smaller majority, what was short of one vote commits."""
        node = LoneNode()
        node.lead()
        node.node.apply_conf_change(change(ConfChangeType.REMOVE_NODE, 3))
        self.assertEqual(node.node.committed, 0)
        node.node.apply_conf_change(change(ConfChangeType.REMOVE_NODE, 2))
        self.assertEqual(node.node.committed, 1)

    def test_learner(self) -> None:
        """A learner knows that it is one, and never campaigns."""
        node = LoneNode(voters=(2, 3), learners=(1,))
        self.assertTrue(node.node.is_learner)
        node.tick(40)
        self.assertIs(node.node.state, StateType.FOLLOWER)
        node.node.apply_conf_change(change(ConfChangeType.ADD_NODE, 1))
        self.assertFalse(node.node.is_learner)
        node.tick(20)
        self.assertIs(node.node.state, StateType.CANDIDATE)

    def test_no_campaign_with_a_change_to_apply(self) -> None:
        """Whoever has not applied a committed change does not know who votes."""
        log = MemoryLog(HardState(1, 0, 1), ConfState(voters=(1, 2)))
        log.append([entry(1, 1)._replace(type=EntryType.CONF_CHANGE)])
        node = RaftNode(RaftConfig(id=1), log, FixedDice())
        node.campaign()
        self.assertIs(node.state, StateType.FOLLOWER)
        node.applied_to(1)
        node.campaign()
        self.assertIs(node.state, StateType.PRE_CANDIDATE)


class Snapshots(SynchronousTestCase):
    snapshot = Snapshot(index=8, term=2, conf_state=ConfState(voters=(1, 2)), data=b"s")

    def hear_snapshot(self, node: LoneNode, **fields: Any) -> list[Message]:
        snapshot = self.snapshot._replace(**fields)
        return node.hear(MessageType.SNAP, term=3, snapshot=snapshot)

    def test_installed(self) -> None:
        """A snapshot replaces log and configuration and is acknowledged with its index."""
        node = LoneNode(term=3, terms=[1])
        (answer,) = self.hear_snapshot(node)
        self.assertEqual((answer.type, answer.index, answer.reject), (APP_RESP, 8, False))
        self.assertEqual((node.node.committed, node.node.applied), (8, 8))
        self.assertEqual(node.node.conf_state().voters, (1, 2))
        node.hear(APP, index=8, log_term=2, commit=9, entries=entries_of([3], 9))
        self.assertEqual([each.index for each in node.applied], [9])

    def test_only_for_the_living(self) -> None:
        """A snapshot is not made for a member that was not heard from."""
        node = LoneNode(check_quorum=True)
        node.lead()
        node.acknowledge(2, 3)
        for _ in range(2):
            node.acknowledge(2)
            node.tick(10)
        node.node.propose(b"x")
        node.settle()
        node.acknowledge(2)
        node.log.create_snapshot(2, node.node.conf_state(), b"")
        node.log.compact(2)
        node.node.report_unreachable(3)
        node.node.propose(b"y")
        self.assertEqual(of_type(node.settle(), MessageType.SNAP), [])
        sent = node.hear(MessageType.HEARTBEAT_RESP, 3)
        self.assertEqual([m.to for m in of_type(sent, MessageType.SNAP)], [3])

    def test_not_needed(self) -> None:
        """A snapshot of what the log holds only moves the commit index."""
        node = LoneNode(term=3, terms=[2] * 9)
        (answer,) = self.hear_snapshot(node)
        self.assertEqual((answer.index, node.node.committed), (8, 8))
        self.assertEqual(node.log.first_index(), 1)

    def test_ignored(self) -> None:
        """An old snapshot, or one of a cluster without this member, is not installed."""
        node = LoneNode(term=3, terms=[2] * 9, commit=9)
        self.assertEqual(self.hear_snapshot(node)[0].index, 9)
        node = LoneNode(term=3)
        self.hear_snapshot(node, conf_state=ConfState(voters=(2, 3)))
        self.assertEqual(node.node.committed, 0)


class BadInput(SynchronousTestCase):
    def test_local_messages_do_not_come_from_peers(self) -> None:
        """A peer cannot make this member campaign or judge its connections."""
        node = LoneNode().node
        for kind in (MessageType.HUP, MessageType.BEAT, MessageType.SNAP_STATUS):
            error = self.assertRaises(UnexpectedMessage, node.step, Message(type=kind, from_=2))
            self.assertIn(kind.name, str(error))

    def test_own_messages_from_outside(self) -> None:
        """Nobody speaks for this member: neither is it answered, nor does its vote or
        acknowledgement count twice. What others hand on for it does."""
        node = LoneNode(term=3)
        node.node.campaign()
        for kind in MessageType:
            if kind in (PROP, READ_INDEX, MessageType.TRANSFER_LEADER):
                continue
            with self.assertRaises(UnexpectedMessage):
                node.hear(kind, 1, term=9, index=1)
        self.assertEqual((node.node.term, node.node.state), (4, StateType.CANDIDATE))
        node.hear(READ_INDEX, 1, entries=[entry(0, 0, b"read")])

    def test_no_term(self) -> None:
        """What belongs to a term must say to which; a candidate forgets neither its own nor its
        vote."""
        node = LoneNode(term=3)
        node.node.campaign()
        for kind in (APP, MessageType.HEARTBEAT, MessageType.SNAP, MessageType.VOTE):
            with self.assertRaises(UnexpectedMessage):
                node.hear(kind, term=0)
        self.assertEqual((node.node.term, node.node.vote), (4, 1))

    def test_requests_without_content(self) -> None:
        """Proposals and reads without the entries that belong to them are refused."""
        node = LoneNode().node
        for kind in (PROP, READ_INDEX, MessageType.READ_INDEX_RESP):
            self.assertRaises(UnexpectedMessage, node.step, Message(type=kind, from_=2))

    def test_entries_elsewhere(self) -> None:
        """Entries that do not follow on what they are said to follow on would leave a gap in the
        log, or replace what is committed."""
        node = LoneNode(terms=[1, 1], term=1, commit=2)
        for index in (2, 4):
            message = Message(APP, 1, 2, 1, 1, 2, [entry(1, index)])
            with self.assertRaises(UnexpectedMessage):
                node.node.step(message)
        self.assertEqual(node.node.last_index, 2)

    def test_strangers_answers_do_not_count(self) -> None:
        """Answers of members that are not in the configuration are ignored."""
        node = LoneNode()
        node.lead()
        node.acknowledge(7, 8, 9)
        node.hear(MessageType.HEARTBEAT_RESP, 7)
        self.assertEqual(node.node.committed, 0)

    def test_acknowledgement_of_what_was_never_sent(self) -> None:
        """It counts for nothing; the leader goes on, and the member too, once it says otherwise."""
        node = LoneNode()
        node.lead()
        self.assertEqual(node.hear(APP_RESP, index=node.node.last_index + 1), [])
        self.assertEqual((node.node.committed, node.node.progress()[2].match), (0, 0))
        node.node.propose(b"a")
        node.settle()
        node.acknowledge(2)
        self.assertEqual(node.node.committed, 2)

    def test_lost_log_is_noticed(self) -> None:
        """A heartbeat that commits what this member no longer has is fatal."""
        node = LoneNode(term=1, terms=[1])
        message = Message(type=MessageType.HEARTBEAT, to=1, from_=2, term=1, commit=5)
        self.assertRaises(LogLost, node.node.step, message)

    def test_settings_are_checked(self) -> None:
        """A configuration that cannot work is refused with the reason."""
        for settings, word in (
            ({"id": 0}, "id"),
            ({"election_ticks": 1}, "election_ticks"),
            ({"heartbeat_ticks": 0}, "heartbeat_ticks"),
            ({"max_inflight_messages": 0}, "max_inflight_messages"),
            ({"read_only": "maybe"}, "read_only"),
            ({"read_only": "lease", "check_quorum": False}, "check_quorum"),
        ):
            error = self.assertRaises(ValueError, lambda s: RaftConfig(**{"id": 1, **s}), settings)
            self.assertIn(word, str(error))
