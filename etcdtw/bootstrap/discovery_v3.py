"""Bootstrap by v3 discovery (``--discovery-token`` and ``--discovery-endpoints``): members register
below a token in any etcd, and the first so many are the cluster.

It is the protocol of etcd 3.6, over the v3 API. The token is the cluster's token as well.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from etcdtw.bootstrap.existing import a_turn
from etcdtw.bootstrap.interfaces import (
    BootstrapSettings,
    ClusterPlan,
    DiscoverySettings,
    IBootstrapProvider,
)
from etcdtw.bootstrap.meeting import (
    Meeting,
    Refusals,
    Registered,
    Status,
    Unreachable,
    met_plan,
    parse_size,
    status_of,
)
from etcdtw.bootstrap.refusal import BootstrapError
from etcdtw.bootstrap.static import members_text
from etcdtw.client import Client, Watch, WatchCompacted, created, tls_files
from etcdtw.client.endpoints import CONNECT_SECONDS, parse_endpoint, plain_connector
from etcdtw.client.txn import put
from etcdtw.errors import AuthNotEnabled, Code, ConfigError, EtcdError
from etcdtw.ids import format_id, member_id
from etcdtw.pb.kv_pb2 import Event, KeyValue
from etcdtw.pb.rpc_pb2 import AuthenticateRequest, AuthenticateResponse

REGISTRY = "/_etcd/registry"
REQUEST_SECONDS = 5.0
KEEPALIVE_SECONDS_MIN = 10.0
"""Members end connections on which they are pinged more often than every 5 s; etcd's own client
takes a shorter time for this one."""
LOOK_AGAIN_SECONDS = 30.0
"""A watch outlives its server, and would wait for a dead one without a word."""
_FINAL = (Code.INVALID_ARGUMENT, Code.PERMISSION_DENIED, Code.UNIMPLEMENTED)
_AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"

OpenClient = Callable[[DiscoverySettings, Any], Client]
T = TypeVar("T")

log = Logger(namespace="etcdtw.discovery")


def claims_discovery_v3(settings: BootstrapSettings) -> bool:
    """Whether endpoints of a discovery service are given."""
    return bool(settings.discovery_v3.endpoints)


def open_client(settings: DiscoverySettings, reactor: Any) -> Client:
    """A client of the service, which has called nobody yet. ValueError for endpoints that are none,
    ConfigError for certificates that cannot be used."""
    endpoints = _endpoints(settings)
    seconds = _positive(settings.dial_timeout, CONNECT_SECONDS)
    if any(parse_endpoint(each).scheme in ("https", "unixs") for each in endpoints):
        connector = tls_files(
            reactor,
            ca=settings.cacert,
            cert=settings.cert,
            key=settings.key,
            verify=not settings.insecure_skip_tls_verify,
            connect_seconds=seconds,
        )
    else:
        connector = plain_connector(reactor, seconds)
    keepalive = settings.keepalive_time
    return Client(
        reactor,
        endpoints,
        connector=connector,
        timeout_seconds=_positive(settings.request_timeout, REQUEST_SECONDS),
        keepalive_seconds=max(keepalive, KEEPALIVE_SECONDS_MIN) if keepalive > 0 else 0.0,
        keepalive_timeout=settings.keepalive_timeout,
    )


@implementer(IBootstrapProvider)
class DiscoveryV3Provider:
    """Registers the member and waits for the others."""

    def __init__(self, reactor: Any, open_client: OpenClient = open_client) -> None:
        self._reactor = reactor
        self._open_client = open_client

    def plan(self, settings: BootstrapSettings) -> Deferred[ClusterPlan]:
        return Deferred.fromCoroutine(self._plan(settings))

    async def _plan(self, settings: BootstrapSettings) -> ClusterPlan:
        if settings.initial_cluster_state == "existing":
            raise _refusal(
                "discovery-endpoints",
                "discovery endpoints should not be set when joining existing initial cluster",
            )
        client = _checked_client(settings.discovery_v3, self._reactor, self._open_client)
        try:
            await a_turn(self._reactor)  # what needs no answer was checked before
            return await discover(settings, client, self._reactor)
        finally:
            client.close()


async def discover(settings: BootstrapSettings, client: Client, reactor: Any) -> ClusterPlan:
    """The plan of the cluster that assembles below the settings' token. BootstrapError."""
    asked = settings.discovery_v3
    registry = V3Registry(asked, client, reactor)
    identity = format_id(member_id(settings.peer_urls, asked.token))
    log.info("Bootstrapping cluster using v3 discovery.", **registry.where)
    try:
        members = await Meeting(registry, reactor, identity).join(settings, f"v3 {asked.token}")
    except BootstrapError as error:
        log.error("discovery failed to join cluster", error=error.reason, **registry.where)
        raise
    cluster = members_text(members)
    log.info("discovery joined cluster successfully", cluster=cluster, **registry.where)
    return met_plan(settings, members, asked.token)


