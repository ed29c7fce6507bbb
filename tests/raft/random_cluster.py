"""A cluster under random faults, watched by checkers of what Raft promises (paper, figure 3).

Messages are dropped, duplicated and reordered. A member may crash at any point between taking a
Ready and reporting it as persisted; of what it was writing then, any prefix may survive.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from etcdtw.raft import (
    ConfChangeRefused,
    MemoryLog,
    ProposalDropped,
    RaftConfig,
    RaftNode,
    Ready,
    StateType,
)
from etcdtw.raft.messages import (
    EMPTY_SNAPSHOT,
    ConfState,
    Entry,
    EntryType,
    Message,
    MessageType,
    Snapshot,
)
from tests.raft.script_cluster import parse_changes

EXTRA_IDS = (4, 5)
"""Members that configuration changes add and remove."""


WHO_IS_TOLD = (None, frozenset[int](), frozenset({1}), frozenset({2, 3}))
"""Of a new commit index, at once."""


class Checkers:
    """What all members together must never contradict."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        self.votes: dict[tuple[int, int], int] = {}
        self.chain: dict[tuple[int, int], tuple[bytes | None, int]] = {}
        self.applied: dict[int, Entry] = {}
        self.last_committed = 0

    def leads(self, term: int, member: int) -> bool:
        """Election safety: one leader per term. True when it is news."""
        is_new = term not in self.leaders
        other = self.leaders.setdefault(term, member)
        assert other == member, f"{other} and {member} lead in term {term}"
        return is_new

    def votes_for(self, term: int, voter: int, candidate: int) -> None:
        """A member votes once per term, across crashes."""
        other = self.votes.setdefault((term, voter), candidate)
        assert other == candidate, f"{voter} voted for {other} and {candidate} in term {term}"

    def holds(self, entries: Sequence[Entry], prev_term: int) -> None:
        """Log matching: index and term determine the entry and the one before it."""
        for entry in entries:
            link = (entry.data, prev_term)
            other = self.chain.setdefault((entry.index, entry.term), link)
            assert other == link, f"two kinds of entry {entry.index} in term {entry.term}"
            prev_term = entry.term

    def applies(self, entry: Entry) -> None:
        """State machine safety: everybody applies the same entry at an index."""
        other = self.applied.setdefault(entry.index, entry)
        assert other == entry, f"{other} and {entry} were both applied"
        self.last_committed = max(self.last_committed, entry.index)


