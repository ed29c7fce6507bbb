"""The client port: gRPC on HTTP/2 and everything else on HTTP/1.1, told apart by first bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as TypingProtocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    INegotiated,
    IProtocol,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from etcdtw.errors import EtcdError
from etcdtw.http2.frames import PREFACE
from etcdtw.http2.message import Headers

from .connection import RpcConnection
from .flusher import Flusher
from .pages import PageReceiver, PageStream
from .router import Router
from .settings import ServerSettings

LAST_ANSWER_SECONDS = 60.0  # for one to leave, when the client has said that it sends no more


class ISiteFactory(TypingProtocol):
    """What is needed of who serves pages."""

    def buildProtocol(self, addr: Any) -> Any: ...

    def open_page(self, stream: PageStream, headers: Headers) -> PageReceiver:
        """Serve a request that came by HTTP/2."""

    def doStart(self) -> None: ...

    def doStop(self) -> None: ...


def is_tls(transport: object) -> bool:
    """Whether a transport encrypts."""
    return INegotiated.providedBy(transport)


def peer_text(address: object) -> str:
    """``address:port``, IPv6 in brackets; what else there is for other kinds of address."""
    host = getattr(address, "host", None)
    if host is None:
        return "@"
    port = getattr(address, "port", 0)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ClientPortFactory(Factory):
    """Accepts clients.

    ``router`` serves gRPC; ``http_site_factory`` builds the protocols for HTTP/1.1, and serves its
    pages to HTTP/2 as well where there is TLS, as etcd does. ``flusher`` writes what connections
    were given outside of their own reads: whoever answers calls in batches flushes it at the end
    of a batch.
    """

    noisy = False

    def __init__(
        self,
        router: Router,
        http_site_factory: ISiteFactory | None,
        settings: ServerSettings,
        clock: IReactorTime,
        flusher: Flusher | None = None,
    ) -> None:
        self.router = router
        self.settings = settings
        self.clock = clock
        self.flusher = Flusher(clock) if flusher is None else flusher
        self.http_site_factory = http_site_factory
        self._connections: dict[ClientPortProtocol, None] = {}
        self._stopped: list[Deferred[None]] = []
        self._stopping = False

    def buildProtocol(self, addr: IAddress | None) -> ClientPortProtocol:
        protocol = ClientPortProtocol(self)
        protocol.factory = self
        return protocol

    @property
    def connection_count(self) -> int:
        return len(self._connections)

    def startFactory(self) -> None:
        if self.http_site_factory is not None:
            self.http_site_factory.doStart()

    def stopFactory(self) -> None:
        if self.http_site_factory is not None:
            self.http_site_factory.doStop()

    def connection_made(self, connection: ClientPortProtocol) -> None:
        """For the protocol: it lives."""
        self._connections[connection] = None
        if self._stopping:
            connection.drain()

    def connection_lost(self, connection: ClientPortProtocol) -> None:
        """For the protocol: it does not."""
        self._connections.pop(connection, None)
        if not self._connections:
            waiting, self._stopped = self._stopped, []
            for each in waiting:
                each.callback(None)

    def end_calls(self, error: EtcdError) -> None:
        """End all calls but lasting ones, the connections stay."""
        for connection in list(self._connections):
            connection.end_calls(error)

    def abort(self) -> None:
        """Cut all connections: nothing that waits to be written leaves."""
        for connection in list(self._connections):
            connection.abort()

    def stop(self) -> Deferred[None]:
        """Drain all connections: clients are told to go, streams end, unary calls under way get
        their answers within the drain timeout. Fires when the last connection is closed. The
        listening port should be closed before."""
        self._stopping = True
        for connection in list(self._connections):
            connection.drain()
        if not self._connections:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._stopped.append(stopped)
        return stopped


@implementer(IHalfCloseableProtocol)
class ClientPortProtocol(Protocol):
    """One connection: waits for the first bytes, then hands everything to who speaks that."""

    def __init__(self, port: ClientPortFactory) -> None:
        self._port = port
        self._first = b""
        self._grpc: RpcConnection | None = None
        self._web: IProtocol | None = None
        self._timeout: IDelayedCall | None = None
        self._receive: Callable[[bytes], None] = self._first_bytes

    def connectionMade(self) -> None:
        port = self._port
        transport: Any = self.transport
        if hasattr(transport, "setTcpNoDelay"):
            # An answer is one write; waiting to fill a segment would hold it back for 40 ms.
            transport.setTcpNoDelay(True)
        port.connection_made(self)
        self._timeout = port.clock.callLater(port.settings.handshake_timeout, self._too_late)

    def dataReceived(self, data: bytes) -> None:
        self._receive(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_timeout()
        self._port.connection_lost(self)
        if self._grpc is not None:
            self._grpc.connectionLost(reason)
        elif self._web is not None:
            self._web.connectionLost(reason)

    def readConnectionLost(self) -> None:
        """The client will send no more, and most likely is gone. Who has an answer on its way may
        wait for it: some say at once that they have only one request."""
        transport: Any = self.transport
        web: Any = self._web
        if getattr(web, "answers_soon", False):
            web.drain()
            self._stop_timeout()
            self._timeout = self._port.clock.callLater(LAST_ANSWER_SECONDS, self._too_late)
        else:
            transport.connectionLost(Failure(ConnectionDone()))

    def writeConnectionLost(self) -> None:
        """Only sides that half close their own connections hear of this."""

    def drain(self) -> None:
        """Let it end soon."""
        drain = getattr(self._web, "drain", None)
        if self._grpc is not None:
            self._grpc.drain()
        elif drain is not None:
            drain()
            port = self._port
            self._stop_timeout()
            self._timeout = port.clock.callLater(port.settings.drain_timeout, self._too_late)
        elif self.transport is not None:
            self.transport.loseConnection()

    def end_calls(self, error: EtcdError) -> None:
        if self._grpc is not None:
            self._grpc.end_calls(error)

    def abort(self) -> None:
        """Let it end now."""
        if self._grpc is not None:
            self._grpc.abort()
        elif self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def _first_bytes(self, data: bytes) -> None:
        data = self._first + data
        if len(data) < len(PREFACE) and PREFACE.startswith(data):
            self._first = data
            return
        self._first = b""
        self._stop_timeout()
        if data.startswith(PREFACE):
            self._speak_grpc()
        else:
            self._speak_http1()
        self._receive(data)

    def _speak_grpc(self) -> None:
        port = self._port
        site = port.http_site_factory
        transport: Any = self.transport
        self._grpc = RpcConnection(
            transport,
            peer_text(transport.getPeer()),
            port.router,
            port.settings,
            port.clock,
            port.flusher,
            site.open_page if site is not None and is_tls(transport) else None,
        )
        self._receive = self._grpc.dataReceived

    def _speak_http1(self) -> None:
        transport: Any = self.transport
        site = self._port.http_site_factory
        if site is None:
            self._receive = self._ignore
            transport.abortConnection()
            return
        web = site.buildProtocol(transport.getPeer())
        self._web = web
        web.makeConnection(transport)
        self._receive = web.dataReceived

    def _ignore(self, data: bytes) -> None:
        """The connection is being cut."""

    def _too_late(self) -> None:
        self._timeout = None
        transport: Any = self.transport
        transport.abortConnection()

    def _stop_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
