"""Resolvers on a given reactor, by ``twisted.names``."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
    IResolver,
)
from zope.interface import implementer

from etcdtw.dns.srv import lookup_hosts

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


def install_resolver(reactor: Any, resolver: IResolver) -> None:
    """Have the reactor's own connections find their hosts by this resolver.

    Not by ``installResolver``: with that, Twisted asks for records of any kind, which many name
    servers refuse (RFC 8482), and takes one address of all.
    """
    reactor.installNameResolver(HostResolver(resolver))


@implementer(IHostnameResolver)
class HostResolver:
    """All addresses of hosts, as connections ask for them."""

    def __init__(self, resolver: IResolver) -> None:
        self._resolver = resolver

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[Any]] | None = None,
        transportSemantics: Any = "TCP",
    ) -> IHostResolution:
        def found(addresses: list[str]) -> None:
            for each in addresses:
                kind = IPv4Address if ip_address(each).version == 4 else IPv6Address
                if addressTypes is None or kind in addressTypes:
                    resolutionReceiver.addressResolved(kind(transportSemantics, each, portNumber))

        looking: Deferred[Any] = Deferred.fromCoroutine(lookup_hosts(self._resolver, hostName))
        resolution = _Resolution(hostName, looking)
        resolutionReceiver.resolutionBegan(resolution)
        # Whatever kept it from being found: without an address, the caller says so.
        looking.addCallback(found).addErrback(lambda _: None)
        looking.addCallback(lambda _: resolutionReceiver.resolutionComplete())
        return resolution


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str, looking: Deferred[Any]) -> None:
        self.name = name
        self._looking = looking

    def cancel(self) -> None:
        self._looking.cancel()


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