class RandomMember:
    """A node with a disk that keeps what was persisted, and a view that runs ahead of it."""

    def __init__(self, member: int, conf_state: ConfState, world: RandomCluster) -> None:
        self.id = member
        self.world = world
        self.disk = MemoryLog()
        # Who is in the first configuration has a snapshot of it, or newcomers would not get it.
        self.disk_snapshot = Snapshot(1, 1, conf_state) if conf_state.voters else EMPTY_SNAPSHOT
        if conf_state.voters:
            self.disk.apply_snapshot(self.disk_snapshot)
        self.start(self.disk_snapshot.index, conf_state)

    def start(self, applied: int, conf_state: ConfState) -> None:
        """Begin from what the disk holds and the state that the state machine kept."""
        hard_state, _ = self.disk.initial_state()
        base = self.disk_snapshot
        self.view = MemoryLog(hard_state)
        if base.index:
            self.view.apply_snapshot(base)
        first, last = self.disk.first_index(), self.disk.last_index()
        if last >= first:
            self.view.append(self.disk.entries(first, last + 1, None))
        self.snapshot = base
        self.view.set_snapshot_source(lambda: self.snapshot)
        self.view.set_conf_state(conf_state)
        self.applied = applied
        self.unpersisted: Ready | None = None
        self.to_apply: list[Entry] = []
        config = self.world.config(self.id, applied)
        self.node = RaftNode(config, self.view, self.world.dice)

    # --- one Ready in three steps --------------------------------------------------------------

    def take(self) -> None:
        node = self.node
        ready = node.take_ready()
        if ready is None:
            return
        durable = ready.is_durable_work
        assert not (durable and self.unpersisted), "two Readies with durable work are out"
        assert durable or not ready.after_persist, "an acknowledgement waits for nothing"
        self.world.send(ready.messages)
        if ready.snapshot is not None:
            self.view.apply_snapshot(ready.snapshot)
            self.to_apply = []
        if ready.entries:
            first = ready.entries[0].index
            prev_term = self.view.term(first - 1)
            self.world.checkers.holds(ready.entries, prev_term)
            self.view.append(ready.entries)
        for entry in ready.committed:
            assert self.disk.last_index() >= entry.index, "a committed entry is not durable"
        self.to_apply += ready.committed
        for state in ready.read_states:
            floor = self.world.reads.get(state.context, 0)
            assert state.index >= floor, f"read at {state.index}, {floor} was committed before"
            self.world.reads_done += 1
        if durable:
            self.unpersisted = ready

    def persist(self) -> None:
        ready = self.unpersisted
        if ready is None:
            return
        self._write(ready, len(ready.entries), with_state=True)
        self.unpersisted = None
        if ready.snapshot is not None:
            self.snapshot = ready.snapshot
            self.applied = ready.snapshot.index
        self.world.send(ready.after_persist)
        self.node.persisted(ready)

    def apply(self) -> None:
        entries, self.to_apply = self.to_apply, []
        for entry in entries:
            assert entry.index == self.applied + 1, f"{entry.index} applied after {self.applied}"
            self.applied = entry.index
            self.world.checkers.applies(entry)
            self.world.check_majority(entry)
            if entry.type == EntryType.CONF_CHANGE:
                (change,) = parse_changes((entry.data or b"").decode())
                try:
                    self.node.apply_conf_change(change)
                except ConfChangeRefused:
                    self.node.apply_conf_change(change._replace(node_id=0))
            self.node.applied_to(entry.index)

    def _write(self, ready: Ready, count: int, *, with_state: bool) -> None:
        """Put a snapshot, ``count`` entries, and perhaps the hard state on the disk."""
        if ready.snapshot is not None:
            self.disk.apply_snapshot(ready.snapshot)
            self.disk_snapshot = ready.snapshot
        self.disk.append(ready.entries[:count])
        if with_state and ready.hard_state is not None:
            self.disk.set_hard_state(ready.hard_state)

    # --- life ----------------------------------------------------------------------------------

    def crash(self) -> None:
        """Lose everything but the disk, and come back."""
        ready = self.unpersisted
        dice = self.world.dice
        if ready is not None and dice.random() < 0.7:
            count = dice.randrange(len(ready.entries) + 1)
            complete = count == len(ready.entries) and dice.random() < 0.5
            # A snapshot is in force once the state that goes with it is saved.
            if ready.snapshot is None or complete:
                self._write(ready, count, with_state=complete)
        # The state machine keeps its own state at any pace; the snapshot is the least.
        applied, conf_state = self.disk_snapshot.index, self.disk_snapshot.conf_state
        if self.applied > applied and dice.random() < 0.5:
            applied, conf_state = self.applied, self.node.conf_state()
        self.start(applied, conf_state)

    def compact(self) -> None:
        """Make a snapshot of what was applied and drop the log before it."""
        index = self.applied
        installing = self.unpersisted is not None and self.unpersisted.snapshot is not None
        if installing or index <= self.snapshot.index or index > self.disk.last_index():
            return
        term = self.view.term(index)
        self.snapshot = Snapshot(index, term, self.node.conf_state(), b"")
        self.disk_snapshot = self.snapshot
        keep = max(index - self.world.dice.randrange(4), self.view.first_index() - 1)
        self.view.compact(keep)
        self.disk.compact(index)


