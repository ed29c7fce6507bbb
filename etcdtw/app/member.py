"""A member as a Twisted service: it listens, starts, publishes itself, serves and stops."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sized
from dataclasses import replace
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from etcdtw.api.gateway.gateway import Gateway
from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.site import Site
from etcdtw.app.alone import stand_alone
from etcdtw.app.assemble import RECEIVE_MARGIN_BYTES, Core, assemble_core
from etcdtw.app.cluster_version import VersionMonitor, propose_version, tell_versions
from etcdtw.app.corruption import check_before_serving
from etcdtw.app.defragmenting import defragment_at_start
from etcdtw.app.exchange import SnapshotExchange
from etcdtw.app.known_members import KnownMembers, kept_for
from etcdtw.app.leader_checks import LeaderCheck, leader_checks
from etcdtw.app.leadership import HeadStart, hand_over
from etcdtw.app.listening import Gate, check_descriptors, listen_all
from etcdtw.app.pages import client_sites, peer_site
from etcdtw.app.parts import OpenedLog, found_log, keyspace_settings, reopen_log
from etcdtw.app.publish import Announcement
from etcdtw.app.purging import Purging
from etcdtw.app.secure import Security
from etcdtw.app.settings import MemberSettings
from etcdtw.app.takeover import check_without_database, check_without_log, take_over
from etcdtw.app.telling import tell_start, tell_stop
from etcdtw.app.tuning import freeze_loaded, hide_from_collector, tune_process
from etcdtw.bootstrap.interfaces import ClusterPlan
from etcdtw.counting import ReceivedCounts
from etcdtw.errors import Stopped
from etcdtw.ids import format_id
from etcdtw.membership import publish_request
from etcdtw.membership.member import Member as ClusterMember
from etcdtw.peer.calling import HttpCaller
from etcdtw.peer.headers import Identity
from etcdtw.peer.outgoing import Timeouts
from etcdtw.peer.snapshots import SNAPSHOT_PATH, SnapshotBody
from etcdtw.peer.transport import PeerTransport
from etcdtw.rpc import ClientPortFactory, Flusher, ServerSettings
from etcdtw.storage.adopt import use_received
from etcdtw.storage.backend.lmdb_backend import LmdbBackend, open_backend
from etcdtw.storage.bolt.exporting import SCRATCH_SUFFIX, Exports
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.filesystem import OsFilesystem, give_back
from etcdtw.storage.interfaces import IFile, IFilesystem
from etcdtw.storage.received import install
from etcdtw.storage.snap import SnapStore
from etcdtw.storage.worker import ThreadWorker

BACKGROUND, COMMITS, RECEIVED = 1, 2, 3
"""The places of workers behind the one that syncs: for what may take longer, the keyspace's, and
that of states from other members."""
HTTP_MARGIN_BYTES = 1 << 20
"""What a gateway request may have beyond its base64."""

log = Logger(namespace="etcdtw.member")


class Member(Service):
    """One etcd member on a reactor. ``plan`` is the cluster to found, None to go on with the log
    of an earlier run.

    ``startService`` raises ConfigError, StorageError or OSError, and leaves nothing bound or
    held, when the member cannot start. ``on_ready`` callables run when it serves clients,
    ``on_fatal`` ones get the error that ended it.
    """

    def __init__(
        self,
        settings: MemberSettings,
        reactor: Any,
        plan: ClusterPlan | None,
        fs: IFilesystem | None = None,
    ) -> None:
        self.settings = settings
        self._plan = plan
        self.core: Core | None = None
        self.on_ready: list[Callable[[], object]] = []
        self.on_fatal: list[Callable[[BaseException], object]] = []
        self._reactor = reactor
        self._fs = fs or OsFilesystem(sync=not settings.unsafe_no_fsync)
        self._data_dir = DataDir(self._fs, settings.data_dir, settings.wal_dir or None)
        self._ports: list[IListeningPort] = []
        self._security = Security(settings, reactor)
        self._client_gate = Gate()
        self._peer_gate = Gate()
        self._metrics_gate = Gate()
        self._client_factory: ClientPortFactory | None = None
        self._gateway: Gateway | None = None
        self._workers: list[ThreadWorker] = []
        self._backend: LmdbBackend | None = None
        self._exports = Exports(
            self._data_dir.backend_path,
            self._data_dir.db_path + SCRATCH_SUFFIX,
            lambda: ThreadWorker(reactor, "export"),
        )
        self._announcement: Announcement | None = None
        self._purging: Purging | None = None
        self._versions: VersionMonitor | None = None
        self._checks: list[LeaderCheck] = []
        self._transport: PeerTransport | None = None
        self._head_start: HeadStart | None = None
        self._received = ReceivedCounts()
        self._exchange: SnapshotExchange | None = None
        self._client_http = HttpFactory(Site({}), reactor)
        self._observed_http = HttpFactory(Site({}), reactor)
        self._peer_http = HttpFactory(Site({}), reactor)
        self._is_removed = self._was_forced = False
        self._publishing = False
        self.on_removed: list[Callable[[], object]] = []

    # --- starting ------------------------------------------------------------------------------

    def startService(self) -> None:
        settings = self.settings
        check_descriptors()
        peers, clients = self._security.peer_port, self._security.client_port
        self._ports = listen_all(
            self._reactor,
            [
                ("listen-peer-urls", settings.listen_peer_urls, self._peer_gate, peers),
                ("listen-client-urls", settings.listen_client_urls, self._client_gate, clients),
                ("listen-metrics-urls", settings.listen_metrics_urls, self._metrics_gate, clients),
            ],
        )
        try:
            for warning in self._data_dir.contents().warnings:
                log.warn("{warning}", warning=warning)
            self._data_dir.create()
            self._data_dir.lock()
            self._data_dir.remove_scratch()
            tell_start(settings, self._plan is not None)
            self._begin_life(self._plan)
        except BaseException:
            for port in self._ports:
                port.stopListening()
            self._data_dir.withdraw()
            self._close(None)
            raise
        self.running = True

    def _begin_life(self, plan: ClusterPlan | None, earlier: Core | None = None) -> None:
        """Open what is on disk and go on with it; ``plan`` where nothing is there yet."""
        snap_files = SnapStore(self._fs, self._data_dir.snap_dir)
        forced = self.settings.force_new_cluster and plan is None and not self._was_forced
        if plan is None:
            check_without_database(self._fs, self._data_dir, forced)
        else:
            check_without_log(self._fs, self._data_dir)
        opened = self._open_log(snap_files, plan)
        keyspace = keyspace_settings(self.settings, self._data_dir.backend_path)
        unwanted: list[IFile] = []
        if self._data_dir.has_database():
            use_received(self._fs, self._data_dir, opened.snapshot.index)
        elif install(self._fs, keyspace, self._data_dir.snap_dir, opened.snapshot.index, unwanted):
            log.info("the keyspace is now that of the received snapshot")
            opened = replace(opened, received_index=snap_files.received_index())
        take_over(
            self._fs,
            self._data_dir,
            keyspace,
            opened,
            alone=forced,
            replace=self.settings.adopt,
        )
        transport = self._connect_peers(opened, plan)
        names = ("sync", "background", "commit", "received")
        self._workers = workers = [ThreadWorker(self._reactor, name) for name in names]
        self._backend = open_backend(self._fs, keyspace, self._reactor, workers[COMMITS])
        if unwanted:
            workers[RECEIVED].run(lambda: give_back(unwanted), lambda _: None, _not_given_back)
        if forced:
            self._was_forced = True
            urls = self.settings.initial_advertise_peer_urls
            stand_alone(opened, urls, self._backend.consistent_index()[0])
        core = assemble_core(
            self.settings,
            opened,
            snap_files,
            self._backend,
            self._exports,
            transport,
            self._reactor,
            workers[0],
            workers[BACKGROUND],
            random.SystemRandom(),
            time.time,
            transport.caller,
            earlier,
        )
        self.core = core
        self._exchange = SnapshotExchange(
            core,
            transport,
            self._exports,
            snap_files,
            self._data_dir.snap_dir,
            self._data_dir.backend_path,
            workers[RECEIVED],
            self._begin_again,
            self._received,
        )
        tell_versions(core.members, opened.cluster_id, opened.member_id)
        self._open_sides(core, transport)
        versions = VersionMonitor(
            opened.member_id,
            core.members,
            transport.caller,
            self._set_version,
            self.settings.max_cluster_version,
        )
        self._versions = versions
        replica = core.replica
        replica.on_leader_change.append(self._leader_known)
        replica.on_leading.append(versions.lead)
        replica.on_following.append(versions.follow)
        replica.on_fatal.append(self._ended)
        core.on_removed.append(self._removed)
        self._checks = list(leader_checks(core, transport.caller))
        for check in self._checks:
            replica.on_leading.append(check.lead)
            replica.on_following.append(check.follow)
        self._transport = transport
        self._purging = Purging(
            self._data_dir,
            self.settings.max_wals,
            self.settings.max_snapshots,
            lambda: core.snapshots.newest,
            workers[BACKGROUND],
            self._reactor,
        )
        self._purging.start()
        megabytes = self.settings.experimental_bootstrap_defrag_threshold_megabytes
        if earlier is not None:
            megabytes = 0  # it is no start
        if megabytes or self.settings.experimental_initial_corrupt_check:
            ready = Deferred.fromCoroutine(self._get_ready(core, transport, megabytes))
            ready.addCallbacks(lambda _: self._go(core, transport), self._not_ready)
        else:
            self._go(core, transport)

    async def _get_ready(self, core: Core, transport: PeerTransport, megabytes: int) -> None:
        """What takes a while before this life serves anybody."""
        if megabytes:
            assert self._backend is not None, "the keyspace is open"
            await defragment_at_start(self._backend, megabytes << 20)
        if self.settings.experimental_initial_corrupt_check:
            await check_before_serving(core, transport.caller)

    def _go(self, core: Core, transport: PeerTransport) -> None:
        if self.core is not core:
            return  # it was stopped meanwhile
        core.start()
        if self.settings.initial_election_tick_advance:
            self._head_start = HeadStart(core.replica, transport, self._reactor)
            self._head_start.start()

    def _not_ready(self, failure: Failure) -> None:
        if self.core is not None:
            assert failure.value is not None, "a failure without an error"
            self._ended(failure.value)

    def _begin_again(self) -> None:
        """The state of another member is on disk: begin a new life with it. Connections and
        watches stay, what else was under way ends with an error that clients try again on."""
        assert self._client_factory is not None, "the member was never started"
        log.info("beginning again with the received snapshot")
        earlier = self._running_core()
        try:
            self._client_factory.end_calls(Stopped())
            if self._gateway is not None:
                self._gateway.end_calls(Stopped())
            self._end_life(streams_stay=True)
            self._begin_life(None, earlier)
        except Exception as error:  # the member ends by its own fault
            earlier.watches.stop()
            self._ended(error)

    def _open_log(self, snap_files: SnapStore, plan: ClusterPlan | None) -> OpenedLog:
        directory = self._data_dir.wal_dir
        if plan is None:
            opened = reopen_log(self._fs, directory, snap_files)
        else:
            opened = found_log(self._fs, directory, plan)
        log.info(
            "starting local member",
            name=self.settings.name,
            local_member_id=format_id(opened.member_id),
            cluster_id=format_id(opened.cluster_id),
        )
        return opened

    def _connect_peers(self, opened: OpenedLog, plan: ClusterPlan | None) -> PeerTransport:
        settings = self.settings
        identity = Identity(
            opened.member_id, opened.cluster_id, settings.initial_advertise_peer_urls
        )
        seconds = 1.0 + settings.election_timeout / 1000
        caller = HttpCaller(self._reactor, seconds, tls=self._security.peers)
        timeouts = Timeouts(settings.raft_read_timeout, settings.raft_write_timeout)
        transport = PeerTransport(identity, caller, timeouts)
        if plan is not None and not plan.new:
            # Until the log says who belongs to the cluster, the plan does.
            for each in plan.members:
                transport.add_remote(each.id, each.peer_urls)
        transport.on_removed.append(lambda reason: self._removed())
        return transport

    def _removed(self) -> None:
        """This member belongs to the cluster no more."""
        if not self._is_removed:
            self._is_removed = True
            log.warn("the member has been permanently removed from the cluster")
            for each in self.on_removed:
                each()

    def _open_sides(self, core: Core, transport: PeerTransport) -> None:
        """Put this life behind the ports."""
        first = self._client_factory is None
        factory = self._client_factory or self._make_client_factory(core)
        self._client_factory = factory
        assert self._exchange is not None, "pages need somebody to hand snapshots to"
        client, observed = client_sites(
            core,
            self._gateway,
            factory,
            self._reactor,
            self._security.counts,
            self._received,
        )
        peer = peer_site(core, transport, self._exchange, self._reactor)
        self._client_http.site = client
        self._observed_http.site = observed
        self._peer_http.site = peer
        self._peer_http.uploads[SNAPSHOT_PATH.encode()] = self._make_upload
        core.replica.on_turn_begin.append(factory.flusher.hold)
        core.replica.on_turn_end.append(factory.flusher.release)
        if first:
            self._peer_gate.open(self._peer_http)
            self._metrics_gate.open(self._observed_http)

    def _make_upload(self) -> SnapshotBody:
        assert self._exchange is not None, "the member is not running"
        return SnapshotBody(self._exchange.make_upload)

    def _make_client_factory(self, core: Core) -> ClientPortFactory:
        settings = self.settings
        flusher = Flusher(self._reactor)
        message_bytes_max = settings.max_request_bytes + RECEIVE_MARGIN_BYTES
        if settings.enable_grpc_gateway:
            self._gateway = Gateway(
                core.router,
                flusher,
                self._reactor,
                message_bytes_max,
                settings.max_concurrent_streams,
            )
        # Base64 takes four bytes for three.
        self._client_http.body_bytes_max = 2 * message_bytes_max + HTTP_MARGIN_BYTES
        return ClientPortFactory(
            core.router,
            self._client_http,
            ServerSettings(
                max_receive_bytes=message_bytes_max,
                max_concurrent_streams=settings.max_concurrent_streams,
                keepalive_min_time=settings.grpc_keepalive_min_time,
                keepalive_interval=settings.grpc_keepalive_interval,
                keepalive_timeout=settings.grpc_keepalive_timeout,
            ),
            self._reactor,
            flusher,
        )

    # --- becoming ready ------------------------------------------------------------------------

    def _leader_known(self, leader: int) -> None:
        """Publish name and client URLs with the first leader after every start."""
        if leader and not self._publishing:
            self._publishing = True
            core = self._running_core()
            own = ClusterMember(
                core.member_id, (), self.settings.name, self.settings.advertise_client_urls
            )
            self._announcement = Announcement(
                core.replica,
                self._reactor,
                lambda number: publish_request(number, own.path, own.attributes_json()),
                self._published,
            )
            self._announcement.start()

    def _published(self) -> None:
        core = self._running_core()
        log.info(
            "published local member to cluster through raft",
            local_member_id=format_id(core.member_id),
            local_member_attributes=json.dumps(
                {"name": self.settings.name, "client-urls": self.settings.advertise_client_urls}
            ),
            cluster_id=format_id(core.cluster_id),
        )
        assert self._client_factory is not None, "published before the client port was made"
        self._client_gate.open(self._client_factory)
        log.info("ready to serve client requests")
        wanted = kept_for(self.settings)
        if wanted is not None:
            background = self._workers[BACKGROUND]
            known = KnownMembers(wanted, core.cluster_id, core.members, self._fs, background)
            core.on_members.append(known.keep)
            known.keep()
        for each in self.on_ready:
            each()

    def _set_version(self, version: str) -> None:
        propose_version(self._running_core().replica, version)

    def plain_containers(self) -> list[Sized]:
        """See ``KeyIndex.plain_containers``."""
        return [] if self.core is None else self.core.store.index.plain_containers()

    def _running_core(self) -> Core:
        assert self.core is not None, "the member is not running"
        return self.core

    # --- running -------------------------------------------------------------------------------

    def _ended(self, error: BaseException) -> None:
        log.critical("member failed: {error}", error=str(error))
        if self._client_factory is not None:
            # Watch events of the turn that failed may wait there, and never happened.
            self._client_factory.abort()
        for each in self.on_fatal:
            each(error)

    # --- stopping ------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Accept nothing new, let calls under way end, leave it to another to lead, then close
        the log."""
        self.running = False
        # Why a member ended by its own fault is the last that it says.
        is_told = self.core is None or not self.core.replica.has_stopped
        if is_told:
            tell_stop(self.settings, "closing etcd server")
        waiting: list[Deferred[Any]] = []
        for port in self._ports:
            closing = port.stopListening()
            if closing is not None:
                waiting.append(closing)
        if self._gateway is not None:
            self._gateway.stop()
        if self.core is not None:
            self.core.keys.stop()
        if self._client_factory is not None:
            waiting.append(self._client_factory.stop())
        stopped = DeferredList(waiting).addCallback(self._hand_over).addBoth(self._close)
        if is_told:
            stopped.addCallback(lambda _: tell_stop(self.settings, "closed etcd server"))
        return stopped

    def _hand_over(self, _: object) -> Deferred[None]:
        if self.core is None or self._transport is None:
            return succeed(None)
        # Raft itself gives up after an election timeout.
        seconds = 1.5 * self.settings.election_timeout / 1000
        return hand_over(self.core.replica, self._transport, self._reactor, seconds)

    def _close(self, _: object) -> None:
        self._exports.stop()
        self._security.stop()
        self._end_life()
        self._data_dir.unlock()

    def _end_life(self, streams_stay: bool = False) -> None:
        if self._announcement is not None:
            self._announcement.stop()
            self._announcement = None
        self._publishing = False
        if self._versions is not None:
            self._versions.follow()
        for check in self._checks:
            check.follow()
        if self._purging is not None:
            self._purging.stop()
        if self._head_start is not None:
            self._head_start.stop()
        if self._exchange is not None:
            self._exchange.stop()
        if self.core is not None:
            self.core.stop(streams_stay)
            self.core = None
        if self._backend is not None:
            self._backend.finish()
            self._workers[COMMITS].finish()
        for worker in self._workers:
            worker.stop()
        self._workers = []
        if self._backend is not None:
            self._backend.close()
            self._backend = None


def _not_given_back(error: BaseException) -> None:
    log.warn("the space of the former keyspace is freed late: {error}", error=str(error))


def assemble_member(settings: MemberSettings, reactor: Any, plan: ClusterPlan | None) -> Member:
    """A member for production, where the whole process is its own."""
    tune_process()
    member = Member(settings, reactor, plan)
    member.on_ready.append(freeze_loaded)
    hide_from_collector(member.plain_containers)
    return member
