"""What only a leader does: proposals, reads, heartbeats, its quorum, and giving leadership away."""

from __future__ import annotations

from collections.abc import Iterable

from etcdtw.raft.codec import decode_conf_change
from etcdtw.raft.confchange import changed_configuration
from etcdtw.raft.config import StateType
from etcdtw.raft.errors import ConfChangeRefused, ProposalDropped
from etcdtw.raft.messages import NO_NODE, Entry, EntryType, Message, MessageType
from etcdtw.raft.quorum import VoteResult, vote_result
from etcdtw.raft.readonly import PendingRead
from etcdtw.raft.ready import ReadState
from etcdtw.raft.replication import (
    advance_commit,
    broadcast_append,
    broadcast_heartbeat,
    on_append_response,
    on_heartbeat_response,
    send_append,
)
from etcdtw.raft.state import RaftState

POSTPONED_READS_MAX = 4096
"""Reads that may wait for the first commit of a term; later ones are dropped and asked again."""


def check_may_append(raft: RaftState) -> None:
    """Raise ProposalDropped when this leader must not take new entries."""
    if raft.id not in raft.tracker.progress or raft.transferee != NO_NODE:
        raise ProposalDropped


def on_proposal(raft: RaftState, entries: Iterable[Entry]) -> None:
    """Append proposed entries; only their type and data count, term and index are the leader's."""
    check_may_append(raft)
    log = raft.log
    index = log.last_index
    numbered = []
    for entry in entries:
        index += 1
        kind, data = entry.type, entry.data
        if kind != EntryType.NORMAL and not raft.config.disable_conf_change_validation:
            if raft.pending_conf_index > log.applied:
                # One change at a time (thesis 4.1): it becomes an entry without effect.
                kind, data = EntryType.NORMAL, None
            else:
                raft.pending_conf_index = index
        numbered.append(Entry(term=raft.term, index=index, type=kind, data=data))
    log.append(numbered)
    broadcast_append(raft)


def on_forwarded_proposal(raft: RaftState, entries: Iterable[Entry]) -> None:
    """Append what another member has proposed. It may have done so before it knew of an earlier
    change: a removal that is now of the last voter would end all members, at every start."""
    harmless = [
        each
        if each.type == EntryType.NORMAL or _can_be_applied(raft, each)
        else each._replace(type=EntryType.NORMAL, data=None)
        for each in entries
    ]
    on_proposal(raft, harmless)


def _can_be_applied(raft: RaftState, change: Entry) -> bool:
    try:
        changed = decode_conf_change(change.data or b"")
        changed_configuration(raft.tracker.configuration, [changed])
    except (ValueError, ConfChangeRefused):
        return False
    return change.type == EntryType.CONF_CHANGE


# --- time ----------------------------------------------------------------------------------------


def tick_leader(raft: RaftState) -> None:
    """A tick has passed: check the quorum each election timeout, send heartbeats."""
    raft.heartbeat_elapsed += 1
    raft.election_elapsed += 1
    if raft.election_elapsed >= raft.config.election_ticks:
        raft.election_elapsed = 0
        if raft.config.check_quorum and not _quorum_is_active(raft):
            raft.become_follower(raft.term, NO_NODE)
            return
        # A transfer that takes longer has failed (thesis 3.10): lead on.
        raft.transferee = NO_NODE
    if raft.heartbeat_elapsed >= raft.config.heartbeat_ticks:
        raft.heartbeat_elapsed = 0
        broadcast_heartbeat(raft, raft.pending_reads.last_context())


def _quorum_is_active(raft: RaftState) -> bool:
    """Whether a majority was heard since the last check; begins the next period."""
    progress = raft.tracker.progress
    active = {each: progress[each].recent_active for each in raft.tracker.voters}
    for member, each in progress.items():
        each.recent_active = member == raft.id
    return vote_result(raft.tracker.voters, active) is VoteResult.WON


# --- answers -------------------------------------------------------------------------------------


