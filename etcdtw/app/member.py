"""A member as a Twisted service: it listens, starts, publishes itself, serves and stops."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from etcdtw.api.gateway.gateway import Gateway
from etcdtw.api.http.access import Access
from etcdtw.api.http.checks import member_checks
from etcdtw.api.http.debug import debug_pages
from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.log_level import LogLevelPage
from etcdtw.api.http.requests import Resource
from etcdtw.api.http.resources import Health, Members, Version
from etcdtw.api.http.site import Site
from etcdtw.api.http.views import MemberCluster, MemberHealth
from etcdtw.api.metrics.member import families
from etcdtw.api.metrics.page import MetricsPage
from etcdtw.api.peer.hashkv import HashKvPage
from etcdtw.api.peer.leases import LeasesPage
from etcdtw.api.peer.promote import PROMOTE_PREFIX, PromoteTree
from etcdtw.api.peer.raft import STREAM_PREFIX, Probing, RaftPage, StreamTree
from etcdtw.app.assemble import RECEIVE_MARGIN_BYTES, Core, assemble_core
from etcdtw.app.cluster_version import VersionMonitor
from etcdtw.app.listening import Gate, listen_all
from etcdtw.app.log import verbosity
from etcdtw.app.parts import OpenedLog, check_keyspace, found_log, keyspace_settings, reopen_log
from etcdtw.app.publish import Announcement
from etcdtw.app.settings import MemberSettings
from etcdtw.app.tuning import freeze_loaded, tune_process
from etcdtw.bootstrap.interfaces import ClusterPlan
from etcdtw.ids import format_id
from etcdtw.membership import publish_request, version_request
from etcdtw.membership.member import Member as ClusterMember
from etcdtw.peer.calling import HttpCaller
from etcdtw.peer.headers import Identity
from etcdtw.peer.transport import PeerTransport
from etcdtw.rpc import ClientPortFactory, Flusher, ServerSettings
from etcdtw.storage.adopt import adopt
from etcdtw.storage.backend.lmdb_backend import LmdbBackend, open_backend
from etcdtw.storage.bolt.exporting import SCRATCH_SUFFIX, Exports
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.interfaces import IFilesystem
from etcdtw.storage.snap import SnapStore
from etcdtw.storage.worker import ThreadWorker

PURGE_SECONDS = 30.0
OBSERVED = (b"/health", b"/livez", b"/readyz", b"/metrics")
"""What ``--listen-metrics-urls`` show."""
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
        self._announcements: list[Announcement] = []
        self._purging: Any = None
        self._versions: VersionMonitor | None = None
        self._is_removed = False
        self._publishing = False
        self.on_removed: list[Callable[[], object]] = []

    # --- starting ------------------------------------------------------------------------------

    def startService(self) -> None:
        settings = self.settings
        self._ports = listen_all(
            self._reactor,
            [
                ("listen-peer-urls", settings.listen_peer_urls, self._peer_gate),
                ("listen-client-urls", settings.listen_client_urls, self._client_gate),
                ("listen-metrics-urls", settings.listen_metrics_urls, self._metrics_gate),
            ],
        )
        try:
            self._start_core()
        except BaseException:
            for port in self._ports:
                port.stopListening()
            self._close(None)
            raise
        self.running = True

    def _start_core(self) -> None:
        for warning in self._data_dir.contents().warnings:
            log.warn("{warning}", warning=warning)
        self._data_dir.create()
        self._data_dir.lock()
        self._data_dir.remove_scratch()
        snap_files = SnapStore(self._fs, self._data_dir.snap_dir)
        opened = self._open_log(snap_files)
        self._connect_peers(opened)
        keyspace = keyspace_settings(self.settings, self._data_dir.backend_path)
        adopted = adopt(
            self._fs,
            self._data_dir,
            keyspace,
            lambda index: check_keyspace(index, opened),
            self.settings.adopt,
        )
        if adopted is not None:
            log.info("took over the database of etcd", path=adopted)
        sync_worker = ThreadWorker(self._reactor, "sync")
        background = ThreadWorker(self._reactor, "background")
        commit_worker = ThreadWorker(self._reactor, "commit")
        self._workers = [sync_worker, background, commit_worker]
        self._backend = open_backend(self._fs, keyspace, self._reactor, commit_worker)
        dice = random.SystemRandom()
        core = assemble_core(
            self.settings,
            opened,
            snap_files,
            self._backend,
            self._exports,
            self._transport,
            self._reactor,
            sync_worker,
            background,
            dice,
            time.time,
            self._caller,
        )
        self.core = core
        self._client_factory = self._client_side(core)
        self._peer_gate.open(self._peer_side(core))
        core.replica.on_turn_begin.append(self._client_factory.flusher.hold)
        core.replica.on_turn_end.append(self._client_factory.flusher.release)
        core.replica.on_leader_change.append(self._leader_known)
        versions = VersionMonitor(
            opened.member_id,
            core.members,
            self._caller,
            self._set_version,
            self.settings.max_cluster_version,
        )
        self._versions = versions
        core.replica.on_leading.append(versions.lead)
        core.replica.on_following.append(versions.follow)
        core.on_removed.append(self._removed)
        core.replica.on_fatal.append(self._ended)
        core.start()
        self._purging = self._reactor.callLater(PURGE_SECONDS, self._purge)

    def _open_log(self, snap_files: SnapStore) -> OpenedLog:
        directory = self._data_dir.wal_dir
        if self._plan is None:
            opened = reopen_log(self._fs, directory, snap_files)
        else:
            opened = found_log(self._fs, directory, self._plan)
        log.info(
            "starting local member",
            name=self.settings.name,
            local_member_id=format_id(opened.member_id),
            cluster_id=format_id(opened.cluster_id),
        )
        return opened

    def _connect_peers(self, opened: OpenedLog) -> None:
        settings = self.settings
        identity = Identity(
            opened.member_id, opened.cluster_id, settings.initial_advertise_peer_urls
        )
        self._caller = HttpCaller(self._reactor, 1.0 + settings.election_timeout / 1000)
        self._transport = PeerTransport(identity, self._caller)
        if self._plan is not None and not self._plan.new:
            # Until the log says who belongs to the cluster, the plan does.
            for each in self._plan.members:
                self._transport.add_remote(each.id, each.peer_urls)
        self._transport.on_removed.append(lambda reason: self._removed())

    def _removed(self) -> None:
        """This member belongs to the cluster no more."""
        if not self._is_removed:
            self._is_removed = True
            log.warn("the member has been permanently removed from the cluster")
            for each in self.on_removed:
                each()

    def _client_side(self, core: Core) -> ClientPortFactory:
        settings = self.settings
        flusher = Flusher(self._reactor)
        message_bytes_max = settings.max_request_bytes + RECEIVE_MARGIN_BYTES
        view = MemberHealth(core.replica, core.alarms)
        health = Health(view)
        pages: dict[bytes, Resource] = {
            b"/health": health,
            b"/version": Version(MemberCluster(core.cluster_id, core.members)),
        }
        pages[b"/config/local/log"] = LogLevelPage(lambda: verbosity.level, verbosity.set_level)
        pages |= debug_pages(core.router, self._reactor, settings.enable_pprof)
        checks = member_checks(view)
        for each in checks:
            pages.update(each.pages())
        trees: dict[bytes, Resource] = {}
        if settings.enable_grpc_gateway:
            self._gateway = Gateway(core.router, flusher, self._reactor, message_bytes_max)
            trees[b"/v3/"] = self._gateway
        site = Site(pages, trees, Access(settings.cors, settings.host_whitelist))
        factory = ClientPortFactory(
            core.router,
            # Base64 takes four bytes for three.
            HttpFactory(site, self._reactor, 2 * message_bytes_max + HTTP_MARGIN_BYTES),
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
        metrics = MetricsPage(families(core.sources, health, factory, checks))
        pages[b"/metrics"] = metrics
        observed = {path: page for path, page in pages.items() if path.startswith(OBSERVED)}
        self._metrics_gate.open(HttpFactory(Site(observed), self._reactor))
        return factory

    def _peer_side(self, core: Core) -> HttpFactory:
        cluster = MemberCluster(core.cluster_id, core.members)
        leases = LeasesPage(core.replica, core.leases, self._reactor)
        pages: dict[bytes, Resource] = {
            b"/version": Version(cluster),
            b"/members": Members(cluster),
            b"/members/hashkv": HashKvPage(core.store, core.slices),
            b"/leases": leases,
            b"/leases/internal": leases,
            b"/raft": RaftPage(self._transport),
            b"/raft/probing": Probing(time.time),
        }
        trees: dict[bytes, Resource] = {
            STREAM_PREFIX: StreamTree(self._transport),
            PROMOTE_PREFIX: PromoteTree(core.cluster, core.members, core.cluster_id),
        }
        return HttpFactory(Site(pages, trees), self._reactor)

    # --- becoming ready ------------------------------------------------------------------------

    def _leader_known(self, leader: int) -> None:
        """Publish name and client URLs with the first leader after every start."""
        if leader and not self._publishing:
            self._publishing = True
            core = self._running_core()
            own = ClusterMember(
                core.member_id, (), self.settings.name, self.settings.advertise_client_urls
            )
            self._announce(
                lambda number: publish_request(number, own.path, own.attributes_json()),
                self._published,
            )

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
        for each in self.on_ready:
            each()

    def _set_version(self, version: str) -> None:
        log.info("setting the cluster version", cluster_version=version)
        self._announce(lambda number: version_request(number, version), lambda: None)

    def _announce(self, request: Callable[[int], Any], done: Callable[[], None]) -> None:
        announcement = Announcement(self._running_core().replica, self._reactor, request, done)
        self._announcements.append(announcement)
        announcement.start()

    def _running_core(self) -> Core:
        assert self.core is not None, "the member is not running"
        return self.core

    # --- running -------------------------------------------------------------------------------

    def _purge(self) -> None:
        """Old segments and snapshots go; what is still needed is locked and stays."""
        self._purging = self._reactor.callLater(PURGE_SECONDS, self._purge)
        for path in self._data_dir.purge(self.settings.max_wals, self.settings.max_snapshots):
            log.info("purged file", path=path)

    def _ended(self, error: BaseException) -> None:
        log.critical("member failed: {error}", error=str(error))
        if self._client_factory is not None:
            # Watch events of the turn that failed may wait there, and never happened.
            self._client_factory.abort()
        for each in self.on_fatal:
            each(error)

    # --- stopping ------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Accept nothing new, let calls under way end, then close the log."""
        self.running = False
        waiting: list[Deferred[Any]] = []
        for port in self._ports:
            closing = port.stopListening()
            if closing is not None:
                waiting.append(closing)
        for each in self._announcements:
            each.stop()
        if self._versions is not None:
            self._versions.follow()
        if self._purging is not None and self._purging.active():
            self._purging.cancel()
        if self._gateway is not None:
            self._gateway.stop()
        if self._client_factory is not None:
            waiting.append(self._client_factory.stop())
        return DeferredList(waiting).addCallback(self._close)

    def _close(self, _: object) -> None:
        if self.core is not None:
            self.core.stop()
            self.core = None
        self._exports.stop()
        if self._backend is not None:
            self._backend.commit()
        for worker in self._workers:
            worker.stop()
        if self._backend is not None:
            self._backend.close()
            self._backend = None
        self._data_dir.unlock()


def assemble_member(settings: MemberSettings, reactor: Any, plan: ClusterPlan | None) -> Member:
    """A member for production, where the whole process is its own."""
    tune_process()
    member = Member(settings, reactor, plan)
    member.on_ready.append(freeze_loaded)
    return member
