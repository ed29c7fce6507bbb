"""The state of one member that elections, replication and reads share."""

from __future__ import annotations

from typing import Protocol

from etcdtw.raft.confchange import Tracker
from etcdtw.raft.config import RaftConfig, StateType
from etcdtw.raft.interfaces import ILogView
from etcdtw.raft.log import RaftLog
from etcdtw.raft.messages import NO_NODE, HardState, Message, MessageType
from etcdtw.raft.readonly import PendingReads
from etcdtw.raft.ready import ReadState, SoftState

_PROMISES = frozenset(
    {
        MessageType.APP_RESP,
        MessageType.VOTE,
        MessageType.VOTE_RESP,
        MessageType.PRE_VOTE,
        MessageType.PRE_VOTE_RESP,
    }
)
"""Messages that tell of a term, a vote or entries which the sender must not forget in a crash."""

_WITHOUT_TERM = frozenset({MessageType.PROP, MessageType.READ_INDEX})
"""Forwarded requests: they belong to no term."""


class Dice(Protocol):
    """The part of random.Random that the core uses."""

    def randrange(self, stop: int, /) -> int: ...


class RaftState:
    """Plain state with the few transitions that every part needs.

    ``term`` and ``vote`` are what the member must remember; ``lead`` is 0 while no leader is
    known. Messages collect in ``messages`` and ``promises`` until a Ready takes them; the latter
    wait for durability.
    """

    __slots__ = (
        "config",
        "dice",
        "election_elapsed",
        "election_timeout",
        "heartbeat_elapsed",
        "id",
        "lead",
        "log",
        "messages",
        "pending_conf_index",
        "pending_reads",
        "postponed_reads",
        "promises",
        "read_states",
        "state",
        "term",
        "told_at_once",
        "tracker",
        "transferee",
        "vote",
        "votes",
    )

    def __init__(self, config: RaftConfig, view: ILogView, dice: Dice) -> None:
        hard_state, conf_state = view.initial_state()
        self.config = config
        self.dice = dice
        self.id = config.id
        self.term: int = hard_state.term
        self.vote: int = hard_state.vote
        self.lead = NO_NODE
        self.state = StateType.FOLLOWER
        self.log = RaftLog(view, hard_state.commit, config.applied)
        self.tracker = Tracker(config.max_inflight_messages)
        self.tracker.restore(conf_state, self.log.last_index)
        self.votes: dict[int, bool] = {}
        """Answers to the election under way."""
        self.election_elapsed = 0
        """Ticks since a leader was heard, or, on a leader, since the quorum was checked."""
        self.heartbeat_elapsed = 0
        self.election_timeout = 0
        """Ticks of silence after which this member campaigns; drawn anew for each term."""
        self.transferee = NO_NODE
        """Whom leadership is being given to."""
        self.told_at_once: frozenset[int] | None = None
        """To others a new commit index goes with entries and heartbeats only; None: to nobody."""
        self.pending_conf_index = 0
        """No configuration change after the applied index lies past this entry of the leader."""
        self.pending_reads = PendingReads()
        self.postponed_reads: list[Message] = []
        """Reads that wait for the leader's first commit in its term."""
        self.messages: list[Message] = []
        self.promises: list[Message] = []
        self.read_states: list[ReadState] = []
        self.reset(self.term)

    # --- what must be remembered ---------------------------------------------------------------

    def hard_state(self) -> HardState:
        return HardState(term=self.term, vote=self.vote, commit=self.log.committed)

    def soft_state(self) -> SoftState:
        return SoftState(self.lead, self.state)

    @property
    def is_learner(self) -> bool:
        progress = self.tracker.progress.get(self.id)
        return progress is not None and progress.is_learner

    @property
    def is_promotable(self) -> bool:
        """Whether this member may become a leader: a voter with a complete log."""
        return self.id in self.tracker.voters and self.log.snapshot is None

    @property
    def is_only_voter(self) -> bool:
        return self.tracker.voters == (self.id,)

    # --- transitions ---------------------------------------------------------------------------

    def reset(self, term: int) -> None:
        """Begin anew in ``term``, with nothing known about the others."""
        if term != self.term:
            self.term = term
            self.vote = NO_NODE
        self.lead = NO_NODE
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        ticks = self.config.election_ticks
        self.election_timeout = ticks + self.dice.randrange(ticks)
        self.transferee = NO_NODE
        self.votes = {}
        self.pending_conf_index = 0
        self.pending_reads = PendingReads()
        self.postponed_reads = []
        next_index = self.log.last_index + 1
        for member, progress in self.tracker.progress.items():
            progress.reset(next_index, self.log.durable if member == self.id else 0)

    def become_follower(self, term: int, lead: int) -> None:
        self.reset(term)
        self.lead = lead
        self.state = StateType.FOLLOWER

    # --- messages ------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Queue a message; sender and term are filled in where they are not given.

        Votes bring their own term: that of the election, which need not be this member's.
        """
        assert message.to != self.id, f"{message.type.name} to oneself"
        kind, to, from_, term = message[:4]
        if from_ == NO_NODE or term == 0:
            if term == 0 and kind not in _WITHOUT_TERM:
                term = self.term
            message = Message(kind, to, from_ or self.id, term, *message[4:])
        if kind in _PROMISES:
            self.promises.append(message)
        else:
            self.messages.append(message)
