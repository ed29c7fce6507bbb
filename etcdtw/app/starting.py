"""The service that becomes a member: plans the cluster, assembles the member, starts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IResolver
from twisted.logger import Logger
from twisted.python.failure import Failure

from etcdtw.app.earlier import has_log
from etcdtw.app.fatal import Fatal
from etcdtw.app.notify import notify_ready
from etcdtw.app.preflight import make_plan
from etcdtw.app.proxy_mode import is_proxy
from etcdtw.app.refusals import START_ERRORS, problems_of, sentence, start_error_text
from etcdtw.app.secure import asking_tls
from etcdtw.app.settings import MemberSettings
from etcdtw.bootstrap.interfaces import BootstrapSettings, ClusterPlan, IBootstrapFactory
from etcdtw.bootstrap.refusal import CLUSTER_IS_FULL, BootstrapError
from etcdtw.config.problems import ConfigProblems
from etcdtw.dns.resolvers import install_resolver, make_resolver
from etcdtw.lean import import_also
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.note import NoteFile


class RunnableMember(Protocol):
    """What is started here: ``etcdtw.app.member.Member`` or a stand-in."""

    on_ready: list[Callable[[], object]]
    """Called when it serves clients."""
    on_removed: list[Callable[[], object]]
    """Called when it belongs to its cluster no more."""
    on_fatal: list[Callable[[BaseException], object]]
    """Called with the error that ends it."""

    def startService(self) -> object: ...

    def stopService(self) -> Deferred[None] | None: ...


REMOVED_SECONDS = 1.0

log = Logger(namespace="etcdtw.member")

# Settings, reactor, and the cluster to found or join: None where a log says already which it is.
Assemble = Callable[[MemberSettings, Any, ClusterPlan | None], RunnableMember]


class StartingMember(Service):
    """Starts a member, at once if the cluster can be planned without asking anybody.

    ``startService`` raises what kept the member from starting; what happens after it has returned
    goes to ``fatal``, and ``refused`` has all of it if there is no start. ``on_ready`` is called
    when the member serves clients.
    """

    def __init__(
        self,
        settings: MemberSettings,
        reactor: Any,
        factories: Sequence[IBootstrapFactory],
        fatal: Fatal,
        assemble: Assemble,
        on_ready: Sequence[Callable[[], object]] = (notify_ready,),
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._factories = factories
        self._fatal = fatal
        self._assemble = assemble
        self._on_ready = on_ready
        self._member: RunnableMember | None = None
        self._starting: Deferred[None] | None = None
        self.refused: ConfigProblems | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        failed: list[Failure] = []
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(failed.append)
        if failed:
            failed[0].raiseException()
        self._starting.addCallback(lambda _: self._check_late(failed))

    async def _start(self) -> None:
        settings = self._settings
        if settings.dns_server:
            install_resolver(self._reactor, make_resolver(self._reactor, settings.dns_server))
        if is_proxy(settings):
            self._run(self._proxy())
            return
        plan = None
        initialized = has_log(settings)
        if initialized and settings.discovery:
            log.warn(
                "discovery token ignored since a cluster has already been initialized. "
                "Valid log found at {path}",
                path=settings.wal_path,
            )
        if initialized and settings.discovery_endpoints:
            log.warn(
                "discovery token is ignored since cluster already initialized; "
                "valid logs are found",
                wal_dir=settings.wal_path,
            )
        if not initialized:
            asked = asking_settings(settings, self._reactor)
            try:
                plan = await make_plan(asked, self._factories, self._reactor)
            except BootstrapError as error:
                if not falls_back(settings, error):
                    raise
                log.warn("discovery cluster is full, falling back to proxy")
                self._run(self._proxy())
                return
            if plan.new and len(plan.members) > 1:
                await ask_others(plan, asked, self._reactor)
        if not self.running:
            return
        self._run(self._assemble(settings, self._reactor, plan))

    def _run(self, member: RunnableMember) -> None:
        member.on_ready.extend(self._on_ready)
        member.on_removed.append(self._removed)
        member.on_fatal.append(lambda error: self._fatal(start_error_text(error)))
        self._member = member
        member.startService()
        note_of(self._settings).write("")  # it has a log now, or needs none

    def _proxy(self) -> RunnableMember:
        from etcdtw.app.v2proxy import V2Proxy  # members need none of it

        return V2Proxy(self._settings, self._reactor)

    def _removed(self) -> None:
        """The member is no longer wanted: the process ends well, after whoever asked for it has
        his answer."""
        self._reactor.callLater(REMOVED_SECONDS, self._reactor.stop)

    def _check_late(self, failed: list[Failure]) -> None:
        if not failed or not self.running:
            return
        error = failed[0].value
        if not isinstance(error, START_ERRORS):
            # Nobody would end a process that waits for nothing.
            log.failure("the start has failed", failed[0])
            self._fatal(f"{type(error).__name__}: {error}")
            return
        self.refused = problems_of(error)
        self._fatal(sentence(self.refused))

    def stopService(self) -> Deferred[None] | None:
        super().stopService()  # type: ignore[no-untyped-call]
        if self._starting is not None:
            self._starting.cancel()
        if self._member is None:
            return None
        return self._member.stopService()


def asking_settings(settings: MemberSettings, reactor: Any) -> BootstrapSettings:
    """What bootstrap providers may know, with all they need for asking others."""

    def resolver() -> IResolver:
        return make_resolver(reactor, settings.dns_server)

    return replace(
        settings.bootstrap(),
        peer_tls=cache(lambda: asking_tls(settings, reactor)),
        resolver=resolver if settings.dns_server else None,
        note=note_of(settings),
    )


def note_of(settings: MemberSettings) -> NoteFile:
    """What an earlier start may have left for the next one."""
    return NoteFile(OsFilesystem(not settings.unsafe_no_fsync), settings.data_dir)


def falls_back(settings: MemberSettings, error: BootstrapError) -> bool:
    """Whether this refusal makes a v2 proxy of the member: v2 discovery has such refusals."""
    is_full = error.code == CLUSTER_IS_FULL and error.flag == "discovery"
    return is_full and settings.discovery_fallback == "proxy"


async def ask_others(plan: ClusterPlan, asked: BootstrapSettings, reactor: Any) -> None:
    """Before a cluster is founded, ask those that are up already. BootstrapError."""
    # Imported late: a member that is alone needs none of it.
    from etcdtw.bootstrap.existing import FOUNDED_SECONDS, check_others
    from etcdtw.peer.calling import HttpCaller

    caller = HttpCaller(reactor, FOUNDED_SECONDS, tls=asked.peer_tls)
    try:
        await check_others(plan, caller)
    finally:
        caller.stop()


def find_assemble() -> Assemble:
    """``assemble_member``, imported late: it brings the whole program with it."""
    import_also("etcdtw.app.member")
    assemble: Assemble = import_module("etcdtw.app.member").assemble_member
    return assemble
