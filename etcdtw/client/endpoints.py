"""Endpoint URLs of a client, and how to reach them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from etcdtw.tls.interfaces import ITLSContextFactory

CONNECT_SECONDS = 5.0
_SECURE = ("https", "unixs")
_DEFAULT_PORT = 2379


@dataclass(frozen=True)
class Address:
    """A parsed endpoint. ``path`` is set for Unix sockets, ``host`` and ``port`` for the rest."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def authority(self) -> str:
        """What goes into ``:authority``."""
        if self.path:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_endpoint(text: str) -> Address:
    """``host:port``, ``http://host:port`` or ``unix://path``; ValueError for anything else."""
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "http", text
    if scheme in ("unix", "unixs"):
        if not rest:
            raise ValueError(f"endpoint {text!r} names no socket")
        return Address(scheme, path=rest)
    if scheme not in ("http", "https"):
        raise ValueError(f"endpoint {text!r}: the scheme must be http, https, unix or unixs")
    rest = rest.rstrip("/")
    if rest.startswith("["):
        host, _, port = rest[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = rest.partition(":")
    if not host or (port and not (port.isascii() and port.isdecimal())) or "/" in rest:
        raise ValueError(f"endpoint {text!r} is not of the form host:port")
    number = int(port or _DEFAULT_PORT)
    if not 0 < number < 65536:
        raise ValueError(f"endpoint {text!r}: no port {number}")
    return Address(scheme, host, number)


Connector = Callable[[Address], IStreamClientEndpoint]
"""Makes the Twisted endpoint that reaches an address."""


def plain_connector(reactor: Any, connect_seconds: float = CONNECT_SECONDS) -> Connector:
    """Reaches addresses without TLS; ValueError for those that need it."""

    def connect(address: Address) -> IStreamClientEndpoint:
        if address.scheme in _SECURE:
            raise ValueError(f"{address.scheme} endpoints need a connector that speaks TLS")
        return _plain_endpoint(reactor, address, connect_seconds)

    return connect


def tls_connector(
    reactor: Any, tls: ITLSContextFactory, connect_seconds: float = CONNECT_SECONDS
) -> Connector:
    """Reaches https and unixs addresses over TLS, the others without.

    A member behind a socket is expected to show a certificate for ``localhost``.
    """

    def connect(address: Address) -> IStreamClientEndpoint:
        plain = _plain_endpoint(reactor, address, connect_seconds)
        if address.scheme not in _SECURE:
            return plain
        from etcdtw.tls.transport import SecureEndpoint  # without TLS it is never loaded

        return SecureEndpoint(tls, address.host or "localhost", plain, reactor)

    return connect


def _plain_endpoint(reactor: Any, address: Address, seconds: float) -> IStreamClientEndpoint:
    if address.path:
        return UNIXClientEndpoint(reactor, address.path, timeout=max(int(seconds), 1))
    return HostnameEndpoint(reactor, address.host, address.port, timeout=seconds)
