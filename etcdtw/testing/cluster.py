"""A cluster in one process: real members over virtual time, a message network and lossy disks."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from etcdtw.errors import StorageError
from etcdtw.ids import RequestIds
from etcdtw.membership import Member, bootstrap_entries
from etcdtw.raft import MemoryLog, RaftConfig, RaftNode, StateType
from etcdtw.raft.messages import EMPTY_SNAPSHOT, Entry, HardState, Message, MessageType, Snapshot
from etcdtw.replica.durable import DurableLog
from etcdtw.replica.replica import Replica, ReplicaSettings
from etcdtw.replica.slices import Slices
from etcdtw.replica.snapshots import Snapshots
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.snap import SnapStore
from etcdtw.storage.wal import Wal, WalSnapshot, valid_snapshots
from etcdtw.testing.checkers import Checkers
from etcdtw.testing.cluster_history import History
from etcdtw.testing.cluster_machine import LedgerMachine, Write, draw_v2_write
from etcdtw.testing.cluster_snapshots import SNAP_DIRECTORY, SimExchange, install
from etcdtw.testing.cluster_streams import PeerNetwork, SimPeerTransport, peer_url
from etcdtw.testing.cluster_trace import Trace
from etcdtw.testing.cluster_watch import Watching
from etcdtw.testing.disk import SimDisk
from etcdtw.testing.network import SimNetwork, SimTransport
from etcdtw.testing.time import MemberTime, VirtualTime
from etcdtw.testing.worker import SimWorker

DATA_DIRECTORY = "/data"
WAL_DIRECTORY = "/data/member/wal"
SEGMENT_BYTES = 16 * 1024
"""Small, so that every run changes segments."""

SNAPSHOT_ENTRIES = 60
"""A member saves its state after more entries than this."""

CATCH_UP_ENTRIES = 25
"""Who lags by more than this, or twice this, is sent a snapshot."""

REPLICA = ReplicaSettings(piece_seconds=0.0, pause_seconds=0.002)
"""Time stands still within a turn, so a large entry gets one piece of work in each, and whatever
else happens may happen in between."""

GOODBYE_SECONDS = 0.02
"""From the end of a life that received a snapshot to the next one, so that the sender hears that it
has arrived: connections end with a life here, and stay in a real member."""

_INLINE, _ON_WORKER = float("inf"), 0.0

_RARE_MESSAGES = {
    MessageType.PROP: "proposal forwarded",
    MessageType.READ_INDEX: "read index forwarded",
    MessageType.TIMEOUT_NOW: "leader hands over",
}
_RARE_REJECTIONS = {
    MessageType.APP_RESP: "append refused",
    MessageType.VOTE_RESP: "vote refused",
    MessageType.PRE_VOTE_RESP: "pre-vote refused",
}


@dataclass(frozen=True)
class MemberParts:
    """What a member is made of, and what its clients write (``draw`` takes dice and a request
    id); their histories of ``keys`` are to be linearizable.
    With ``streams`` members talk as real ones do, over byte streams; otherwise in messages, which
    is faster, and loses, doubles and reorders more.

    Tests plant a bug by replacing one class by a broken one.
    """

    durable: type[DurableLog] = DurableLog
    machine: type[LedgerMachine] = LedgerMachine
    node: type[RaftNode] = RaftNode
    replica: type[Replica] = Replica
    draw: Callable[[Random, int], Write] = draw_v2_write
    keys: tuple[bytes, ...] = ()
    streams: bool = False


@dataclass
class Condition:
    """How a member's machine is doing: seconds that one disk operation takes, and how fast its
    clock runs."""

    disk_seconds: tuple[float, float] = (0.0005, 0.003)
    clock_rate: float = 1.0


@dataclass
class Life:
    """One run of a member's process, from its start to its end."""

    clock: MemberTime
    workers: list[SimWorker]
    machine: LedgerMachine
    node: RaftNode
    tail: MemoryLog
    replica: Replica
    wal: Wal
    transport: SimTransport | SimPeerTransport
    snapshots: Snapshots
    slices: Slices
    applied: int = 0
    unreported: list[tuple[int, Entry, bytes]] = field(default_factory=list)


