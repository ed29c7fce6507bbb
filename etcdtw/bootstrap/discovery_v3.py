"""Bootstrap by v3 discovery (``--discovery-token`` and ``--discovery-endpoints``): members register
below a token in any etcd, and the first so many are the cluster.

It is the protocol of etcd 3.6, over the v3 API. The token is the cluster's token as well.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from etcdtw.bootstrap.interfaces import (
    BootstrapSettings,
    ClusterPlan,
    DiscoverySettings,
    IBootstrapProvider,
    IDryRun,
)
from etcdtw.bootstrap.meeting import Meeting, met_plan
from etcdtw.bootstrap.refusal import BootstrapError
from etcdtw.bootstrap.registry_v3 import REQUEST_SECONDS, V3Registry, credentials_of, positive
from etcdtw.bootstrap.static import members_text
from etcdtw.bootstrap.waiting import a_turn
from etcdtw.client import Client, tls_files
from etcdtw.client.endpoints import CONNECT_SECONDS, Connector, parse_endpoint, plain_connector
from etcdtw.errors import ConfigError
from etcdtw.ids import format_id, member_id
from etcdtw.rpc.outgoing import Keepalive

KEEPALIVE_SECONDS_MIN = 10.0
"""Members end connections on which they are pinged more often than every 5 s; etcd's own client
takes a shorter time for this one."""

T = TypeVar("T")
OpenClient = Callable[[DiscoverySettings, Any], Client]
_Ask = Callable[[BootstrapSettings, Client, Any], Coroutine[Any, Any, T]]

log = Logger(namespace="etcdtw.discovery")


def open_client(settings: DiscoverySettings, reactor: Any) -> Client:
    """A client of the service, which has called nobody yet."""
    return Client(
        reactor,
        endpoints_of(settings),
        connector=_connector(settings, reactor),
        timeout_seconds=positive(settings.request_timeout, REQUEST_SECONDS),
        keepalive=keepalive_of(settings),
    )


@implementer(IBootstrapProvider, IDryRun)
class DiscoveryV3Provider:
    """Registers the member and waits for the others."""

    def __init__(self, reactor: Any, open_client: OpenClient = open_client) -> None:
        self._reactor = reactor
        self._open_client = open_client

    def plan(self, settings: BootstrapSettings) -> Deferred[ClusterPlan]:
        return Deferred.fromCoroutine(self._plan(settings))

    def look(self, settings: BootstrapSettings) -> Deferred[ClusterPlan | str]:
        return Deferred.fromCoroutine(self._with_client(settings, token_state))

    async def _plan(self, settings: BootstrapSettings) -> ClusterPlan:
        return await self._with_client(settings, discover)

    async def _with_client(self, settings: BootstrapSettings, ask: _Ask[T]) -> T:
        if settings.initial_cluster_state == "existing":
            raise _refusal(
                "discovery-endpoints",
                "discovery endpoints should not be set when joining existing initial cluster",
            )
        _check(settings.discovery_v3, self._reactor)
        await a_turn(self._reactor)  # what needs no answer was checked before
        client = self._open_client(settings.discovery_v3, self._reactor)
        try:
            return await ask(settings, client, self._reactor)
        finally:
            client.close()


async def discover(settings: BootstrapSettings, client: Client, reactor: Any) -> ClusterPlan:
    """The plan of the cluster that assembles below the settings' token. BootstrapError."""
    token = settings.discovery_v3.token
    registry = V3Registry(settings.discovery_v3, client, reactor)
    log.info("Bootstrapping cluster using v3 discovery.", **registry.where)
    try:
        members = await _meeting(settings, registry, reactor).join(settings, f"v3 {token}")
    except BootstrapError as error:
        log.error("discovery failed to join cluster", error=error.reason, **registry.where)
        raise
    cluster = members_text(members)
    log.info("discovery joined cluster successfully", cluster=cluster, **registry.where)
    return met_plan(settings, members, token)


async def token_state(
    settings: BootstrapSettings, client: Client, reactor: Any
) -> ClusterPlan | str:
    """Who has registered, for one who could but does not. BootstrapError if he could not."""
    token = settings.discovery_v3.token
    registry = V3Registry(settings.discovery_v3, client, reactor)
    return await _meeting(settings, registry, reactor).state(settings, f"v3 {token}")


def _meeting(settings: BootstrapSettings, registry: V3Registry, reactor: Any) -> Meeting:
    identity = format_id(member_id(settings.peer_urls, settings.discovery_v3.token))
    return Meeting(registry, reactor, identity, settings.timeout_seconds)


async def discovered_urls(settings: DiscoverySettings, reactor: Any) -> tuple[str, ...]:
    """The peer URLs of the cluster below a token, for one who does not belong to it: waits until it
    is complete."""
    _check(settings, reactor)
    client = open_client(settings, reactor)
    try:
        return await Meeting(V3Registry(settings, client, reactor), reactor).look()
    finally:
        client.close()


def _check(settings: DiscoverySettings, reactor: Any) -> None:
    """Refuse what cannot work, before anybody is asked."""
    user, password = credentials_of(settings)
    if user and not password:
        raise _refusal(
            "discovery-password", f"--discovery-user is {user!r}, and there is no password"
        )
    try:
        _connector(settings, reactor)
    except ValueError as error:
        raise _refusal("discovery-endpoints", str(error)) from None
    except ConfigError as error:
        raise _refusal(
            "discovery-cert",
            f"failed to join discovery cluster ({error.reason})",
            f"--discovery-cert {settings.cert!r}, --discovery-key {settings.key!r}, "
            f"--discovery-cacert {settings.cacert!r}",
        ) from None


def endpoints_of(settings: DiscoverySettings) -> list[str]:
    """With their schemes. As in etcd, any flag of TLS is for all endpoints that have none."""
    secure = not settings.insecure_transport or settings.insecure_skip_tls_verify
    secure = secure or bool(settings.cert or settings.key or settings.cacert)
    scheme = "https" if secure else "http"
    stripped = (each.strip() for each in settings.endpoints)
    return [each if "://" in each else f"{scheme}://{each}" for each in stripped]


def keepalive_of(settings: DiscoverySettings) -> Keepalive:
    """Pings as etcd's own client sends them."""
    seconds = settings.keepalive_time
    seconds = max(seconds, KEEPALIVE_SECONDS_MIN) if seconds > 0 else 0.0
    return Keepalive(seconds, settings.keepalive_timeout, while_idle=False)


def _connector(settings: DiscoverySettings, reactor: Any) -> Connector:
    """ValueError for endpoints that are none, ConfigError for certificates that cannot be used."""
    schemes = [parse_endpoint(each).scheme for each in endpoints_of(settings)]
    seconds = positive(settings.dial_timeout, CONNECT_SECONDS)
    if not {"https", "unixs"} & set(schemes):
        return plain_connector(reactor, seconds)
    return tls_files(
        reactor,
        ca=settings.cacert,
        cert=settings.cert,
        key=settings.key,
        verify=not settings.insecure_skip_tls_verify,
        connect_seconds=seconds,
    )


def _refusal(flag: str, reason: str, hint: str = "") -> BootstrapError:
    return BootstrapError(flag, reason, code="ETW-BOOT-DISCOVERY", hint=hint)
