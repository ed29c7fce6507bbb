"""Bootstrap by DNS SRV records (``--discovery-srv``), as etcd does it.

The records of ``_etcd-server-ssl._tcp.<domain>`` and then of ``_etcd-server._tcp.<domain>`` are the
members' peer URLs. A member finds itself by the address in its own advertised URLs, not by a name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IResolver
from twisted.logger import Logger
from zope.interface import implementer

from etcdtw.bootstrap.interfaces import (
    BootstrapSettings,
    ClusterPlan,
    IBootstrapProvider,
    ReactorView,
)
from etcdtw.bootstrap.refusal import BootstrapError, BootstrapUnavailable
from etcdtw.bootstrap.static import StaticProvider, check_size, members_text, nearest
from etcdtw.bootstrap.waiting import Patience, a_turn
from etcdtw.dns.resolvers import make_resolver
from etcdtw.dns.srv import LookupFailed, Service, lookup_hosts, lookup_services, service_name

log = Logger(namespace="etcdtw.bootstrap")


@dataclass(frozen=True)
class Found:
    """One record, with the URL it stands for and the addresses of its target."""

    query: str
    url: str
    target: str
    addresses: frozenset[tuple[str, int]]


async def srv_urls(settings: BootstrapSettings, resolver: IResolver) -> tuple[str, ...]:
    """The peer URLs of the domain's members, for one who is none of them. LookupFailed."""
    return tuple(sorted({each.url for each in await _records(settings, resolver)}))


@implementer(IBootstrapProvider)
class SrvProvider:
    """Finds the members by DNS, then does what a list of them would have done."""

    def __init__(self, reactor: ReactorView) -> None:
        self._reactor = reactor

    def plan(self, settings: BootstrapSettings) -> Deferred[ClusterPlan]:
        return Deferred.fromCoroutine(self._plan(settings))

    async def _plan(self, settings: BootstrapSettings) -> ClusterPlan:
        if not settings.discovery_srv:
            raise _refusal(settings, "there is no domain to ask for")
        await a_turn(self._reactor)  # what needs no answer was checked before
        if settings.resolver is not None:
            resolver = settings.resolver()
        else:
            resolver = make_resolver(self._reactor)
        members = await self._members(settings, resolver)
        log.info("got bootstrap from DNS for etcd-server", initial_cluster=members_text(members))
        listed = replace(settings, initial_cluster=members, discovery_srv="")
        return await StaticProvider(self._reactor).plan(listed)

    async def _members(
        self, settings: BootstrapSettings, resolver: IResolver
    ) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """What name servers say at once, if they do; with a deadline of the operator's own they
        may also say something better until then."""
        patience = Patience(self._reactor, settings)
        while True:
            try:
                members = await self._asked(settings, resolver)
                check_size(replace(settings, initial_cluster=members))
                return members
            except LookupFailed as fault:
                refusal: BootstrapError = _unavailable(settings, str(fault))
                is_final = fault.is_final
            except BootstrapError as error:
                refusal, is_final = error, not settings.expected_size
            if is_final and not settings.timeout_seconds:
                raise refusal
            if not await patience.pause(refusal.reason):
                raise refusal

    async def _asked(
        self, settings: BootstrapSettings, resolver: IResolver
    ) -> tuple[tuple[str, tuple[str, ...]], ...]:
        own = {
            address: url for url in settings.peer_urls for address in await _of_url(resolver, url)
        }
        found = await _records(settings, resolver)
        return _named(settings, own, found)


async def _records(settings: BootstrapSettings, resolver: IResolver) -> list[Found]:
    """What both services lead to. LookupFailed if that is nothing."""
    found: list[Found] = []
    faults: list[LookupFailed] = []
    for secure in (True, False):
        name = service_name(
            "etcd-server", secure, settings.discovery_srv_name, settings.discovery_srv
        )
        try:
            services = await lookup_services(resolver, name)
        except LookupFailed as fault:
            # Most domains have one of the two: that the other is absent is nothing to tell.
            (log.debug if fault.is_final else log.warn)("no SRV records: {error}", error=fault)
            faults.append(fault)
            continue
        found += await _resolved(resolver, name, "https" if secure else "http", services)
    if not found:
        raise _both_failed(faults)
    return found