def on_response(raft: RaftState, message: Message) -> None:
    """An answer to an append, a snapshot or a heartbeat; of strangers it does not count."""
    progress = raft.tracker.progress.get(message.from_)
    if progress is None:
        return
    if message.type == MessageType.HEARTBEAT_RESP:
        on_heartbeat_response(raft, message, progress)
        if message.context and raft.config.read_only == "safe":
            _on_read_acknowledged(raft, message.context, message.from_)
        return
    was_match = progress.match
    if on_append_response(raft, message, progress):
        release_postponed_reads(raft)
    caught_up = was_match < progress.match == raft.log.last_index
    if caught_up and message.from_ == raft.transferee:
        _send_timeout_now(raft)


# --- reads (thesis 6.4) --------------------------------------------------------------------------


def on_read_request(raft: RaftState, message: Message) -> None:
    """Answer with the commit index once it is proved that this member still leads.

    Before its first commit in its term a leader does not know what is committed, so reads wait.
    """
    if not raft.log.matches(raft.log.committed, raft.term):
        if len(raft.postponed_reads) < POSTPONED_READS_MAX:
            raft.postponed_reads.append(message)
    elif raft.is_only_voter or raft.config.read_only == "lease":
        _answer_read(raft, message, raft.log.committed)
    else:
        context = message.entries[0].data or b""
        raft.pending_reads.add(context, PendingRead(message, raft.log.committed, raft.id))
        broadcast_heartbeat(raft, context)


def release_postponed_reads(raft: RaftState) -> None:
    """The commit index moved, and so is of this term: begin with the reads that waited."""
    postponed, raft.postponed_reads = raft.postponed_reads, []
    for message in postponed:
        on_read_request(raft, message)


def _on_read_acknowledged(raft: RaftState, context: bytes, by: int) -> None:
    acks = raft.pending_reads.acknowledged(context, by)
    if acks and vote_result(raft.tracker.voters, acks) is VoteResult.WON:
        for read in raft.pending_reads.confirm_through(context):
            _answer_read(raft, read.request, read.index)


def _answer_read(raft: RaftState, request: Message, index: int) -> None:
    if request.from_ in (NO_NODE, raft.id):
        raft.read_states.append(ReadState(index, request.entries[0].data or b""))
    else:
        raft.send(
            Message(
                type=MessageType.READ_INDEX_RESP,
                to=request.from_,
                index=index,
                entries=request.entries,
            )
        )


# --- leadership transfer (thesis 3.10) -----------------------------------------------------------


def on_transfer_request(raft: RaftState, to: int) -> None:
    """Bring ``to`` up to date and let it campaign; until then proposals are dropped."""
    progress = raft.tracker.progress.get(to)
    if progress is None or progress.is_learner or to == raft.transferee:
        return
    raft.transferee = NO_NODE
    if to == raft.id:
        return
    raft.election_elapsed = 0
    raft.transferee = to
    if progress.match == raft.log.last_index:
        _send_timeout_now(raft)
    else:
        send_append(raft, to, progress)


def _send_timeout_now(raft: RaftState) -> None:
    raft.send(Message(type=MessageType.TIMEOUT_NOW, to=raft.transferee))


# --- the configuration ---------------------------------------------------------------------------


def on_configuration_changed(raft: RaftState) -> None:
    """A smaller majority may have committed more; newcomers are probed at once."""
    if raft.id not in raft.tracker.voters:
        if raft.config.step_down_on_removal:
            raft.become_follower(raft.term, NO_NODE)
        return
    if advance_commit(raft):
        broadcast_append(raft)
        release_postponed_reads(raft)
    else:
        for member, progress in raft.tracker.progress.items():
            if member != raft.id:
                send_append(raft, member, progress, even_empty=False)
    if raft.transferee not in raft.tracker.voters:
        raft.transferee = NO_NODE
    assert raft.state is StateType.LEADER, "only a leader adjusts to a configuration"
