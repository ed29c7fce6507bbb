"""Comparing URL lists by the addresses that their host names stand for."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from twisted.internet.error import DNSLookupError

from etcdtw.bootstrap.interfaces import BootstrapSettings, ReactorView
from etcdtw.bootstrap.waiting import Patience


class Addresses:
    """Addresses of host names, asked again every second until the time is up.

    Addresses and ``localhost`` stand for themselves, as in etcd.
    """

    def __init__(self, reactor: ReactorView, settings: BootstrapSettings) -> None:
        self._reactor = reactor
        self._patience = Patience(reactor, settings)

    async def of_url(self, url: str) -> str:
        """The URL with its host replaced. Fails with ``DNSLookupError`` after the deadline."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme.startswith("unix") or host == "localhost" or _is_address(host):
            return url
        address = await self._resolve(host)
        shown = f"[{address}]" if ":" in address else address
        return f"{parts.scheme}://{shown}:{parts.port}"

    async def _resolve(self, host: str) -> str:
        while True:
            try:
                return await self._reactor.resolve(host)
            except DNSLookupError as problem:
                if not await self._patience.pause(f"failed to resolve {host}: {problem}"):
                    raise


async def compare_by_address(
    addresses: Addresses, ours: Sequence[str], theirs: Sequence[str]
) -> str:
    """What differs between two URL lists, in etcd's words; empty if nothing does."""
    if len(ours) != len(theirs):
        return f"len({_go_list(ours)}) != len({_go_list(theirs)})"
    try:
        pairs = [
            sorted([(await addresses.of_url(url), url) for url in urls]) for urls in (ours, theirs)
        ]
    except DNSLookupError as problem:
        return f"failed to resolve a host name: {problem}"
    for (our_address, our_url), (their_address, their_url) in zip(*pairs, strict=True):
        if our_address != their_address:
            return (
                f'"{our_address}"(resolved from "{our_url}") != '
                f'"{their_address}"(resolved from "{their_url}")'
            )
    return ""


def _go_list(texts: Sequence[str]) -> str:
    return "[" + " ".join(f'"{text}"' for text in texts) + "]"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