@dataclass
class SimMember:
    """A member over all its lives; its disk, backend and clock's condition outlast them.

    ``life`` is None while the process is down. A member that ``joins`` was added to a running
    cluster and learns everything from its leader; one that ``left`` was removed and knows it, so
    it does not start again.
    """

    cluster: SimCluster
    id: int
    disk: SimDisk
    dice: Random
    backend: MemoryBackend = field(default_factory=lambda: MemoryBackend(durable=True))
    condition: Condition = field(default_factory=Condition)
    joins: bool = False
    left: bool = False
    watching: Watching = field(init=False)
    life: Life | None = None
    lives: int = 0

    def __post_init__(self) -> None:
        self.watching = Watching(self.id, self.cluster.checkers)

    @property
    def is_up(self) -> bool:
        return self.life is not None

    @property
    def is_leader(self) -> bool:
        return self.life is not None and self.life.node.state is StateType.LEADER

    # --- life ----------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start the process on what the disk holds; nothing happens if it runs already."""
        if self.life is not None or self.left:
            return
        self.lives += 1
        cluster, dice = self.cluster, self.dice
        try:
            wal, tail, snapshot = self._open_log()
            self.backend = install(self.disk, self.backend, snapshot.index)
        except (OSError, StorageError) as error:
            if getattr(error, "errno", None) in (errno.EIO, errno.ENOSPC):
                cluster.trace.add(self.id, f"cannot start: {error}")
                self.disk.kill()
            else:
                cluster.checkers.violated("recovery", f"{self.id} cannot read its log: {error}")
            self.watching.cut()
            return
        clock = cluster.time.view(self.condition.clock_rate)
        syncs, background, received = (
            SimWorker(clock, self._work_seconds, lambda: dice.random() < 0.5) for _ in range(3)
        )
        machine = cluster.parts.machine(self._applied, self.backend)
        if snapshot.index:
            machine.restore(snapshot)
        machine.watch(self.watching)
        node = cluster.parts.node(RaftConfig(id=self.id), tail, dice)
        tail.set_snapshot_source(
            lambda: Snapshot(
                machine.applied_index, tail.term(machine.applied_index), node.conf_state()
            )
        )
        # Some lives sync in the reactor thread, others on the worker: both exist in production,
        # where the speed of the disk decides.
        inline_seconds = dice.choice((_INLINE, _ON_WORKER, _ON_WORKER))
        durable = cluster.parts.durable(
            wal, tail, syncs, background, inline_seconds, CATCH_UP_ENTRIES, clock.seconds
        )
        transport = cluster.network.transport(self.id, clock)
        for peer in cluster.ids:
            transport.add_peer(peer, (peer_url(peer),))
        # Ids of an earlier life are not used again: each life begins at another millisecond.
        ids = RequestIds(self.id, int(cluster.time.now * 1000) + self.lives)
        replica = cluster.parts.replica(node, durable, machine, transport, clock, ids, REPLICA)
        files, slices = SnapStore(self.disk, SNAP_DIRECTORY), Slices(clock)
        exchange = SimExchange(
            replica,
            machine,
            self.backend,
            files,
            self.disk,
            slices,
            received,
            transport,
            clock,
            cluster.rare,
            self._begin_again,
        )
        transport.begin(exchange, exchange.send)
        snapshots = Snapshots(
            replica, machine, files, background, slices, clock, SNAPSHOT_ENTRIES, snapshot.index
        )
        snapshots.on_saved.append(self._snapshot_saved)
        workers = [syncs, background, received]
        self.life = Life(
            clock, workers, machine, node, tail, replica, wal, transport, snapshots, slices
        )
        self.life.applied = snapshot.index
        cluster.trace.add(self.id, f"boots, log to {tail.last_index()}")
        replica.on_turn_end.append(self._turn_ended)
        replica.on_fatal.append(self._died)
        replica.start()

    def crash(self, power: bool) -> None:
        """End the process now. Without ``power`` the machine stays up and the page cache with it;
        with it, the disk keeps of the unsynced writes what the dice say."""
        self._end()
        if power:
            self.disk.crash(self.dice)
        else:
            self.disk.kill()
        self.cluster.trace.add(self.id, "loses power" if power else "is killed")

    def freeze(self) -> None:
        """Stop the process without ending it, until ``thaw``: it neither reads nor runs, and does
        not learn for how long."""
        if self.life is not None:
            self.life.clock.freeze()
            self.cluster.network.hold(self.id)
            self.cluster.trace.add(self.id, "is frozen")

    def thaw(self) -> None:
        if self.life is not None:
            self.life.clock.thaw()
        self.cluster.network.release(self.id)

    def set_condition(self, condition: Condition) -> None:
        """Let the machine run like this from now on."""
        self.condition = condition
        if self.life is not None:
            self.life.clock.set_rate(condition.clock_rate)

    def _end(self) -> None:
        self._end_life()
        self.watching.cut()

    def _end_life(self) -> None:
        self.thaw()
        life, self.life = self.life, None
        if life is not None:
            if life.replica.applies_in_turns:
                self.cluster.rare["ended amid a large entry"] += 1
            life.snapshots.stop()
            life.slices.stop()
            life.clock.crash()
            for worker in life.workers:
                worker.stop()
            life.transport.end()
            self.backend.crash()

    def stop(self) -> None:
        """End the process as its operator would."""
        self.cluster.trace.add(self.id, "is stopped")
        self._stop_replica()
        self._end()
        self.disk.kill()

    def _stop_replica(self) -> None:
        """In order: whoever waits is refused, and the log gets what the member knows."""
        if self.life is not None:
            try:
                self.life.replica.stop()
            except (OSError, StorageError) as error:
                self.cluster.trace.add(self.id, f"stops badly: {error}")

    def _begin_again(self, index: int) -> None:
        """The state of another member, up to this entry, is on the disk: the next life begins
        with it."""
        self.cluster.rare["received snapshot installed"] += 1
        self.cluster.trace.add(self.id, "begins again")
        self._stop_replica()
        if self.life is not None:
            self.life.clock.callLater(GOODBYE_SECONDS, self._begin_with, index)

    def _begin_with(self, index: int) -> None:
        self._end_life()
        self.disk.kill()
        self.boot()
        if self.life is not None and self.life.applied < index:
            told = f"{self.id} received a snapshot at {index} and began at {self.life.applied}"
            self.cluster.checkers.violated("recovery", told)

    def _open_log(self) -> tuple[Wal, _WatchedLog, Snapshot]:
        if not self.disk.exists(WAL_DIRECTORY):
            return self._found_log()
        files = SnapStore(self.disk, SNAP_DIRECTORY)
        valid = partial(valid_snapshots, self.disk, WAL_DIRECTORY)
        snapshot = files.load_newest(valid) or EMPTY_SNAPSHOT
        start = WalSnapshot(snapshot.index, snapshot.term)
        wal, contents = Wal.open(self.disk, WAL_DIRECTORY, start, SEGMENT_BYTES)
        tail = _WatchedLog(contents.hard_state, self._appended, self._entries_replaced)
        if snapshot.index:
            self.cluster.rare["started from a snapshot"] += 1
            tail.apply_snapshot(snapshot)
        tail.append(contents.entries)
        return wal, tail, snapshot

    def _found_log(self) -> tuple[Wal, _WatchedLog, Snapshot]:
        """What a member writes before it starts for the first time: a founder the membership, one
        that joins nothing at all."""
        self.disk.makedirs(SNAP_DIRECTORY)
        entries = [] if self.joins else bootstrap_entries(self.cluster.founders)
        state = HardState(term=1, commit=len(entries)) if entries else HardState()
        wal = Wal.create(self.disk, WAL_DIRECTORY, b"", SEGMENT_BYTES, state, entries)
        for path in ("/", "/data", "/data/member"):
            self.disk.sync_dir(path)
        tail = _WatchedLog(state, self._appended, self._entries_replaced)
        tail.append(entries)
        return wal, tail, EMPTY_SNAPSHOT

    def _snapshot_saved(self, index: int) -> None:
        self.cluster.rare["snapshot saved"] += 1
        purged = list(DataDir(self.disk, DATA_DIRECTORY).purge(1, 1, index))
        self.cluster.rare["file purged"] += len(purged)

    # --- what it reports -----------------------------------------------------------------------

    def _work_seconds(self) -> float:
        return self.dice.uniform(*self.condition.disk_seconds)

    def _appended(self, entries: Sequence[Entry], previous_term: int) -> None:
        self.cluster.checkers.appended(self.id, entries, previous_term)

    def _entries_replaced(self) -> None:
        self.cluster.rare["entries replaced"] += 1

    def _applied(self, entry: Entry, machine: LedgerMachine) -> None:
        """Entries may be applied while the disk still writes them; nothing of that is seen outside
        before the turn has ended well, so nothing is reported before."""
        life = self.life
        assert life is not None, "an entry was applied by a dead process"
        life.unreported.append((life.node.term, entry, machine.digest))

    def _report_applied(self, life: Life) -> None:
        for term, entry, digest in life.unreported:
            self.cluster.checkers.applied(self.id, term, life.applied, entry, digest)
            life.applied = entry.index
            self.cluster.trace.add(self.id, f"applies {entry.index} of term {entry.term}")
        life.unreported.clear()
        self.watching.look()
        if self.id in life.machine.members.removed and not self.left:
            self.left = True
            life.clock.callLater(0, self._leave)

    def _turn_ended(self) -> None:
        if self.life is None:
            return
        self._report_applied(self.life)
        if not self.is_leader:
            return
        node, tail, checkers = self.life.node, self.life.tail, self.cluster.checkers
        if not checkers.has_led(self.id, node.term):
            self.cluster.trace.add(self.id, f"leads term {node.term}")
            first, last = tail.first_index(), tail.last_index()
            terms = {index: tail.term(index) for index in range(first, last + 1)}
            checkers.leads(self.id, node.term, terms, first)
            for each in list(self.cluster.on_new_leader):
                each(self)

    def _leave(self) -> None:
        """The member has applied its own removal, so it ends for good."""
        self.cluster.trace.add(self.id, "leaves")
        self._end()
        self.disk.kill()

    def _died(self, error: BaseException) -> None:
        """The replica gave up. A broken disk is a reason to; anything else is a bug."""
        if not isinstance(error, (OSError, StorageError)):
            self.cluster.checkers.violated("our own bugs", f"{self.id} died of {error!r}")
        self.cluster.trace.add(self.id, f"dies: {error}")
        self.cluster.deaths += 1
        self._end()
        self.disk.crash(self.dice)


