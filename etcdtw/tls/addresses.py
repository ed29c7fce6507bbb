"""Whether who calls is where his certificate says that he is (the rules of etcd's security guide).

A certificate without names is not held against anybody. An address in it that is the caller's will
do. Otherwise one of its host names must lead to his address, or his address to one of its names,
which may have a wildcard.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IResolver

from etcdtw.tls.interfaces import TLSRefused
from etcdtw.tls.verdict import host_check, readable_names

LOOKUP_SECONDS = (1, 3)
"""How long to wait for an answer, and again."""


def check_address(
    certificate: x509.Certificate, host: str, resolver: Callable[[], IResolver]
) -> Deferred[None] | None:
    """None if the caller at this address is right, which needs no lookup. TLSRefused.

    ``resolver`` is called if one is needed."""
    try:
        names, addresses = readable_names(certificate)
    except ValueError as error:
        # Not the same as none: those are nobody's, these may be somebody else's.
        raise TLSRefused(f"tls: failed to parse client certificate: {error}") from error
    if not names and not addresses:
        return None
    if addresses:
        fault = host_check(host)(certificate)
        if not fault:
            return None
        if not names:
            raise TLSRefused(fault)
    return Deferred.fromCoroutine(_check_names(names, host, resolver()))


async def _check_names(names: Sequence[str], host: str, resolver: IResolver) -> None:
    faults: list[str] = []
    if await _leads_back(names, host, resolver, faults):
        return
    for name in names:
        if not name.startswith("*.") and await _leads_to(name, host, resolver, faults):
            return
    found = f" ({faults[-1]})" if faults else ""
    raise TLSRefused(f'tls: "{host}" does not match any of DNSNames {_go_list(names)}{found}')


async def _leads_back(
    names: Sequence[str], host: str, resolver: IResolver, faults: list[str]
) -> bool:
    """Whether the address is known by one of the names."""
    reverse = ip_address(host).reverse_pointer
    for record in await _lookup(resolver.lookupPointer, reverse, faults):
        known = str(getattr(record.payload, "name", "")).rstrip(".").lower()
        for name in names:
            name = name.lower()
            if known == name or (name.startswith("*.") and known.endswith(name[1:])):
                return True
    return False


async def _leads_to(name: str, host: str, resolver: IResolver, faults: list[str]) -> bool:
    """Whether the name has the address."""
    wanted = ip_address(host)
    lookup = resolver.lookupAddress if wanted.version == 4 else resolver.lookupIPV6Address
    for record in await _lookup(lookup, name, faults):
        if getattr(record.payload, "address", None) == wanted.packed:
            return True
    return False


async def _lookup(lookup: Any, name: str, faults: list[str]) -> Sequence[Any]:
    try:
        answers, _, _ = await lookup(name, LOOKUP_SECONDS)
    except Exception as error:  # whatever a resolver says, it is no answer
        reason = str(error) or type(error).__name__
        faults.append(f"lookup {name}: {reason}")
        return ()
    found: Sequence[Any] = answers
    return found


def _go_list(names: Sequence[str]) -> str:
    return f"[{' '.join(json.dumps(name) for name in names)}]"