async def discovered_urls(settings: DiscoverySettings, reactor: Any) -> tuple[str, ...]:
    """The peer URLs of the cluster below a token, for one who does not belong to it: waits until it
    is complete."""
    client = _checked_client(settings, reactor, open_client)
    try:
        return await Meeting(V3Registry(settings, client, reactor), reactor).look()
    finally:
        client.close()


class V3Registry:
    """The keys below a token."""

    def __init__(self, settings: DiscoverySettings, client: Client, clock: IReactorTime) -> None:
        self._settings = settings
        self._client = client
        self._clock = clock
        # A token may have slashes and dots: etcd tidies the whole key.
        base = posixpath.normpath(f"{REGISTRY}/{settings.token}")
        self._size_key = f"{base}/_config/size"
        self._members_key = f"{base}/members"
        self._revision = 0
        self._watch: Watch | None = None
        endpoints = ",".join(settings.endpoints)
        self.where = {"discovery_token": settings.token, "discovery_endpoints": endpoints}
        self.refusals = Refusals(
            flag="discovery-token",
            place=f"{settings.token} at {endpoints}",
            make_size=f"etcdctl --endpoints={endpoints} put {self._size_key} 3",
            bad_url="discovery: invalid peer URL",
        )

    async def status(self) -> Status:
        self._stop_watching()
        await self._authenticate()
        found = await self._asked(
            self._client.kv.get(self._size_key), "get cluster size from discovery service"
        )
        if not found.kvs:
            raise self.refusals.no_size()
        try:
            size = parse_size(found.kvs[0].value.decode(errors="replace"))
        except ValueError as error:
            raise self.refusals.bad_size(error) from None
        listed = await self._asked(
            self._client.kv.get(self._members_key, prefix=True),
            "get cluster members from discovery service",
        )
        self._revision = listed.header.revision
        return status_of(self._registered(listed.kvs), size)

    async def register(self, identity: str, value: str) -> bool:
        key = f"{self._members_key}/{identity}"
        # etcd 3.6 overwrites what is there: a member that lost its data would be in the cluster
        # again, and vote once more.
        done = await self._asked(
            self._client.kv.txn().when(created(key) == 0).then(put(key, value)).commit(),
            "register members itself to the discovery service",
        )
        if done.succeeded:
            log.info(
                "register member itself successfully",
                memberKey=key,
                memberInfo=value,
                **self.where,
            )
        return bool(done.succeeded)

    async def newcomers(self) -> Sequence[Registered] | None:
        if self._watch is None:
            self._watch = self._client.watch(
                self._members_key, prefix=True, start_revision=self._revision + 1
            )
        waiting = self._watch.next_events()
        waiting.addTimeout(LOOK_AGAIN_SECONDS, self._clock)
        try:
            events = await waiting
        except (TimeoutError, WatchCompacted):
            return None
        except EtcdError as error:
            raise self._fault(error, "watch cluster members in discovery service") from None
        return self._registered(each.kv for each in events if each.type == Event.PUT)

    def tell_found(self, found: Registered, is_self: bool) -> None:
        log.info(
            "found peer from discovery service",
            memberKey=f"{self._members_key}/{found.identity}",
            memberInfo=found.value,
            **self.where,
        )

    def tell_waiting(self, found: int, size: int) -> None:
        log.info(
            "waiting for peers from discovery service",
            clusterSize=size,
            found_peers=found,
            **self.where,
        )

    def tell_complete(self, found: int, size: int) -> None:
        log.info(
            "found all needed peers from discovery service",
            clusterSize=size,
            found_peers=found,
            **self.where,
        )

    def tell_retry(self, step: str, reason: Exception, seconds: float) -> None:
        log.warn(
            "retry connecting to discovery service",
            reason=step,
            error=str(reason),
            backoff=f"{seconds:g}s",
            **self.where,
        )

    # --- questions -------------------------------------------------------------------------------

    async def _asked(self, answer: Deferred[T], what: str) -> T:
        try:
            return await answer
        except EtcdError as error:
            raise self._fault(error, what) from None

    def _fault(self, error: EtcdError, what: str) -> Exception:
        log.warn(f"failed to {what}", error=str(error), **self.where)
        self._client.channel.metadata.pop("token", None)  # it may have grown old
        if error.code in _FINAL:
            return self.refusals.failed(str(error))
        return Unreachable(str(error))

    async def _authenticate(self) -> None:
        user, password = _credentials(self._settings)
        channel = self._client.channel
        if not user or "token" in channel.metadata:
            return
        request = AuthenticateRequest(name=user, password=password)
        seconds = _positive(self._settings.request_timeout, REQUEST_SECONDS)
        calling: Deferred[AuthenticateResponse] = channel.call(
            _AUTHENTICATE, request, AuthenticateResponse, seconds, True
        )
        try:
            answer = await calling
        except AuthNotEnabled:
            return  # as etcd's own client: everybody may, so this user may
        except EtcdError as error:
            if error.code == Code.UNIMPLEMENTED:
                raise self.refusals.failed(
                    str(error), "the service has no users; --discovery-user has to be left out"
                ) from None
            raise self._fault(error, "authenticate with discovery service") from None
        channel.metadata["token"] = answer.token

    def _registered(self, found: Iterable[KeyValue]) -> list[Registered]:
        registered = []
        for each in found:
            key = each.key.decode(errors="replace").strip()
            value = each.value.decode(errors="replace").strip()
            if "=" in value:
                identity = key.removeprefix(f"{self._members_key}/")
                registered.append(Registered(identity, value, each.create_revision))
            else:
                log.warn(
                    "invalid peer info returned from discovery service",
                    memberKey=key,
                    memberInfo=value,
                    **self.where,
                )
        return registered

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


