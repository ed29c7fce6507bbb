"""One message in: the rules for terms, then what it means to a member in its present state."""

from __future__ import annotations

from etcdtw.raft.config import StateType
from etcdtw.raft.election import (
    TRANSFER_CONTEXT,
    Campaign,
    on_vote,
    on_vote_request,
    start_campaign,
)
from etcdtw.raft.errors import ProposalDropped, UnexpectedMessage
from etcdtw.raft.follower import forward, on_append, on_heartbeat, on_snapshot
from etcdtw.raft.leader import (
    on_forwarded_proposal,
    on_read_request,
    on_response,
    on_transfer_request,
)
from etcdtw.raft.messages import NO_NODE, Message, MessageType
from etcdtw.raft.ready import ReadState
from etcdtw.raft.state import RaftState

_LOCAL = frozenset(
    {
        MessageType.HUP,
        MessageType.BEAT,
        MessageType.UNREACHABLE,
        MessageType.SNAP_STATUS,
        MessageType.CHECK_QUORUM,
    }
)
_VOTE_REQUESTS = frozenset({MessageType.VOTE, MessageType.PRE_VOTE})
_FROM_LEADER = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})
_OF_A_TERM = _VOTE_REQUESTS | _FROM_LEADER
_PASSED_ON = frozenset({MessageType.PROP, MessageType.READ_INDEX, MessageType.TRANSFER_LEADER})
"""What a member that is no leader hands on in its sender's name."""
_RESPONSES = frozenset({MessageType.APP_RESP, MessageType.HEARTBEAT_RESP})


def step(raft: RaftState, message: Message) -> None:
    """Take in a message of a peer.

    What is late, unknown or cannot be served is dropped, as it would be on the wire. Raises
    UnexpectedMessage for one that no peer may send.
    """
    _check(message, raft.id)
    if message.term > raft.term:
        if not _enter_higher_term(raft, message):
            return
    elif 0 < message.term < raft.term:
        _answer_lower_term(raft, message)
        return
    if message.type in _VOTE_REQUESTS:
        on_vote_request(raft, message)
    elif raft.state is StateType.LEADER:
        _step_leader(raft, message)
    elif message.type in _FROM_LEADER:
        _hear_leader(raft, message)
    elif raft.state is StateType.FOLLOWER:
        _step_follower(raft, message)
    else:
        _step_candidate(raft, message)


def _check(message: Message, own_id: int) -> None:
    kind = message.type
    if kind in _LOCAL or (message.from_ == own_id and kind not in _PASSED_ON):
        raise UnexpectedMessage(f"{kind.name} came from member {message.from_:x}")
    if message.term == 0 and kind in _OF_A_TERM:
        # A candidate would follow into term 0, and forget whom it has voted for.
        raise UnexpectedMessage(f"{kind.name} from member {message.from_:x} has no term")
    if kind in (MessageType.READ_INDEX, MessageType.READ_INDEX_RESP):
        if len(message.entries) != 1:
            raise UnexpectedMessage(
                f"{kind.name} from member {message.from_:x} has {len(message.entries)} entries"
            )
    elif kind == MessageType.PROP and not message.entries:
        raise UnexpectedMessage(f"{kind.name} from member {message.from_:x} is empty")
    elif kind == MessageType.APP and message.entries:
        # Both ends are enough: what a decoder or a wire can get wrong is the place of them all.
        entries, before = message.entries, message.index
        if (entries[0].index, entries[-1].index) != (before + 1, before + len(entries)):
            raise UnexpectedMessage(
                f"{kind.name} from member {message.from_:x} has entries {entries[0].index} to "
                f"{entries[-1].index} after {before}"
            )


# --- terms (Raft 5.1) ----------------------------------------------------------------------------


def _enter_higher_term(raft: RaftState, message: Message) -> bool:
    """Follow into a later term; False when the message is to be ignored."""
    kind = message.type
    if kind in _VOTE_REQUESTS:
        hears_leader = (
            raft.config.check_quorum
            and raft.lead != NO_NODE
            and raft.election_elapsed < raft.config.election_ticks
        )
        if hears_leader and message.context != TRANSFER_CONTEXT:
            # A member that was cut off or removed must not disturb the others (thesis 4.2.3).
            return False
    if kind == MessageType.PRE_VOTE:
        return True
    if kind == MessageType.PRE_VOTE_RESP and not message.reject:
        # It answers for the term that was asked about; that term begins once the vote is won.
        return True
    raft.become_follower(message.term, message.from_ if kind in _FROM_LEADER else NO_NODE)
    return True


def _answer_lower_term(raft: RaftState, message: Message) -> None:
    """Usually silence. But with check-quorum and pre-vote nobody else would tell a leader, or a
    pre-candidate, that is stuck in an old term: an answer with our term does."""
    config = raft.config
    kind = message.type
    if kind == MessageType.PRE_VOTE:
        raft.send(Message(type=MessageType.PRE_VOTE_RESP, to=message.from_, reject=True))
    elif kind in (MessageType.APP, MessageType.HEARTBEAT) and (
        config.check_quorum or config.pre_vote
    ):
        raft.send(Message(type=MessageType.APP_RESP, to=message.from_))


# --- states --------------------------------------------------------------------------------------


def _step_leader(raft: RaftState, message: Message) -> None:
    kind = message.type
    if kind in _RESPONSES:
        on_response(raft, message)
    elif kind == MessageType.PROP:
        try:
            on_forwarded_proposal(raft, message.entries)
        except ProposalDropped:
            pass
    elif kind == MessageType.READ_INDEX:
        on_read_request(raft, message)
    elif kind == MessageType.TRANSFER_LEADER:
        on_transfer_request(raft, message.from_)


def _hear_leader(raft: RaftState, message: Message) -> None:
    """A follower goes on following; a candidate has lost the election."""
    if raft.state is StateType.FOLLOWER:
        raft.election_elapsed = 0
        raft.lead = message.from_
    else:
        raft.become_follower(message.term, message.from_)
    if message.type == MessageType.APP:
        on_append(raft, message)
    elif message.type == MessageType.HEARTBEAT:
        on_heartbeat(raft, message)
    else:
        on_snapshot(raft, message)


def _step_follower(raft: RaftState, message: Message) -> None:
    kind = message.type
    if kind == MessageType.TIMEOUT_NOW:
        # The leader wants it, so nobody need be asked beforehand.
        start_campaign(raft, Campaign.TRANSFER)
    elif kind == MessageType.READ_INDEX_RESP:
        raft.read_states.append(ReadState(message.index, message.entries[0].data or b""))
    elif kind == MessageType.PROP:
        if not raft.config.disable_proposal_forwarding:
            forward(raft, message)
    elif kind in (MessageType.READ_INDEX, MessageType.TRANSFER_LEADER):
        forward(raft, message)


def _step_candidate(raft: RaftState, message: Message) -> None:
    expected = (
        MessageType.PRE_VOTE_RESP
        if raft.state is StateType.PRE_CANDIDATE
        else MessageType.VOTE_RESP
    )
    if message.type == expected:
        on_vote(raft, message.from_, not message.reject)
