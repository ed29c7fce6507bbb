"""The one place where constructors meet: a member from settings, clock, disk, worker and dice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from etcdtw.api.metrics.sources import Sources
from etcdtw.api.peer.leader import LeaderCaller
from etcdtw.api.peer.leases import RemoteLeases
from etcdtw.api.peer.promote import RemotePromoter
from etcdtw.api.v2.keys import Keys
from etcdtw.api.v2.syncing import Syncing
from etcdtw.api.v3.absent import refuse_the_rest
from etcdtw.api.v3.cluster import ClusterService
from etcdtw.api.v3.compactor import PeriodicCompactor, RevisionCompactor
from etcdtw.api.v3.downgrade import DowngradeService
from etcdtw.api.v3.kv import KvService
from etcdtw.api.v3.lease import LeaseExpirer, LeaseService
from etcdtw.api.v3.maintenance import MaintenanceService
from etcdtw.api.v3.no_space import NoSpaceAlarm
from etcdtw.api.v3.submit import Submitter
from etcdtw.api.v3.watch import WatchService, WatchSettings
from etcdtw.app.parts import (
    Dice,
    OpenedLog,
    check_keyspace,
    check_v2_keys,
    check_version,
    consensus,
)
from etcdtw.app.passwords import WorkedPasswords, hash_password
from etcdtw.app.settings import MemberSettings
from etcdtw.app.telling import membership_teller, tell_alarms, tell_leaders
from etcdtw.apply.alarms import Alarms
from etcdtw.apply.applier import Applier
from etcdtw.apply.header import HeaderSource
from etcdtw.apply.kv import KvApplier
from etcdtw.apply.quota import Quota
from etcdtw.auth import ROOT, AuthStore, Caller
from etcdtw.config.urls import is_peer_url
from etcdtw.errors import Unimplemented
from etcdtw.ids import RequestIds
from etcdtw.lease.apply import LeaseApplier
from etcdtw.lease.lessor import Lessor, ttl_seconds_min
from etcdtw.membership import Members
from etcdtw.mvcc.interfaces import IDurableBackend
from etcdtw.mvcc.store import Store
from etcdtw.mvcc.watch import WatchHub
from etcdtw.peer.calling import HttpCaller
from etcdtw.raft import RaftConfig
from etcdtw.raft.messages import ConfChange, ConfChangeType, Snapshot
from etcdtw.replica.compactions import Compactions
from etcdtw.replica.durable import DurableLog
from etcdtw.replica.interfaces import IPeerTransport
from etcdtw.replica.replica import Replica, ReplicaSettings
from etcdtw.replica.slices import Slices
from etcdtw.replica.snapshots import Snapshots
from etcdtw.rpc import Router
from etcdtw.rpc.health import HEALTH_SERVICE, Health
from etcdtw.storage.bolt.exporting import Exports
from etcdtw.storage.interfaces import IWorker
from etcdtw.storage.snap import SnapStore
from etcdtw.turns import Allowance
from etcdtw.v2store import V2Store

RECEIVE_MARGIN_BYTES = 512 * 1024
"""What a gRPC message may have beyond the largest request (etcd's allowance)."""

OVERLAY_BYTES_MAX = 32 << 20
"""With more than this on its way to the keyspace's disk new requests wait."""

AUTH_IS_ON = Unimplemented(
    "etcdserver: authentication is enabled in this data, and this build cannot check users yet"
)


@dataclass(frozen=True)
class Core:
    """A member without its sockets: what serves requests, and what must be started and stopped."""

    settings: MemberSettings
    member_id: int
    cluster_id: int
    replica: Replica
    store: Store
    backend: IDurableBackend
    members: Members
    alarms: Alarms
    router: Router
    slices: Slices
    reads: Slices
    snapshots: Snapshots
    watches: WatchService
    expirer: LeaseExpirer
    compactor: RevisionCompactor | PeriodicCompactor | None
    sources: Sources
    leases: LeaseService
    cluster: ClusterService
    v2store: V2Store
    keys: Keys
    syncing: Syncing
    on_removed: list[Callable[[], None]]
    on_members: list[Callable[[], None]]

    def start(self) -> None:
        self.replica.start()
        self.expirer.start()
        self.syncing.start()
        if self.compactor is not None:
            self.compactor.start()

    def stop(self, streams_stay: bool = False) -> None:
        """Stop in the opposite order: nothing new is proposed once the replica has stopped.
        ``streams_stay``: watches wait for another life, or for ``watches.stop``."""
        if self.compactor is not None:
            self.compactor.stop()
        self.expirer.stop()
        self.syncing.stop()
        self.keys.stop()
        if streams_stay:
            self.watches.pause()
        else:
            self.watches.stop()
        self.snapshots.stop()
        self.slices.stop()
        self.reads.stop()
        self.replica.stop()


def assemble_core(
    settings: MemberSettings,
    opened: OpenedLog,
    snap_files: SnapStore,
    backend: IDurableBackend,
    exports: Exports,
    transport: IPeerTransport,
    clock: IReactorTime,
    worker: IWorker,
    background: IWorker,
    dice: Dice,
    wall_seconds: Callable[[], float],
    caller: HttpCaller | None = None,
    earlier: Core | None = None,
    allowance: Allowance | None = None,
) -> Core:
    """Put a member together; nothing runs before ``start``. ``worker`` runs syncs, ``background``
    what may take longer. StorageError when ``backend`` does not belong to the log.

    ``caller`` calls other members' HTTP pages, None where there are none to call; ``earlier`` is
    the life before on the same port, which has ended and whose streams go on; ``allowance`` says
    what takes more than one turn;
    ``wall_seconds`` is the wall clock (seconds since 1970), which request ids begin with; all else
    goes by ``clock``.
    """
    check_keyspace(backend.consistent_index()[0], opened)
    heartbeat_seconds = settings.heartbeat_interval / 1000
    election_ticks = settings.election_timeout // settings.heartbeat_interval
    header = HeaderSource(opened.cluster_id, opened.member_id)
    slices, reads = Slices(clock), Slices(clock)

    lessor = Lessor(
        backend,
        ttl_seconds_min(election_ticks, heartbeat_seconds),
        persist_checkpoints=settings.experimental_enable_lease_checkpoint_persist,
    )
    store = Store(backend, lessor)
    store.hashes_compactions = settings.experimental_compact_hash_check_enabled
    v2store = V2Store(lambda: int(wall_seconds() * 1e9))
    members = Members(v2store, backend)
    check_version(members.stored_version())
    alarms = Alarms(backend)
    tell_alarms(alarms)

    def space() -> int:
        """The size that the keyspace's file has, or gets with the next commit."""
        return max(backend.size(), backend.size_in_use() + backend.overlay_bytes())

    quota = Quota(space, settings.quota_backend_bytes)
    allowance = allowance or Allowance()
    kv = KvApplier(store, lessor, header, allowance)
    leases = LeaseApplier(lessor, store, header, clock.seconds, allowance)
    auth = AuthStore(backend, hash_password)
    applier = Applier(backend, kv, leases, v2store, members, alarms, quota, auth)
    if opened.snapshot.index:
        applier.resume(opened.snapshot)
        if earlier is None:
            check_v2_keys(v2store, settings.v2_deprecation)

    compactions = Compactions(slices, backend, clock, wall_seconds)
    applier.on_compaction.append(compactions.run)
    for unfinished in store.compactions:
        compactions.run(unfinished)

    def membership_changed(change: ConfChange) -> None:
        if change.type == ConfChangeType.REMOVE_NODE:
            transport.remove_peer(change.node_id)
            if change.node_id == opened.member_id:
                for each in on_removed:
                    each()
                return
        else:
            member = members.get(change.node_id)
            assert member is not None, "a member was changed that is not there"
            if change.type == ConfChangeType.UPDATE_NODE:
                transport.update_peer(member.id, member.peer_urls)
            else:
                transport.add_peer(member.id, member.peer_urls)
        for told in on_members:
            told()

    on_removed: list[Callable[[], None]] = []
    on_members: list[Callable[[], None]] = []
    applier.on_membership.append(membership_teller(members, opened.cluster_id, opened.member_id))
    applier.on_membership.append(membership_changed)
    for known in members.all():
        transport.add_peer(known.id, known.peer_urls)
    for gone in members.removed:
        transport.remove_peer(gone)

    ids = RequestIds(opened.member_id, int(wall_seconds() * 1000))
    node = consensus(
        opened,
        RaftConfig(id=opened.member_id, election_ticks=election_ticks, pre_vote=settings.pre_vote),
        dice,
    )

    def state_now() -> Snapshot:
        """What is sent to a member that is too far behind; whoever sends it adds the state."""
        index = applier.applied_index
        return Snapshot(index, opened.tail.term(index), node.conf_state())

    opened.tail.set_snapshot_source(state_now)
    durable = DurableLog(
        opened.wal,
        opened.tail,
        worker,
        background,
        catch_up_entries=settings.experimental_snapshot_catchup_entries,
        clock_seconds=clock.seconds,
    )
    durable.disk_is_busy = lambda: exports.disk_is_busy
    replica_settings = ReplicaSettings(
        heartbeat_seconds=heartbeat_seconds,
        request_seconds=5.0 + 2 * settings.election_timeout / 1000,
        slow_apply_seconds=settings.experimental_warning_apply_duration,
    )
    replica = Replica(
        node,
        durable,
        applier,
        transport,
        clock,
        ids,
        replica_settings,
    )
    tell_leaders(replica)
    replica.on_applied.append(lambda _, seconds: applier.times.took(seconds))
    replica.on_term.append(lambda term: setattr(header, "term", term))
    replica.on_leading.append(
        lambda: lessor.promote(settings.election_timeout / 1000, clock.seconds())
    )
    replica.on_following.append(lessor.demote)

    no_space = NoSpaceAlarm(replica, alarms, opened.member_id)
    submitter = Submitter(replica, quota, settings.max_request_bytes, no_space)
    applier.on_over_quota.append(no_space.raise_alarm)
    backend.on_no_space.append(no_space.raise_alarm)
    backend.on_fatal.append(replica.fail)
    # An entry is applied while the log's disk still writes it.
    replica.on_fatal.append(lambda error: backend.abandon())
    if earlier is None:
        router = Router(clock.seconds if settings.metrics == "extensive" else None)
    else:
        router = earlier.router
        router.begin_again()
    router.has_leader = lambda: replica.leader != 0
    Health(router)
    KvService(replica, kv, submitter, reads, settings.max_txn_ops).register(router)
    remote_leases: RemoteLeases | None = None
    remote_promoter: RemotePromoter | None = None
    if caller is not None:

        def leader_urls() -> Sequence[str]:
            leader = members.get(replica.leader)
            elsewhere = leader is not None and leader.id != opened.member_id
            return leader.peer_urls if leader is not None and elsewhere else ()

        leader = LeaderCaller(caller, leader_urls, replica_settings.request_seconds)
        remote_leases = RemoteLeases(leader)
        remote_promoter = RemotePromoter(leader, replica_settings.request_seconds)
    cluster_service = ClusterService(
        replica,
        members,
        header,
        transport,
        settings.strict_reconfig_check,
        wall_seconds,
        is_peer_url,
        remote_promoter,
    )
    cluster_service.register(router)
    maintenance = MaintenanceService(
        replica, store, backend, alarms, submitter, slices, exports, header, clock
    )
    maintenance.register(router)
    DowngradeService(members, submitter, header, lambda: store.revision).register(router)
    hub = WatchHub(store)
    watches = WatchService(
        hub,
        header,
        clock,
        dice,
        WatchSettings(
            progress_seconds=settings.experimental_watch_progress_notify_interval,
            response_bytes_max=settings.max_request_bytes + RECEIVE_MARGIN_BYTES,
            no_leader_seconds=3 * settings.election_timeout / 1000,
        ),
        has_leader=router.has_leader,
    )
    watches.register(router)
    if earlier is not None:
        watches.take_over(earlier.watches)
    replica.on_leader_change.append(watches.leader_changed)
    lease_service = LeaseService(
        submitter, lessor, header, lambda: store.revision, clock, ids.next, remote_leases
    )
    lease_service.register(router)
    refuse_the_rest(router)

    def auth_changed() -> None:
        """Nobody's rights can be checked yet, so nobody is served while auth is on; what the
        member itself does, such as revoking leases, it does as root."""
        if auth.enabled:
            if submitter.caller is None:
                router.close(AUTH_IS_ON, (HEALTH_SERVICE,))
            # With an older revision nothing would be let through.
            submitter.caller = Caller(ROOT, auth.revision)
        elif submitter.caller is not None:
            router.reopen()
            submitter.caller = None

    auth.on_change.append(auth_changed)
    auth_changed()
    # On a full disk nothing gets better by waiting, and the alarm must get into the log.
    replica.holds_back = lambda: (
        backend.overlay_bytes() > OVERLAY_BYTES_MAX and not backend.no_space
    )
    backend.on_durable.append(lambda index: replica.wake())
    keys = Keys(
        replica,
        v2store,
        opened.cluster_id,
        wall_seconds,
        WorkedPasswords(background),
        clock.seconds,
    )
    return Core(
        settings=settings,
        member_id=opened.member_id,
        cluster_id=opened.cluster_id,
        replica=replica,
        store=store,
        backend=backend,
        members=members,
        alarms=alarms,
        router=router,
        slices=slices,
        reads=reads,
        snapshots=Snapshots(
            replica,
            backend,
            snap_files,
            background,
            slices,
            clock,
            settings.snapshot_count,
            opened.snapshot.index,
        ),
        watches=watches,
        expirer=LeaseExpirer(
            clock, lessor, submitter, settings.experimental_enable_lease_checkpoint
        ),
        compactor=_compactor(settings, clock, store, submitter, replica),
        leases=lease_service,
        cluster=cluster_service,
        v2store=v2store,
        keys=keys,
        syncing=Syncing(replica, v2store, clock, wall_seconds),
        on_removed=on_removed,
        on_members=on_members,
        sources=Sources(
            member_id=opened.member_id,
            quota_bytes=settings.quota_backend_bytes,
            replica=replica,
            store=store,
            backend=backend,
            members=members,
            lessor=lessor,
            auth=auth,
            v2store=v2store,
            apply_times=applier.times,
            compactions=compactions,
            maintenance=maintenance,
            watches=watches,
            cluster=cluster_service,
            keys=keys,
            router=router,
            snap_files=snap_files,
            exports=exports,
            peers=transport.counts,
        ),
    )


def _compactor(
    settings: MemberSettings,
    clock: IReactorTime,
    store: Store,
    submitter: Submitter,
    replica: Replica,
) -> RevisionCompactor | PeriodicCompactor | None:
    retention = settings.auto_compaction_retention
    if not retention:
        return None
    if settings.auto_compaction_mode == "revision":
        return RevisionCompactor(clock, store, submitter, lambda: replica.is_leader, int(retention))
    return PeriodicCompactor(clock, store, submitter, lambda: replica.is_leader, retention)
