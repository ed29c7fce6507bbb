"""The driver: Raft, the log on disk, the peers and the state machine on one reactor.

Duties, in this order, of every turn (Raft paper section 5; etcd-raft's contract):

1. Persist before release: entries, term and vote are durable before an acknowledgement or a vote
   that depends on them leaves. Only a leader's appends may overtake its own disk.
2. Apply in log order, each entry once.
3. Never call into the core from a callback of the core: callers queue and wake the driver.
4. A failed sync is fatal: what the disk holds is unknown from then on.
5. A snapshot is installed before later entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from etcdtw.errors import Stopped, TooManyRequests
from etcdtw.ids import RequestIds
from etcdtw.raft import (
    ProposalDropped,
    RaftNode,
    Ready,
    StateType,
    UnexpectedMessage,
)
from etcdtw.raft.messages import NO_NODE, ConfState, Entry, Message
from etcdtw.raft.state_machine import IStateMachine
from etcdtw.replica.acknowledgements import newest_only
from etcdtw.replica.applying import Applying
from etcdtw.replica.commit_notices import CommitNotices
from etcdtw.replica.counts import ReplicaCounts
from etcdtw.replica.durable import DurableLog
from etcdtw.replica.interfaces import IPeerTransport
from etcdtw.replica.proposal import Proposal, ProposalQueue, Submitted
from etcdtw.replica.reads import ReadQueue, Waiter
from etcdtw.replica.slowness import SLOW_SECONDS, Slowness

APPLY_BACKLOG_MAX = 5000
"""Committed but unapplied entries beyond which new requests are refused (etcd's gap)."""

HELD_BYTES_MAX = 64 << 20
"""Of requests that are held back, beyond which more are refused."""

LOOKS_MAX = 3
"""How often a turn waits for one more look at the sockets while requests keep coming. Measured
with 100 requests in flight on 10 connections: one look 67,500 puts/s, three 72,000, six 73,600; on
100 connections of one request each six cost 6 %."""


log = Logger(namespace="etcdtw.replica")


def _refuse_numbering(submitted: Sequence[Submitted]) -> list[Proposal]:
    raise AssertionError("nobody makes entries here")


@dataclass(frozen=True)
class ReplicaSettings:
    """``heartbeat_seconds`` is the length of a tick; a turn longer than ``turn_seconds`` pauses
    to let the reactor serve others; requests wait at most ``request_seconds``; an apply that takes
    longer than ``slow_apply_seconds`` is logged. An entry that takes several turns to apply gets
    ``piece_seconds`` of each and, from one to the next, a pause of ``pause_seconds``."""

    heartbeat_seconds: float = 0.1
    request_seconds: float = 7.0
    turn_seconds: float = 0.02
    slow_apply_seconds: float = 0.1
    piece_seconds: float = 0.01
    pause_seconds: float = 0.0


class Replica:
    """One member's share of the replicated log. All calls on the reactor thread.

    ``on_turn_begin`` and ``on_turn_end`` callables run around each turn; ``on_leader_change`` ones
    get the leader's id (0: none), ``on_term`` ones a new term; ``on_applied`` ones entries that
    were applied in one go, and the seconds that took; ``on_leading`` ones run once per
    term that this member leads, when its first own entry is applied, ``on_following`` ones when it
    leads no more; ``on_fatal`` gets the error that ends the member.
    """

    def __init__(
        self,
        node: RaftNode,
        durable: DurableLog,
        machine: IStateMachine,
        transport: IPeerTransport,
        clock: IReactorTime,
        ids: RequestIds,
        settings: ReplicaSettings,
    ) -> None:
        self.node = node
        self.ids = ids
        self.durable = durable
        self.machine = machine
        self._transport = transport
        self._clock = clock
        self._settings = settings
        self._proposals = ProposalQueue(settings.request_seconds)
        self._reads = ReadQueue(ids, settings.request_seconds)
        self._commit_notices = CommitNotices(node, clock, self.wake)
        self._turn: IDelayedCall | None = None
        self._tick: IDelayedCall | None = None
        self._tick_due = 0.0
        self._unsynced: Ready | None = None
        self._sync_begun = False
        self._outbox: list[Message] = []
        self._stopped = False
        self._is_far_behind = False
        self._synced_now = False
        self._flush_due = False
        self._looks = 0
        self._last_count = 0
        self._held_bytes = 0
        self._held_since = self._held_seconds = 0.0
        self.holds_back: Callable[[], bool] = lambda: False
        """Asked each turn: while it says True, new requests wait. Who sets it wakes the replica
        when that changes."""
        self.number: Callable[[Sequence[Submitted]], list[Proposal]] = _refuse_numbering
        """Gives what was submitted its data, and says which of it is to be proposed."""
        self._submitted: list[Submitted] = []
        self.reads_are_local = False
        """A linearizable read may run at once: the only voter leads, and has applied all."""
        self.reads_served = 0
        """Reads so far; those who serve them count, so that a slow disk does not stop them."""
        self._reads_at_sync = 0
        self.on_turn_begin: list[Callable[[], None]] = []
        self.on_turn_end: list[Callable[[], None]] = []
        self.on_leader_change: list[Callable[[int], None]] = []
        self.on_term: list[Callable[[int], None]] = []
        self.on_leading: list[Callable[[], None]] = []
        self.on_following: list[Callable[[], None]] = []
        self.on_fatal: list[Callable[[BaseException], None]] = []
        self._alone = False
        self._has_peers = True
        self._lead = NO_NODE
        self._term = 0
        self._led_term = 0
        self.counts = ReplicaCounts()
        self.slowness = Slowness(settings.slow_apply_seconds)
        self._applying = Applying(
            node, machine, self._proposals, clock, settings.piece_seconds, self.slowness
        )
        self._applying.on_term_begun.append(self._note_own_term)
        self._applying.on_configuration.append(self._note_configuration)
        self.on_applied = self._applying.on_applied

    # --- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick, and to apply what an earlier run committed."""
        self._transport.attach(self)
        self._note_configuration(self.node.conf_state())
        self._tick = self._clock.callLater(self._settings.heartbeat_seconds, self._on_tick)
        self._tick_due = self._clock.seconds() + self._settings.heartbeat_seconds
        self.wake()

    def stop(self) -> None:
        """Stop ticking, refuse whoever waits, make the log durable and close it."""
        if not self._stopped:
            self._halt()
            self._flush()
            self.durable.close()

    # --- requests ------------------------------------------------------------------------------

    @property
    def leader(self) -> int:
        """The leader's id, 0 when none is known."""
        return self.node.lead

    @property
    def is_leader(self) -> bool:
        return self.node.state == StateType.LEADER

    @property
    def has_stopped(self) -> bool:
        """By its own fault, or because it was told to."""
        return self._stopped

    @property
    def pending_proposals(self) -> int:
        """Requests on their way through the log."""
        return len(self._proposals) + len(self._submitted)

    @property
    def slow_reads(self) -> int:
        """Rounds of linearizable reads that got no answer in time."""
        return self._reads.slow_rounds

    @property
    def applies_in_turns(self) -> bool:
        """Whether an entry is half applied."""
        return self._applying.is_amid_entry

    @property
    def applied_index(self) -> int:
        applied: int = self.machine.applied_index
        return applied

    def propose(self, proposal: Proposal) -> None:
        """Put a request into the log; its ``done`` is called once, never from within this call
        except to refuse it."""
        if self._stopped:
            proposal.done(Stopped())
            return
        if self._is_far_behind:
            proposal.done(TooManyRequests())
            return
        if self._held_bytes:
            self._held_bytes += len(proposal.data)
            if self._held_bytes > HELD_BYTES_MAX:
                self._held_bytes -= len(proposal.data)
                proposal.done(TooManyRequests())
                return
        self._proposals.add(proposal, self._clock.seconds())
        if self._turn is None:
            self.wake()

    def submit(self, proposal: Proposal, raw: bytes, cost: int) -> None:
        """The same for a request of which ``number`` makes an entry, in the next turn."""
        if self._stopped:
            proposal.done(Stopped())
            return
        self._submitted.append((proposal, raw, cost))
        if self._turn is None:
            self.wake()

    def read(self, waiter: Waiter) -> None:
        """Call ``waiter`` with None once a linearizable read may run here, or with an error."""
        if self._stopped:
            waiter(Stopped())
        elif self.reads_are_local:
            self.reads_served += 1
            waiter(None)
        else:
            self._reads.add(waiter, self._clock.seconds())
            self.wake()

    def transfer_leader(self, to: int) -> None:
        self.node.transfer_leader(to)
        self.wake()

    def advance_ticks(self, ticks: int) -> None:
        """Bring the election closer, where nobody leads yet."""
        if not self._stopped and self.node.lead == NO_NODE:
            for _ in range(ticks):
                self.node.tick()
            self.wake()

    # --- from the peers ------------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        """A message from a peer. A forwarded proposal that cannot be taken is dropped, as on the
        wire, and so is what no peer may send; its sender times out or retries."""
        if self._stopped:
            return
        self._commit_notices.received(message)
        try:
            self.node.step(message)
        except (ProposalDropped, UnexpectedMessage):
            pass
        except Exception as error:  # it contradicts the log, or was taken in by half
            self.fail(error)
        self.wake()

    def peer_unreachable(self, member_id: int) -> None:
        if not self._stopped:
            self.node.report_unreachable(member_id)

    def snapshot_sent(self, member_id: int, ok: bool) -> None:
        if not self._stopped:
            self.node.report_snapshot(member_id, ok)
            self.wake()

    # --- the turn ------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have a turn after the reactor has read what is there to read, so that all of it shares
        one write, one sync and one answer per connection."""
        if self._turn is None and not self._stopped:
            self._turn = self._clock.callLater(0, self._on_turn)

    def _on_tick(self) -> None:
        self._tick = self._clock.callLater(self._settings.heartbeat_seconds, self._on_tick)
        now = self._clock.seconds()
        lag = max(0.0, now - self._tick_due)
        self.counts.lag_seconds.observe(lag)
        self.slowness.waited("reactor", lag)
        if self.is_leader and self._has_peers and lag > self._settings.heartbeat_seconds:
            self._note_late_heartbeat(lag)
        self._tick_due = now + self._settings.heartbeat_seconds
        self.node.tick()
        late = self._proposals.expire(now)
        self.counts.failed_proposals += late
        if late and self._held_bytes:
            self._held_bytes = self._proposals.new_bytes
        self.counts.failed_reads += self._reads.expire(now)
        self._flush_due = True
        self.wake()

    def _on_turn(self) -> None:
        """Several requests at once mean several clients: while the first were read others have
        written, and another look at the sockets lets them share the sync."""
        self._turn = None
        count = self._proposals.new_count + len(self._submitted)
        if count > 1 and count > self._last_count and self._looks < LOOKS_MAX:
            self._last_count = count
            self._looks += 1
            self.wake()
            return
        self._looks = self._last_count = 0
        self._drive()

    def _drive(self) -> None:
        for begin in self.on_turn_begin:
            begin()
        try:
            self._run_turn()
        except Exception as error:  # the one place where the member ends by its own fault
            self.fail(error)
        for end in self.on_turn_end:
            end()

    def _run_turn(self) -> None:
        node = self.node
        if self._synced_now:
            self._synced_now = False
            ready, self._unsynced = self._unsynced, None
            assert ready is not None, "a sync ended that nobody waits for"
            self._persisted(ready)
        now = self._clock.seconds()
        if self._flush_due:
            self._flush_due = False
            self._flush()
            self.durable.compact(self.machine.applied_index)
        turn_ends = now + self._settings.turn_seconds
        if self._submitted:
            self._propose_submitted(now)
        if self._proposals.new_count:
            if self.holds_back():
                if not self._held_bytes:
                    self._held_bytes = self._proposals.new_bytes
                    self._held_since = now
            else:
                if self._held_bytes:
                    self._held_seconds = now - self._held_since
                self._held_bytes = 0
                self._proposals.hand_over(node)
        reads = self._reads if self._reads.waiting else None
        if reads is not None:
            reads.hand_over(node, now)
        while not self._stopped and (ready := node.take_ready()) is not None:
            if node.term != self._term:
                self._note_term()
            if ready.soft_state is not None:
                self._note_leader()
            if ready.messages:
                self._send(ready.messages)
            if ready.snapshot is not None:
                self.machine.restore(ready.snapshot)
                self._note_configuration(ready.snapshot.conf_state)
            if ready.is_durable_work:
                self._persist(ready)
            else:
                assert not ready.after_persist, "an acknowledgement that waits for nothing"
            if ready.read_states and reads is not None:
                reads.answered(ready.read_states)
            committed = ready.committed or node.take_committed()
            if committed:
                self._applying.apply(committed)
                if self._clock.seconds() > turn_ends:
                    self.wake()
                    break
        applied = self.machine.applied_index
        if self._alone and node.lead == NO_NODE and applied == node.committed:
            self._lead_at_once()
        self.reads_are_local = (
            self._alone and self._led_term == node.term and applied >= node.committed
        )
        self._is_far_behind = node.committed > applied + APPLY_BACKLOG_MAX
        self._release()
        if reads is not None:
            reads.release(applied)
            if reads.wants_turn():
                self.wake()
        if self._has_peers and not self._stopped:
            self._commit_notices.turn_ended(now)
        if self._applying.is_behind:
            # What was to be sent or answered in this turn is on its way already.
            self._applying.work_off()
            if self._turn is None:
                self._turn = self._clock.callLater(self._settings.pause_seconds, self._on_turn)

    def _propose_submitted(self, now: float) -> None:
        submitted, self._submitted = self._submitted, []
        proposals = self.number(submitted)
        if self._is_far_behind or self._held_bytes:
            for each in proposals:
                self.propose(each)
        else:
            self._proposals.add_all(proposals, now)

    def _lead_at_once(self) -> None:
        """A lone voter has nobody to wait for, so it skips the election timeout."""
        if self.node.state == StateType.FOLLOWER:
            self.node.campaign()
            self.wake()

    def _persist(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            self.durable.tail.apply_snapshot(ready.snapshot)
        if self.durable.append(ready.hard_state, ready.entries):
            others_wait = self.reads_served != self._reads_at_sync
            self._reads_at_sync = self.reads_served
            if not (self._sync_begun or self.durable.syncs_in_turn(others_wait)):
                self._unsynced = ready
                self.durable.sync_on_worker(self._synced, self.fail)
                return
            self._sync_begun = True
            self.durable.begin_sync()
        self._persisted(ready)

    def _flush(self) -> None:
        # Others may have committed what waits here for an earlier sync to end, in place of what
        # the log has there.
        self.durable.flush(self.node.committed_taken)

    def _synced(self) -> None:
        if not self._stopped:
            self._synced_now = True
            self._drive()

    def _persisted(self, ready: Ready) -> None:
        if ready.after_persist:
            self._send(newest_only(ready.after_persist))
        self.node.persisted(ready)

    def _send(self, messages: Sequence[Message]) -> None:
        if self._sync_begun:
            self._outbox += messages
        else:
            self._transport.send(messages)

    def _release(self) -> None:
        """While the disk writes, the turn goes on as if it had written: nothing of that is seen
        outside before this sync has ended."""
        if self._sync_begun:
            self.durable.sync()
            self._sync_begun = False
            outbox, self._outbox = self._outbox, []
            if outbox:
                self._transport.send(outbox)
        answers = self._applying.take_answers()
        if answers:
            asked = answers[0][0].deadline - self._settings.request_seconds
            oldest = self._clock.seconds() - asked
            if oldest >= SLOW_SECONDS or self.slowness.waits:
                own_waits = (self.durable.last_sync_seconds, self._held_seconds)
                self.slowness.answered(self._clock.seconds(), oldest, len(answers), *own_waits)
            self._held_seconds = 0.0
        for proposal, result in answers:
            proposal.done(result)

    # --- what others want to know --------------------------------------------------------------

    def _note_configuration(self, conf_state: ConfState) -> None:
        self._alone = conf_state.voters == (self.node.id,)
        self._has_peers = not self._alone or bool(conf_state.learners)

    def _note_term(self) -> None:
        self._term = self.node.term
        for each in self.on_term:
            each(self._term)

    def _note_leader(self) -> None:
        if not self.is_leader and self._led_term:
            self._led_term = 0
            for stop in self.on_following:
                stop()
        if self.node.lead == self._lead:
            return
        self._lead = self.node.lead
        if self._lead != NO_NODE:
            self.counts.leader_changes += 1
            self._reads.leader_changed()
        for each in self.on_leader_change:
            each(self._lead)

    def _note_late_heartbeat(self, lag: float) -> None:
        """By more than another interval: one more of these, and others may want to lead."""
        seconds = self._settings.heartbeat_seconds
        self.counts.late_heartbeats += 1
        log.warn(
            "leader failed to send out heartbeat on time; took too long, leader is overloaded",
            heartbeat_interval=f"{1000 * seconds:g}ms",
            expected_duration=f"{2000 * seconds:g}ms",
            exceeded_duration=f"{1000 * (lag - seconds):.3f}ms",
        )

    def _note_own_term(self, entry: Entry) -> None:
        if self.is_leader and entry.term == self.node.term:
            self._led_term = entry.term
            for each in self.on_leading:
                each()

    def fail(self, error: BaseException) -> None:
        """The disk or the state can no longer be trusted: acknowledge nothing more."""
        if self._stopped:
            return
        self._halt()
        for each in self.on_fatal:
            each(error)

    def _halt(self) -> None:
        self._stopped = True
        self.reads_are_local = False
        for call in (self._turn, self._tick):
            if call is not None and call.active():
                call.cancel()
        self._commit_notices.stop()
        self._transport.stop()
        submitted, self._submitted = self._submitted, []
        for proposal, *_ in submitted:
            proposal.done(Stopped())
        self._proposals.fail_all(Stopped())
        for proposal, _ in self._applying.take_answers():
            proposal.done(Stopped())
        self._reads.fail_all(Stopped())
