"""Elections (Raft 5.2, 5.4.1), the vote before them (thesis 9.6) and forced ones (3.10)."""

from __future__ import annotations

from enum import Enum

from etcdtw.raft.config import StateType
from etcdtw.raft.messages import NO_NODE, Entry, EntryType, Message, MessageType
from etcdtw.raft.quorum import VoteResult, vote_result
from etcdtw.raft.replication import broadcast_append
from etcdtw.raft.state import RaftState

TRANSFER_CONTEXT = b"CampaignTransfer"
"""The context of a vote request that followers honour although they hear from a leader."""


class Campaign(Enum):
    """``PRE_VOTE`` asks whether an election could be won, ``ELECTION`` holds it, ``TRANSFER``
    holds it because the leader wants it."""

    PRE_VOTE = 0
    ELECTION = 1
    TRANSFER = 2


def start_campaign(raft: RaftState, kind: Campaign) -> None:
    """Campaign, unless this member leads already or may not lead."""
    if raft.state is StateType.LEADER or not raft.is_promotable:
        return
    log = raft.log
    # Whoever has not applied a committed change would count votes by an old configuration.
    if log.applied < log.committed and log.has_conf_change(log.applied + 1, log.committed + 1):
        return
    _campaign(raft, kind)


def usual_campaign(raft: RaftState) -> Campaign:
    """How a member of this configuration begins when it hears no leader."""
    return Campaign.PRE_VOTE if raft.config.pre_vote else Campaign.ELECTION


def _campaign(raft: RaftState, kind: Campaign) -> None:
    if kind is Campaign.PRE_VOTE:
        _become_pre_candidate(raft)
        # A pre-vote asks about the next term without entering it. It promises nothing, so this
        # member's own answer need not wait for the disk.
        vote_type, term = MessageType.PRE_VOTE, raft.term + 1
        raft.votes[raft.id] = True
    else:
        become_candidate(raft)
        vote_type, term = MessageType.VOTE, raft.term
    last_index, last_term = raft.log.last_index, raft.log.last_term()
    context = TRANSFER_CONTEXT if kind is Campaign.TRANSFER else None
    for voter in raft.tracker.voters:
        if voter != raft.id:
            raft.send(
                Message(
                    type=vote_type,
                    to=voter,
                    term=term,
                    log_term=last_term,
                    index=last_index,
                    context=context,
                )
            )
    if kind is Campaign.PRE_VOTE and raft.is_only_voter:
        _campaign(raft, Campaign.ELECTION)


# --- transitions ---------------------------------------------------------------------------------


def _become_pre_candidate(raft: RaftState) -> None:
    """Term and vote stay as they are: nothing has begun yet."""
    assert raft.state is not StateType.LEADER, "a leader does not campaign"
    raft.votes = {}
    raft.lead = NO_NODE
    raft.state = StateType.PRE_CANDIDATE


def become_candidate(raft: RaftState) -> None:
    """Enter a new term and vote for oneself; the vote counts once it is durable."""
    assert raft.state is not StateType.LEADER, "a leader does not campaign"
    raft.reset(raft.term + 1)
    raft.vote = raft.id
    raft.state = StateType.CANDIDATE


def become_leader(raft: RaftState) -> None:
    """Lead this term, and begin it with an empty entry: only with an entry of its own term does a
    leader know what is committed (Raft 5.4.2, 8)."""
    assert raft.state is StateType.CANDIDATE, f"{raft.state.value} cannot become leader"
    raft.reset(raft.term)
    raft.lead = raft.id
    raft.state = StateType.LEADER
    progress = raft.tracker.progress[raft.id]
    progress.become_replicate()
    progress.recent_active = True
    # There may be an uncommitted configuration change anywhere in the log; looking is dear.
    raft.pending_conf_index = raft.log.last_index
    index = raft.log.last_index + 1
    raft.log.append([Entry(term=raft.term, index=index, type=EntryType.NORMAL, data=None)])
    broadcast_append(raft)


# --- votes ---------------------------------------------------------------------------------------


def on_vote_request(raft: RaftState, message: Message) -> None:
    """Answer a Vote or PreVote of this term or a later one."""
    is_pre_vote = message.type == MessageType.PRE_VOTE
    may_vote = (
        raft.vote == message.from_
        or (raft.vote == NO_NODE and raft.lead == NO_NODE)
        or (is_pre_vote and message.term > raft.term)
    )
    granted = may_vote and raft.log.is_up_to_date(message.index, message.log_term)
    raft.send(
        Message(
            type=MessageType.PRE_VOTE_RESP if is_pre_vote else MessageType.VOTE_RESP,
            to=message.from_,
            # A granted pre-vote is for the term that was asked about, a refusal tells our own.
            term=message.term if granted else raft.term,
            reject=not granted,
        )
    )
    if granted and not is_pre_vote:
        raft.election_elapsed = 0
        raft.vote = message.from_


def on_vote(raft: RaftState, voter: int, granted: bool) -> None:
    """Count an answer, the first one of each voter, and draw the conclusion."""
    raft.votes.setdefault(voter, granted)
    result = vote_result(raft.tracker.voters, raft.votes)
    if result is VoteResult.WON:
        if raft.state is StateType.PRE_CANDIDATE:
            _campaign(raft, Campaign.ELECTION)
        else:
            become_leader(raft)
    elif result is VoteResult.LOST:
        # The term stays: a pre-candidate never entered the next one.
        raft.become_follower(raft.term, NO_NODE)


def on_own_vote_durable(raft: RaftState) -> None:
    """The hard state with this term and the vote for oneself is on disk."""
    if raft.state is StateType.CANDIDATE and raft.id not in raft.votes:
        on_vote(raft, raft.id, True)
