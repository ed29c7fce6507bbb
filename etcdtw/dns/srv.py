"""SRV records (RFC 2782), and addresses of their targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IResolver

LOOKUP_SECONDS = (1, 2, 4)
"""How long to wait for an answer, and again, and again."""
ROOT = "."
"""A single target of this name says that there is decidedly no such service."""


@dataclass(frozen=True, slots=True)
class Service:
    """One SRV record, its target without the dot at the end."""

    target: str
    port: int
    priority: int = 0
    weight: int = 0
    ttl: int = 0

    @property
    def host_port(self) -> str:
        host = f"[{self.target}]" if ":" in self.target else self.target
        return f"{host}:{self.port}"


class LookupFailed(Exception):
    """A name server did not tell; the text says what was asked, and why not.

    ``is_final``: it said that there is nothing, so asking again is of no use for now.
    """

    def __init__(self, text: str, is_final: bool) -> None:
        super().__init__(text)
        self.is_final = is_final

    @classmethod
    def of(cls, name: str, reason: str, is_final: bool) -> LookupFailed:
        return cls(f"lookup {name}: {reason}", is_final)


def service_name(service: str, secure: bool, suffix: str, domain: str) -> str:
    """etcd's names: ``_etcd-server-ssl-<suffix>._tcp.<domain>``."""
    name = f"_{service}" + ("-ssl" if secure else "") + (f"-{suffix}" if suffix else "")
    return f"{name}._tcp.{domain.rstrip('.')}"


async def lookup_services(resolver: IResolver, name: str) -> list[Service]:
    """The records of this name, the first to be used first. LookupFailed if there are none."""
    found = [
        Service(_text(record.payload.target), record.payload.port, record.payload.priority,
                record.payload.weight, record.ttl or record.payload.ttl or 0)
        for record in await _ask(resolver.lookupService, name)
        if _kind(record) == "SRV"
    ]  # fmt: skip
    found = [each for each in found if each.target and each.port]
    if not found:
        raise LookupFailed.of(name, "no such host", True)
    return sorted(found, key=lambda each: (each.priority, -each.weight))


async def lookup_hosts(resolver: IResolver, host: str) -> list[str]:
    """The addresses of a host, IPv4 first; an address is its own. LookupFailed."""
    try:
        return [str(ip_address(host))]
    except ValueError:
        pass
    if host == "localhost":
        return ["127.0.0.1", "::1"]
    found: list[str] = []
    faults: list[LookupFailed] = []
    for lookup in (resolver.lookupAddress, resolver.lookupIPV6Address):
        try:
            records = await _ask(lookup, host)
        except LookupFailed as fault:
            faults.append(fault)
            continue
        for record in records:
            if _kind(record) in ("A", "AAAA"):
                found.append(str(ip_address(record.payload.address)))
    if not found:
        final = all(fault.is_final for fault in faults)
        raise next(
            (fault for fault in faults if fault.is_final == final),
            LookupFailed.of(host, "no such host", True),
        )
    return found


async def _ask(lookup: Any, name: str) -> Sequence[Any]:
    from twisted.names.error import AuthoritativeDomainError, DNSNameError, DomainError

    try:
        waiting: Deferred[Any] = lookup(name, LOOKUP_SECONDS)
        answers, _, _ = await waiting
    except CancelledError:
        raise
    except (AuthoritativeDomainError, DNSNameError, DomainError) as error:
        final = isinstance(error, DNSNameError | AuthoritativeDomainError)
        reason = "no such host" if final else f"server misbehaving ({type(error).__name__})"
        raise LookupFailed.of(name, reason, final) from None
    except UnicodeError:
        # An empty part, or one of more than 63 characters: no name server has such a name.
        raise LookupFailed.of(name, "no such host", True) from None
    except (TimeoutError, OSError) as error:
        reason = "i/o timeout" if isinstance(error, TimeoutError) else str(error)
        raise LookupFailed.of(name, reason, False) from None
    except Exception as error:  # a resolver of somebody else, or an answer that is none
        raise LookupFailed.of(name, f"{type(error).__name__}: {error}", False) from None
    found: Sequence[Any] = answers
    return found


def _kind(record: Any) -> str:
    """Records carry what they are in their payload, whatever they were asked for."""
    name: str = type(record.payload).__name__
    return name.removeprefix("Record_")


def _text(name: Any) -> str:
    """Empty for what is no name of a host: Twisted has names only of ASCII."""
    try:
        return str(name).rstrip(ROOT)
    except UnicodeDecodeError:
        return ""
