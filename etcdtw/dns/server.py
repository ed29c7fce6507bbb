"""A name server for tests and small sites: the SRV records of one cluster and its hosts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from twisted.internet import defer

TTL_SECONDS = 300
PEER_PORT, CLIENT_PORT = 2380, 2379


@dataclass(frozen=True, slots=True)
class Host:
    """A host of the cluster: its name below the domain, and its addresses."""

    name: str
    addresses: tuple[str, ...]
    peer_port: int = PEER_PORT
    client_port: int = CLIENT_PORT


class Zone:
    """What the server says about a domain; ``hosts`` and ``secure`` may change while it runs."""

    def __init__(
        self,
        domain: str,
        hosts: Sequence[Host],
        *,
        secure: bool = False,
        ttl_seconds: int = TTL_SECONDS,
    ) -> None:
        """``secure``: the services are those of TLS, ``_etcd-server-ssl`` and its like."""
        self.domain = domain.rstrip(".").lower()
        self.hosts = list(hosts)
        self.secure = secure
        self.ttl_seconds = ttl_seconds
        self.asked: list[str] = []
        """Names of the queries so far, the last ones first to go."""

    def records(self, name: str) -> list[Any]:
        """All records of a name; an empty list if there is no such name."""
        from twisted.names import dns

        name = name.rstrip(".").lower()
        suffix = "-ssl" if self.secure else ""
        found: list[Any] = []
        for host in self.hosts:
            target = f"{host.name}.{self.domain}"
            for service, port in (("server", host.peer_port), ("client", host.client_port)):
                if name == f"_etcd-{service}{suffix}._tcp.{self.domain}":
                    found.append(dns.Record_SRV(0, 0, port, target, self.ttl_seconds))
            if name == target.lower():
                for address in host.addresses:
                    kind = dns.Record_A if ip_address(address).version == 4 else dns.Record_AAAA
                    found.append(kind(address, self.ttl_seconds))
        return found

    def has_below(self, name: str) -> bool:
        """Whether there are names below this one: then it is there itself, if without records,
        for resolvers believe that nothing is below a name that is not there (RFC 8020)."""
        name = name.rstrip(".").lower()
        if name == self.domain:
            return True
        if not name.endswith(f".{self.domain}"):
            return False
        known = ["_tcp", *(each.name.lower() for each in self.hosts)]
        return any(f".{each}.{self.domain}".endswith(f".{name}") for each in known)

    def addresses_behind(self, records: Sequence[Any]) -> list[tuple[str, Any]]:
        """Names and address records of SRV targets, which go along with an answer."""
        found = []
        for record in records:
            target = str(getattr(record, "target", ""))
            found += [(target, each) for each in self.records(target)] if target else []
        return found


ASKED_MAX = 1000


def make_authority(zone: Zone) -> Any:
    """Answers for a zone, as an ``IResolver``."""
    from twisted.names import common, dns, error

    class Authority(common.ResolverBase):
        def _lookup(self, name: bytes, cls: int, type: int, timeout: object = None) -> Any:
            text = name.decode("ascii", "replace")
            zone.asked.append(text)
            del zone.asked[:-ASKED_MAX]
            records = zone.records(text)
            if not records and not zone.has_below(text):
                return defer.fail(error.AuthoritativeDomainError(name))
            wanted = [each for each in records if type in (each.TYPE, dns.ALL_RECORDS)]

            def header(owner: str | bytes, record: Any) -> Any:
                return dns.RRHeader(owner, record.TYPE, dns.IN, record.ttl, record, auth=True)

            additional = [header(*each) for each in zone.addresses_behind(wanted)]
            return defer.succeed(([header(name, each) for each in wanted], [], additional))

    return Authority()  # type: ignore[no-untyped-call]


def make_server(zone: Zone) -> tuple[Any, Any]:
    """The factory for TCP, and the protocol for UDP."""
    from twisted.names import dns, server

    factory = server.DNSServerFactory(authorities=[make_authority(zone)])
    factory.noisy = False
    datagrams = dns.DNSDatagramProtocol(factory)
    datagrams.noisy = False
    return factory, datagrams
