"""The face of the core: what a driver calls, and the Ready that tells it what to do."""

from __future__ import annotations

from types import MappingProxyType

from etcdtw.raft.confchange import changed_configuration
from etcdtw.raft.config import RaftConfig, StateType
from etcdtw.raft.election import on_own_vote_durable, start_campaign, usual_campaign
from etcdtw.raft.errors import ProposalDropped
from etcdtw.raft.follower import forward
from etcdtw.raft.interfaces import ILogView
from etcdtw.raft.leader import (
    check_may_append,
    on_configuration_changed,
    on_proposal,
    on_read_request,
    on_transfer_request,
    release_postponed_reads,
    tick_leader,
)
from etcdtw.raft.messages import (
    NO_NODE,
    ConfChange,
    ConfState,
    Entry,
    EntryType,
    Message,
    MessageType,
    number_entries,
)
from etcdtw.raft.progress import Progress
from etcdtw.raft.ready import Ready
from etcdtw.raft.replication import (
    broadcast_append,
    lack_commit,
    on_own_log_durable,
    on_snapshot_status,
    on_unreachable,
    tell_commit,
)
from etcdtw.raft.state import Dice, RaftState
from etcdtw.raft.step import step


class RaftNode:
    """One member of a Raft group, without clock, disk or network.

    The driver's duties:

    1. Call ``tick`` at a fixed pace, ``step`` with each message of a peer, ``propose_batch`` with
       what clients want.
    2. Take each Ready that there is and honour it in the order that it documents.
    3. Append its entries to ``log`` (the ILogView given here) and make entries, hard state and
       snapshot durable, release its ``after_persist``, then call ``persisted(ready)``. At most
       one Ready with such work is out at a time; until ``persisted``, further ones carry only
       messages, committed entries and read states that do not depend on it.
    4. Apply committed entries in order, each configuration change through
       ``apply_conf_change``, and call ``applied_to``; this may lag.

    Nothing here may be called from within a call to it.
    """

    def __init__(self, config: RaftConfig, log: ILogView, dice: Dice) -> None:
        self._raft = RaftState(config, log, dice)
        self._unpersisted: Ready | None = None
        self._soft_state = self._raft.soft_state()
        self._promised = self._raft.term, self._raft.vote

    # --- status --------------------------------------------------------------------------------

    @property
    def id(self) -> int:
        return self._raft.id

    @property
    def term(self) -> int:
        return self._raft.term

    @property
    def vote(self) -> int:
        """Whom this member voted for in this term, 0 for nobody."""
        return self._raft.vote

    @property
    def lead(self) -> int:
        """The leader as far as it is known, 0 for nobody."""
        return self._raft.lead

    @property
    def state(self) -> StateType:
        return self._raft.state

    @property
    def committed(self) -> int:
        """Index of the last entry known to be committed."""
        return self._raft.log.committed

    @property
    def committed_taken(self) -> int:
        """Up to here what Readies gave out to be made durable is committed; behind it the log on
        disk may still end with what another leader has replaced."""
        return self._raft.log.committed_taken

    @property
    def applied(self) -> int:
        """Index of the last entry known to be applied here."""
        return self._raft.log.applied

    @property
    def last_index(self) -> int:
        """Index of the last entry of the log, durable or not."""
        return self._raft.log.last_index

    @property
    def is_learner(self) -> bool:
        return self._raft.is_learner

    @property
    def election_ticks(self) -> int:
        return self._raft.config.election_ticks

    @property
    def transferee(self) -> int:
        """Whom this leader is giving leadership to, 0 for nobody."""
        return self._raft.transferee

    def conf_state(self) -> ConfState:
        """The configuration in force: that of the last applied change."""
        return self._raft.tracker.configuration.to_conf_state()

    def progress(self) -> MappingProxyType[int, Progress]:
        """What a leader knows of each member, by id; meaningless on others. To be read only."""
        return MappingProxyType(self._raft.tracker.progress)

    # --- time ----------------------------------------------------------------------------------

    def tick(self) -> None:
        """One heartbeat interval (``heartbeat_ticks`` of them) has passed."""
        raft = self._raft
        if raft.state is StateType.LEADER:
            tick_leader(raft)
            return
        raft.election_elapsed += 1
        if raft.election_elapsed >= raft.election_timeout and raft.is_promotable:
            raft.election_elapsed = 0
            start_campaign(raft, usual_campaign(raft))

    def campaign(self) -> None:
        """Stand for leader now, as if no leader had been heard for an election timeout."""
        start_campaign(self._raft, usual_campaign(self._raft))

    # --- peers ---------------------------------------------------------------------------------

    def step(self, message: Message) -> None:
        """Take in a message of a peer. What is late, unknown or cannot be served is dropped.

        Raises UnexpectedMessage for one that no peer may send, and LogLost when a leader refers
        to entries that this member acknowledged and no longer has.
        """
        step(self._raft, message)

    def report_unreachable(self, member: int) -> None:
        """The last message to ``member`` was probably lost."""
        progress = self._raft.tracker.progress.get(member)
        if progress is not None and self._raft.state is StateType.LEADER:
            on_unreachable(progress)

    def report_snapshot(self, member: int, ok: bool) -> None:
        """Sending a snapshot to ``member`` has ended, well or not; must be called for each."""
        progress = self._raft.tracker.progress.get(member)
        if progress is not None and self._raft.state is StateType.LEADER:
            on_snapshot_status(progress, ok)

    def hold_commit(self, told: frozenset[int] | None) -> None:
        """Tell a new commit index at once, by a message of its own, only to these members (None: to
        all, as at first); to others it goes with the next entries or heartbeat. Who lacks it and is
        among them is told now."""
        self._raft.told_at_once = told
        self._tell_commit(told)

    @property
    def commit_is_untold(self) -> bool:
        """Whether a leader holds news of what is committed."""
        return self._raft.state is StateType.LEADER and any(lack_commit(self._raft))

    def tell_commit(self) -> None:
        """Send such news now."""
        self._tell_commit(None)

    def _tell_commit(self, members: frozenset[int] | None) -> None:
        if self._raft.state is StateType.LEADER:
            tell_commit(self._raft, members)

    # --- requests ------------------------------------------------------------------------------

    def propose(self, data: bytes) -> None:
        """``propose_batch`` with one."""
        self.propose_batch([data])

    def propose_batch(self, datas: list[bytes]) -> None:
        """Append normal entries, in this order and without others in between; a follower
        forwards them to its leader, and they may get lost on the way.

        Raises ProposalDropped, with none of them taken, when there is no leader to take them.
        """
        if not datas:
            return
        raft = self._raft
        if raft.state is StateType.LEADER:
            check_may_append(raft)
            raft.log.append(number_entries(raft.term, raft.log.last_index + 1, datas))
            broadcast_append(raft)
        else:
            self._forward_proposal([_unnumbered(EntryType.NORMAL, each) for each in datas])

    def propose_conf_change(self, data: bytes, cc: ConfChange) -> None:
        """Append the configuration change ``cc``, whose encoding is ``data``.

        While another one is not applied yet, an empty normal entry takes its place and nobody is
        told, as in etcd. Raises ProposalDropped as ``propose_batch`` does, and on a leader
        ConfChangeRefused for a change that would leave no voter: once in the log, it would stop
        every member that applies it.
        """
        raft = self._raft
        entries = [_unnumbered(EntryType.CONF_CHANGE, data)]
        if raft.state is StateType.LEADER:
            changed_configuration(raft.tracker.configuration, [cc])
            on_proposal(raft, entries)
        else:
            self._forward_proposal(entries)

    def _forward_proposal(self, entries: list[Entry]) -> None:
        raft = self._raft
        may_forward = not raft.config.disable_proposal_forwarding
        if not may_forward or not forward(raft, Message(type=MessageType.PROP, entries=entries)):
            raise ProposalDropped

    def read_index(self, ctx: bytes) -> None:
        """Ask for a linearizable read; a ReadState with the unique ``ctx`` follows, or nothing
        when there is no leader or messages got lost: ask again with another one then."""
        raft = self._raft
        entries = [_unnumbered(EntryType.NORMAL, ctx)]
        request = Message(type=MessageType.READ_INDEX, entries=entries)
        if raft.state is StateType.LEADER:
            on_read_request(raft, request)
        else:
            forward(raft, request)

    def transfer_leader(self, to: int) -> None:
        """Have the leader hand over to ``to``; given up after an election timeout."""
        raft = self._raft
        if raft.state is StateType.LEADER:
            on_transfer_request(raft, to)
        else:
            # On the wire the transferee stands where the sender of other messages does.
            forward(raft, Message(type=MessageType.TRANSFER_LEADER, from_=to))

    def apply_conf_change(self, cc: ConfChange) -> ConfState:
        """Put a committed change into force when it is its turn to be applied; with node id 0 it
        is void, but must still be reported. The configuration after it.

        Raises ConfChangeRefused for a change that would leave no voter.
        """
        raft = self._raft
        if cc.node_id != NO_NODE:
            raft.tracker.change([cc], raft.log.last_index)
            if raft.state is StateType.LEADER:
                on_configuration_changed(raft)
        return self.conf_state()

    # --- Ready ---------------------------------------------------------------------------------

    def take_ready(self) -> Ready | None:
        """What is to be done now, none of which is given out again; None: nothing."""
        raft = self._raft
        log = raft.log
        ready = Ready()
        some = False
        lead, state = self._soft_state
        if lead != raft.lead or state is not raft.state:
            ready.soft_state = self._soft_state = raft.soft_state()
            some = True
        if raft.messages:
            ready.messages, raft.messages = raft.messages, []
            some = True
        if raft.read_states:
            ready.read_states, raft.read_states = raft.read_states, []
            some = True
        if log.offered < log.committed:
            ready.committed = self.take_committed()
            some = some or bool(ready.committed)
        if self._unpersisted is None:
            term, vote = self._promised
            has_news = term != raft.term or vote != raft.vote
            if has_news or log.taken < log.last_index or log.has_untaken_snapshot:
                self._unpersisted = ready
                if has_news or log.has_untaken_snapshot:
                    ready.hard_state = raft.hard_state()
                    self._promised = raft.term, raft.vote
                if log.has_untaken_snapshot:
                    ready.snapshot = log.take_snapshot()
                ready.entries = log.take_unstable()
                ready.after_persist, raft.promises = raft.promises, []
                return ready
            if raft.promises:
                # What they promise is on disk already.
                ready.messages = [*ready.messages, *raft.promises]
                raft.promises = []
                some = True
        return ready if some else None

    def take_committed(self) -> list[Entry]:
        """The next entries to apply, as many as one Ready may hold. Some may have been committed
        by ``persisted``."""
        log = self._raft.log
        if not log.has_committed:
            return []
        return log.take_committed(self._raft.config.max_committed_bytes)

    def persisted(self, ready: Ready) -> None:
        """The entries, hard state and snapshot of ``ready`` are durable and in the ILogView."""
        if not ready.is_durable_work:
            return
        assert ready is self._unpersisted, "a Ready was reported that is not the one out"
        self._unpersisted = None
        raft = self._raft
        raft.log.taken_is_durable(ready.snapshot)
        if raft.state is StateType.LEADER:
            if ready.entries and on_own_log_durable(raft):
                release_postponed_reads(raft)
        elif ready.hard_state is not None and ready.hard_state[:2] == (raft.term, raft.id):
            on_own_vote_durable(raft)

    def applied_to(self, index: int) -> None:
        """The state machine has applied everything up to ``index``."""
        self._raft.log.applied_to(index)


def _unnumbered(kind: EntryType, data: bytes) -> Entry:
    """An entry that has no place in the log yet; the leader gives it one."""
    return Entry(term=0, index=0, type=kind, data=data)