def _checked_client(settings: DiscoverySettings, reactor: Any, open_client: OpenClient) -> Client:
    user, password = _credentials(settings)
    if user and not password:
        raise _refusal(
            "discovery-password", f"--discovery-user is {user!r}, and there is no password"
        )
    try:
        return open_client(settings, reactor)
    except ValueError as error:
        raise _refusal("discovery-endpoints", str(error)) from None
    except ConfigError as error:
        raise _refusal(
            "discovery-cert",
            f"failed to join discovery cluster ({error.reason})",
            f"--discovery-cert {settings.cert!r}, --discovery-key {settings.key!r}, "
            f"--discovery-cacert {settings.cacert!r}",
        ) from None


def _endpoints(settings: DiscoverySettings) -> list[str]:
    """With their schemes. As in etcd, any flag of TLS is for all endpoints that have none."""
    secure = not settings.insecure_transport or settings.insecure_skip_tls_verify
    secure = secure or bool(settings.cert or settings.key or settings.cacert)
    scheme = "https" if secure else "http"
    stripped = (each.strip() for each in settings.endpoints)
    return [each if "://" in each else f"{scheme}://{each}" for each in stripped]


def _credentials(settings: DiscoverySettings) -> tuple[str, str]:
    if settings.password:
        return settings.user, settings.password
    user, _, password = settings.user.partition(":")
    return user, password


def _positive(seconds: float, default: float) -> float:
    return seconds if seconds > 0 else default


def _refusal(flag: str, reason: str, hint: str = "") -> BootstrapError:
    return BootstrapError(flag, reason, code="ETW-BOOT-DISCOVERY", hint=hint)