async def _resolved(
    resolver: IResolver, query: str, scheme: str, services: Sequence[Service]
) -> list[Found]:
    found = []
    for each in services:
        try:
            addresses = await lookup_hosts(resolver, each.target)
        except LookupFailed as fault:
            if not fault.is_final:
                raise
            log.warn("an SRV record leads nowhere: {error}", error=str(fault), service=query)
            continue
        ends = frozenset((address, each.port) for address in addresses)
        found.append(Found(query, f"{scheme}://{each.host_port}", each.target, ends))
    return found


async def _of_url(resolver: IResolver, url: str) -> list[tuple[str, int]]:
    parts = urlsplit(url)
    if not parts.hostname or not parts.port:
        return []
    return [(each, parts.port) for each in await lookup_hosts(resolver, parts.hostname)]


def _named(
    settings: BootstrapSettings, own: dict[tuple[str, int], str], found: Sequence[Found]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Members by name: the own one has its name, the others are numbered."""
    members: dict[str, list[str]] = {}
    others = 0
    for each in found:
        ours = next((own[address] for address in each.addresses if address in own), None)
        if ours is None:
            name, others = str(others), others + 1
        else:
            name = settings.name
            if urlsplit(ours).scheme != urlsplit(each.url).scheme:
                raise _refusal(
                    settings,
                    f"bootstrap at {each.url} from DNS for {each.query} has scheme mismatch with "
                    f"expected peer {ours}",
                )
        members.setdefault(name, []).append(each.url)
    twice = Counter(address for each in found for address in each.addresses)
    for address, count in twice.items():
        if count > 1:
            log.warn("SRV records lead to the same member more than once", address=_ends([address]))
    if settings.name not in members:
        raise BootstrapError(
            "discovery-srv",
            f'cannot find local etcd member "{settings.name}" in SRV records',
            code="ETW-BOOT-SRV",
            hint=(
                f"own addresses: {_ends(own) or 'none'}, those of "
                f"{','.join(settings.peer_urls)}; the records lead to "
                + "; ".join(f"{each.url} ({_ends(each.addresses)})" for each in found)
                + _suggested(settings, found)
            ),
        )
    _check_domain(settings, found)
    return tuple((name, tuple(sorted(urls))) for name, urls in sorted(members.items()))


def _suggested(settings: BootstrapSettings, found: Sequence[Found]) -> str:
    """The record that looks most like the own URLs."""
    near = nearest(settings.peer_urls, [each.url for each in found])
    return f"; is this member {near}? then use --initial-advertise-peer-urls {near}" if near else ""


def _check_domain(settings: BootstrapSettings, found: Sequence[Found]) -> None:
    """Without an authority of one's own, whoever has any valid certificate could be a member whose
    records are forged: the targets have to lie in the domain."""
    if settings.has_authority:
        return
    domain = settings.discovery_srv.rstrip(".").lower()
    for each in found:
        target = each.target.lower()
        if each.url.startswith("https:") and not f".{target}".endswith(f".{domain}"):
            raise _refusal(
                settings,
                f"{each.query} leads to {each.target}, which is not in the domain {domain}: "
                "without --peer-trusted-ca-file the SRV targets must be",
            )


def _ends(addresses: Iterable[tuple[str, int]]) -> str:
    return ", ".join(
        sorted(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses)
    )


def _both_failed(faults: Sequence[LookupFailed]) -> LookupFailed:
    text = "; ".join(
        f"error querying DNS SRV records for {str(fault).split('.')[0].removeprefix('lookup ')} "
        f"{fault}"
        for fault in faults
    )
    return LookupFailed(
        text or "no SRV record leads to a host", all(each.is_final for each in faults)
    )


def _refusal(
    settings: BootstrapSettings, reason: str, kind: type[BootstrapError] = BootstrapError
) -> BootstrapError:
    return kind(
        "discovery-srv",
        f"error setting up initial cluster: {reason}",
        code="ETW-BOOT-SRV",
        hint=f"--discovery-srv is {settings.discovery_srv!r}",
    )


def _unavailable(settings: BootstrapSettings, reason: str) -> BootstrapError:
    return _refusal(settings, reason, BootstrapUnavailable)
