"""A way through an HTTP proxy to a host and port behind it: the method CONNECT."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

HEAD_BYTES_MAX = 1 << 14


class ProxyRefused(Exception):
    """The proxy does not lead there; the text has its answer."""


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """Connects to a proxy, and by it to ``host:port``; fails with :class:`ProxyRefused`."""

    def __init__(
        self,
        reactor: Any,
        proxy: IStreamClientEndpoint,
        host: str,
        port: int,
        timeout_seconds: float,
        authorization: bytes = b"",
    ) -> None:
        """``timeout_seconds`` are for all of it; ``authorization`` is what the proxy wants to see
        in the header of that name, empty if nothing."""
        self._reactor = reactor
        self._proxy = proxy
        shown = f"[{host}]" if ":" in host else host
        end = f"{shown}:{port}".encode()
        self._request = b"CONNECT %s HTTP/1.1\r\nhost: %s\r\n" % (end, end)
        if authorization:
            self._request += b"proxy-authorization: %s\r\n" % authorization
        self._request += b"\r\n"
        self._timeout = timeout_seconds

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Fires with the factory's protocol when it is connected to the host."""
        tunnels: Any = Factory.forProtocol(lambda: _Tunnel(self._request, protocolFactory))
        reached: Deferred[Any] = self._proxy.connect(tunnels)
        opened: Deferred[IProtocol] = reached.addCallback(lambda tunnel: tunnel.opened)
        opened.addTimeout(self._timeout, self._reactor)
        return opened


class _Tunnel(Protocol):
    """Asks for the way, then hands on what comes to the protocol that uses it."""

    def __init__(self, request: bytes, factory: IProtocolFactory) -> None:
        self._request = request
        self._factory = factory
        self._head = b""
        self._inner: Any = None
        self.opened: Deferred[IProtocol] = Deferred(lambda _: self._give_up())

    def connectionMade(self) -> None:
        assert self.transport is not None, "connected"
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._head += data
        head, mark, rest = self._head.partition(b"\r\n\r\n")
        if not mark:
            if len(self._head) > HEAD_BYTES_MAX:
                self._refuse("its answer has no end")
            return
        line = head.partition(b"\r\n")[0].decode("latin-1")
        version, _, status = line.partition(" ")
        if not version.startswith("HTTP/") or not status.startswith("200"):
            self._refuse(f"it answered {line[:200]!r}")
            return
        self._begin(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self.opened.called:
            self.opened.errback(ProxyRefused("the proxy closed the connection"))

    def _begin(self, rest: bytes) -> None:
        assert self.transport is not None, "data came from somewhere"
        self._inner = self._factory.buildProtocol(self.transport.getPeer())
        if self._inner is None:
            self.opened.errback(ConnectionDone())
            self._give_up()
            return
        self._inner.makeConnection(self.transport)
        self.opened.callback(self._inner)
        if rest:
            self._inner.dataReceived(rest)

    def _refuse(self, why: str) -> None:
        if not self.opened.called:
            self.opened.errback(ProxyRefused(f"the proxy does not lead there: {why}"))
        self._give_up()

    def _give_up(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()
