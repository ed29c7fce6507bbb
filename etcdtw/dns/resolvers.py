"""Resolvers on a given reactor, by ``twisted.names``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IResolver

RESOLV_CONF = "/etc/resolv.conf"
DNS_PORT, PORT_MAX = 53, 65535


def make_resolver(reactor: Any, servers: Sequence[str] = ()) -> IResolver:
    """Asks this system's table of hosts, then its name servers, as ``resolv.conf`` has them, or
    these (``address`` or ``address:port``). ValueError for a server that is none."""
    # Late: it is large, and few members need it.
    from twisted.names import cache, client, hosts, resolve

    asked = [server_address(each) for each in servers]
    where: dict[str, Any] = {"servers": asked} if asked else {"resolv": RESOLV_CONF}
    asking = client.Resolver(reactor=reactor, **where)
    resolver: IResolver = resolve.ResolverChain(
        [hosts.Resolver(), cache.CacheResolver(reactor=reactor), asking]
    )
    return resolver


def server_address(text: str) -> tuple[str, int]:
    """``127.0.0.1``, ``127.0.0.1:5353`` or ``[::1]:5353`` as address and port. ValueError."""
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    is_port = port.isascii() and port.isdecimal() and int(port) <= PORT_MAX
    if not host or (port and not is_port):
        raise ValueError(f"{text!r} is not the address of a name server")
    return host, int(port or DNS_PORT)