class RandomCluster:
    """``size`` voters; with ``changes`` others come and go as well."""

    def __init__(self, seed: int, size: int = 3, *, changes: bool = False) -> None:
        self.dice = random.Random(seed)
        self.changes = changes
        self.checkers = Checkers()
        self.in_flight: list[Message] = []
        self.reads: dict[bytes, int] = {}
        self.reads_done = 0
        self.proposed = 0
        self.cut_off: frozenset[int] = frozenset()
        self._pre_vote = self.dice.random() < 0.5
        self._check_quorum = self.dice.random() < 0.5
        voters = tuple(range(1, size + 1))
        self.members = {each: RandomMember(each, ConfState(voters), self) for each in voters}
        if changes:
            for each in EXTRA_IDS:
                self.members[each] = RandomMember(each, ConfState(), self)

    def config(self, member: int, applied: int) -> RaftConfig:
        return RaftConfig(
            id=member,
            election_ticks=5,
            max_message_bytes=100,
            max_committed_bytes=100,
            max_inflight_messages=3,
            check_quorum=self._check_quorum,
            pre_vote=self._pre_vote,
            applied=applied,
        )

    # --- messages ------------------------------------------------------------------------------

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.type == MessageType.VOTE_RESP and not message.reject:
                self.checkers.votes_for(message.term, message.from_, message.to)
            if message.type == MessageType.VOTE:
                self.checkers.votes_for(message.term, message.from_, message.from_)
        self.in_flight += messages

    def deliver(self) -> None:
        """One message in flight, any one, perhaps to arrive again later."""
        if not self.in_flight:
            return
        position = self.dice.randrange(min(len(self.in_flight), 8))
        message = self.in_flight[position]
        if self.dice.random() > 0.05:
            del self.in_flight[position]
        self._step(message)

    def drop(self) -> None:
        if self.in_flight:
            message = self.in_flight.pop(self.dice.randrange(len(self.in_flight)))
            self._lost(message)
            if self.dice.random() < 0.3:
                self.members[message.from_].node.report_unreachable(message.to)

    def _lost(self, message: Message) -> None:
        """Snapshots travel on their own connection: how that ends is known."""
        if message.type == MessageType.SNAP:
            self.members[message.from_].node.report_snapshot(message.to, ok=False)

    def _step(self, message: Message) -> None:
        member = self.members.get(message.to)
        crosses_cut = (message.to in self.cut_off) != (message.from_ in self.cut_off)
        if member is None or crosses_cut:
            self._lost(message)
            return
        member.node.step(message)
        if message.type == MessageType.SNAP:
            self.members[message.from_].node.report_snapshot(message.to, ok=True)

    # --- a random run --------------------------------------------------------------------------

    def step(self) -> None:
        """One random event, then the checks."""
        roll = self.dice.random()
        member = self.dice.choice(list(self.members.values()))
        actions: list[tuple[float, Callable[[], None]]] = [
            (0.24, member.take),
            (0.16, member.persist),
            (0.08, member.apply),
            (0.33, self.deliver),
            (0.06, member.node.tick),
            (0.07, lambda: self.propose(member)),
            (0.02, self.drop),
            (0.012, lambda: self.read(member)),
            (0.004, member.crash),
            (0.002, self.cut),
            (0.006, member.compact),
            (0.002, lambda: member.node.transfer_leader(self.dice.choice(list(self.members)))),
            (0.007, lambda: self.change(member)),
            (0.01, lambda: member.node.hold_commit(self.dice.choice(WHO_IS_TOLD))),
        ]
        for weight, action in actions:
            roll -= weight
            if roll < 0:
                action()
                break
        self.check(member)

    def cut(self) -> None:
        """Another set of members, often none, cannot be reached by the others."""
        count = self.dice.choice((0, 0, 1, 1, 2))
        self.cut_off = frozenset(self.dice.sample(list(self.members), count))

    def propose(self, member: RandomMember) -> None:
        count = self.dice.randrange(1, 4)
        datas = [b"%d" % (self.proposed + k) + b"." * self.dice.randrange(60) for k in range(count)]
        self.proposed += count
        try:
            member.node.propose_batch(datas)
        except ProposalDropped:
            pass

    def read(self, member: RandomMember) -> None:
        context = b"r%d" % len(self.reads)
        self.reads[context] = self.checkers.last_committed
        member.node.read_index(context)

    def change(self, member: RandomMember) -> None:
        if not self.changes:
            return
        data = f"{self.dice.choice('vvlr')}{self.dice.choice((3, *EXTRA_IDS))}"
        try:
            member.node.propose_conf_change(data.encode(), parse_changes(data)[0])
        except ProposalDropped:
            pass

    def check(self, member: RandomMember) -> None:
        node = member.node
        if node.state is StateType.LEADER and self.checkers.leads(node.term, node.id):
            self._check_completeness(member)

    def _check_completeness(self, member: RandomMember) -> None:
        """Leader completeness: whoever is elected holds every entry that was committed."""
        for index, entry in self.checkers.applied.items():
            if index > member.disk_snapshot.index:
                assert member.disk.term(index) == entry.term, f"{member.id} lacks entry {index}"

    def check_majority(self, entry: Entry) -> None:
        """What is committed is on a majority of the disks."""
        if not self.changes:
            holders = sum(_holds(each.disk, entry) for each in self.members.values())
            assert holders > len(self.members) // 2, f"{entry} was applied, {holders} disks hold it"

    # --- after the faults ----------------------------------------------------------------------

    def heal(self) -> None:
        """Let everybody work without faults for some time: all must agree in the end."""
        self.cut_off = frozenset()
        for _ in range(200):
            for member in self.members.values():
                member.node.tick()
            for _ in range(6):
                for member in self.members.values():
                    member.take()
                    member.persist()
                    member.apply()
                messages, self.in_flight = self.in_flight, []
                for message in messages:
                    self._step(message)
                for member in self.members.values():
                    self.check(member)

    def leader(self) -> RandomMember | None:
        leading = [each for each in self.members.values() if each.node.state is StateType.LEADER]
        return max(leading, key=lambda each: each.node.term, default=None)


def _holds(disk: MemoryLog, entry: Entry) -> bool:
    index = entry.index
    if index < disk.first_index():
        return True
    return index <= disk.last_index() and disk.term(index) == entry.term