class SimCluster:
    """Members 1 to ``size``, their network and their checkers; ``boot_all`` starts them.

    ``on_new_leader`` callables get each member that has just won an election; ``on_acknowledged``
    ones are called whenever a client was told that its write took effect.

    ``history`` has what clients were told, ``writes_under_way`` what they wait for, or waited in
    vain; ``rare`` counts what seldom happens.

    ``dice(name)`` gives a source of chance of its own to each user, so that one using more of it
    leaves the others' alone.
    """

    def __init__(self, seed: int, size: int, parts: MemberParts | None = None) -> None:
        self.seed = seed
        self.parts = parts or MemberParts()
        self.time = VirtualTime(seed)
        self.trace = Trace(self.time)
        self.checkers = Checkers()
        self.network: SimNetwork | PeerNetwork
        make_network = PeerNetwork if self.parts.streams else SimNetwork
        self.network = make_network(self.time, self.dice("network"))
        self.rare: Counter[str] = Counter()
        self.history = History(self.parts.keys)
        self.writes_under_way: dict[int, tuple[Write, float]] = {}
        self.network.observers.append(self._observe)
        self.ids = list(range(1, size + 1))
        self.founders = [Member(each, (f"http://m{each}:2380",), f"m{each}") for each in self.ids]
        self.members = {
            each: SimMember(self, each, SimDisk(), self.dice(f"member {each}")) for each in self.ids
        }
        self.on_new_leader: list[Callable[[SimMember], None]] = []
        self.on_acknowledged: list[Callable[[], None]] = []
        self.deaths = 0

    def dice(self, name: str) -> Random:
        return Random(f"{name}/{self.seed}")

    def boot_all(self) -> None:
        """Start every member that is down."""
        for member in self.members.values():
            member.boot()

    def add_member(self, learner: bool) -> Member:
        """Make room for one more member, which is down until it is booted; what has to be
        proposed so that it may take part."""
        identity = max(self.ids) + 1
        self.ids.append(identity)
        self.members[identity] = self._member(identity, joins=True)
        for each in self.up():
            assert each.life is not None, "a member is up without a life"
            each.life.transport.add_peer(identity, (peer_url(identity),))
        return Member(identity, (f"http://m{identity}:2380",), is_learner=learner)

    def _observe(self, message: Message) -> None:
        """Count messages that take a rare path through the core."""
        if message.type in _RARE_MESSAGES:
            self.rare[_RARE_MESSAGES[message.type]] += 1
        elif message.reject and message.type in _RARE_REJECTIONS:
            self.rare[_RARE_REJECTIONS[message.type]] += 1

    def current_ids(self) -> list[int]:
        """Who is a member as far as the one knows that has applied most."""
        lives = [each.life for each in self.members.values() if each.life is not None]
        newest = max(lives, key=lambda life: life.machine.applied_index, default=None)
        return [] if newest is None else [each.id for each in newest.machine.members.all()]

    def _member(self, identity: int, joins: bool = False) -> SimMember:
        dice = self.dice(f"member {identity}")
        return SimMember(self, identity, SimDisk(), dice, joins=joins)

    def leader(self) -> SimMember | None:
        """The leader of the highest term, if there is one."""
        leaders = [each for each in self.members.values() if each.is_leader]
        return max(leaders, key=lambda each: each.life.node.term if each.life else 0, default=None)

    def up(self) -> list[SimMember]:
        """The members that run."""
        return [each for each in self.members.values() if each.is_up]


class _WatchedLog(MemoryLog):
    """A log in memory that reports what is put into it, with the term of the entry before."""

    def __init__(
        self,
        hard_state: HardState,
        observer: Callable[[Sequence[Entry], int], None],
        on_replaced: Callable[[], None],
    ) -> None:
        super().__init__(hard_state)
        self._observer = observer
        self._on_replaced = on_replaced

    def append(self, entries: Sequence[Entry]) -> None:
        replaced = bool(entries) and entries[0].index <= self.last_index()
        super().append(entries)
        if replaced:
            self._on_replaced()
        if entries and entries[0].index > self.first_index():
            self._observer(entries, self.term(entries[0].index - 1))
