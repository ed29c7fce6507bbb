"""Client endpoints by SRV records, and which of them to believe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IResolver
from twisted.logger import Logger

from etcdtw.dns.srv import LookupFailed, Service, lookup_services, service_name

TTL_SECONDS_MIN, TTL_SECONDS_MAX = 5, 3600
"""However short or long records live, they are looked up again that often."""

Verify = Callable[[Service], Deferred[None]]
"""Fires if an endpoint shows a certificate for the domain, fails with the reason if not."""

log = Logger(namespace="etcdtw.tcpproxy")


class NoEndpoints(Exception):
    """A domain leads to no endpoint that may be used; the text names each and why."""


@dataclass(frozen=True)
class FoundClients:
    """Endpoints to use, how long that holds, and the ``host:port`` of those that speak TLS."""

    services: tuple[Service, ...]
    ttl_seconds: float
    secure: frozenset[str] = frozenset()


async def find_clients(
    resolver: IResolver, domain: str, suffix: str, verify: Verify | None, only_verified: bool
) -> FoundClients:
    """The endpoints behind ``_etcd-client-ssl._tcp.<domain>`` and ``_etcd-client._tcp.<domain>``.

    Those of TLS are verified, if there is ``verify``; plain ones are used if there are no others,
    but not where ``only_verified`` ones are wanted. NoEndpoints, or LookupFailed in etcd's words if
    there are no records at all.
    """
    secure, secure_fault = await _ask(resolver, service_name("etcd-client", True, suffix, domain))
    plain, plain_fault = await _ask(resolver, service_name("etcd-client", False, suffix, domain))
    if secure_fault is not None and plain_fault is not None:
        final = secure_fault.is_final and plain_fault.is_final
        raise LookupFailed(f"dns lookup errors: {secure_fault} and {plain_fault}", final)
    everything = [*secure, *plain]
    log.info(
        "discovered cluster from SRV",
        srv_server=domain,
        endpoints=[f"https://{each.host_port}" for each in secure]
        + [f"http://{each.host_port}" for each in plain],
    )
    ttl = min(each.ttl for each in everything)
    ttl = max(TTL_SECONDS_MIN, min(ttl, TTL_SECONDS_MAX))
    of_tls = frozenset(each.host_port for each in secure)
    if verify is None:
        return FoundClients(tuple(_each_once(everything)), ttl, of_tls)
    used, dropped = await _verified(secure, verify)
    if plain and (only_verified or secure):
        why = "is insecure"
        dropped += [f'"http://{each.host_port}" {why}' for each in plain if each not in used]
    elif plain:
        log.warn(
            "nothing authenticates these endpoints: the domain has records of plain ones only",
            endpoints=[each.host_port for each in plain],
        )
        used = list(plain)
    if dropped:
        log.warn("dropped discovered endpoints", srv_server=domain, error=",".join(dropped))
    if not used:
        raise NoEndpoints(f"no endpoint of {domain} can be used: {', '.join(dropped)}")
    return FoundClients(tuple(_each_once(used)), ttl, of_tls)


async def _ask(resolver: IResolver, name: str) -> tuple[list[Service], LookupFailed | None]:
    try:
        return await lookup_services(resolver, name), None
    except LookupFailed as fault:
        return [], fault


async def _verified(services: Sequence[Service], verify: Verify) -> tuple[list[Service], list[str]]:
    used, dropped = [], []
    asked = [(each, verify(each)) for each in services]
    for each, verifying in asked:
        try:
            await verifying
        except CancelledError:
            for _, other in asked:
                other.addErrback(lambda _: None).cancel()
            raise
        except Exception as error:  # whatever it is, the endpoint is not one to believe
            dropped.append(f'"https://{each.host_port}" failed to dial ({error})')
        else:
            used.append(each)
    return used, dropped


def _each_once(services: Sequence[Service]) -> list[Service]:
    return list({each.host_port: each for each in reversed(services)}.values())[::-1]
