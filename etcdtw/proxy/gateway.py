"""The gateway: passes the bytes of each connection to one endpoint of the cluster, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import isIPAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint
from twisted.internet.error import ConnectBindError, ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from etcdtw.dns.srv import Service
from etcdtw.proxy.splicing import Splicer, make_splicer
from etcdtw.proxy.targets import Target, Targets
from etcdtw.rpc.alive import detect_vanishing
from etcdtw.tls.direct import DirectWriter

CONNECT_SECONDS = 5.0

Connect = Callable[[Service], IStreamClientEndpoint]
"""Makes the endpoint that reaches a service."""

log = Logger(namespace="etcdtw.tcpproxy")


def by_name(reactor: Any) -> Connect:
    """Endpoints by host name or address."""

    def connect(service: Service) -> IStreamClientEndpoint:
        host, port = service.target, service.port
        if isIPAddress(host):
            return TCP4ClientEndpoint(reactor, host, port, timeout=int(CONNECT_SECONDS))
        return HostnameEndpoint(reactor, host, port, timeout=CONNECT_SECONDS)

    return connect


@implementer(IHalfCloseableProtocol)
class Side(Protocol):
    """One of the two connections that are joined. Nothing is read while the other side does not
    take what came before."""

    def __init__(self, joined: Joined) -> None:
        self._joined = joined
        self._other: Side | None = None
        self._write: Callable[[bytes], None] = lambda _: None
        self._is_ended = False

    def connectionMade(self) -> None:
        self._transport().setTcpNoDelay(True)
        detect_vanishing(self._transport().getHandle())
        self._joined.made(self)

    def join(self, other: Side, splicer: Splicer | None) -> None:
        """What comes here goes there."""
        self._other = other
        read = splicer and splicer.reader(self._transport(), other._transport())
        if read:
            self._transport().doRead = read
        self._write = DirectWriter(other._transport()).write
        # Full over there: no more is read here.
        other._transport().registerProducer(self._transport(), True)

    def dataReceived(self, data: bytes) -> None:
        self._write(data)

    def readConnectionLost(self) -> None:
        """Nothing more comes: the other side is told so, and may go on sending."""
        self._is_ended = True
        other = self._other
        if other is None:
            self._transport().loseConnection()
            return
        other._transport().unregisterProducer()
        other._transport().loseWriteConnection()
        if other._is_ended:
            self._transport().loseConnection()
            other._transport().loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing more can be sent; what still comes is passed on."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._joined.lost(self)
        other, self._other = self._other, None
        if other is not None:
            other._other = None
            other._transport().unregisterProducer()
            if reason.check(ConnectionDone):
                other._transport().loseConnection()
            else:
                other._transport().abortConnection()

    def pause(self) -> None:
        self._transport().pauseProducing()

    def resume(self) -> None:
        self._transport().resumeProducing()

    def close(self) -> None:
        self._transport().loseConnection()

    def abort(self) -> None:
        self._transport().abortConnection()

    def _transport(self) -> Any:
        transport: Any = self.transport
        return transport


class Joined:
    """A client's connection, and the one to an endpoint that is made for it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._attempt: Deferred[Any] | None = None
        self.client = Side(self)
        self._server: Side | None = None
        self._is_over = False

    def made(self, side: Side) -> None:
        if side is self.client:
            self._gateway.joined[self] = None
            side.pause()  # until there is somebody to pass it on to
            self._try_next()

    def lost(self, side: Side) -> None:
        if side is self.client:
            self._is_over = True
            self._gateway.joined.pop(self, None)
            if self._attempt is not None:
                self._attempt.cancel()

    def abort(self) -> None:
        self.client.abort()

    def _try_next(self) -> None:
        target = self._gateway.targets.pick()
        if target is None:
            self.client.close()
            return
        server = self._server = Side(self)
        self._attempt = self._gateway.connect(target, server)
        self._attempt.addCallbacks(
            lambda _: self._connected(server), lambda failure: self._failed(target, failure)
        )

    def _connected(self, server: Side) -> None:
        self._attempt = None
        if self._is_over:
            server.abort()
            return
        splicer = self._gateway.splicer
        server.join(self.client, splicer)
        self.client.join(server, splicer)
        self.client.resume()

    def _failed(self, target: Target, failure: Failure) -> None:
        self._attempt = None
        if self._is_over:
            return
        if failure.check(ConnectBindError):
            # No descriptor is left here: that says nothing about the endpoint.
            log.warn("cannot connect a client: {error}", error=failure.getErrorMessage())
            self.client.close()
        else:
            self._gateway.failed(target, failure.getErrorMessage())
            self._try_next()


class Gateway(Factory):
    """Accepts clients. A failed endpoint is tried again every ``retry_seconds``; a client learns of
    it only if all of them have failed, by the end of his connection."""

    noisy = False

    def __init__(
        self, reactor: Any, targets: Targets, retry_seconds: float, connect: Connect
    ) -> None:
        self.targets = targets
        self.joined: dict[Joined, None] = {}
        self.splicer = make_splicer()
        self._reactor = reactor
        self._retry_seconds = retry_seconds
        self._connect = connect
        self._retry: IDelayedCall | None = None
        self._probes: dict[Target, Deferred[Any]] = {}

    def buildProtocol(self, addr: Any) -> Side:
        return Joined(self).client

    def start(self) -> None:
        """Begin to look after endpoints that failed."""
        self._retry = self._reactor.callLater(self._retry_seconds, self._try_failed)

    def stop(self) -> None:
        """End everything."""
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        for probe in list(self._probes.values()):
            probe.cancel()
        for each in list(self.joined):
            each.abort()
        if self.splicer is not None:
            self.splicer.close()
            self.splicer = None

    def connect(self, target: Target, protocol: Protocol) -> Deferred[Any]:
        """Connect this protocol to an endpoint."""
        made: Any = Factory.forProtocol(lambda: protocol)
        made.noisy = False
        connected: Deferred[Any] = self._connect(target.service).connect(made)
        return connected

    def failed(self, target: Target, reason: str) -> None:
        """An endpoint does not take connections."""
        if target.active:
            target.active = False
            log.warn(
                "deactivated endpoint",
                address=target.address,
                interval=f"{self._retry_seconds:g}s",
                error=reason,
            )

    def _try_failed(self) -> None:
        self.start()
        for each in self.targets.inactive:
            if each not in self._probes:  # one that does not answer may take longer than a delay
                self._try_again(each)

    def _try_again(self, target: Target) -> None:
        def works(probe: Any) -> None:
            del self._probes[target]
            probe.transport.loseConnection()
            target.active = True
            log.info("activated", address=target.address)

        def does_not(failure: Failure) -> None:
            del self._probes[target]
            if failure.check(CancelledError):
                return
            log.warn(
                "failed to activate endpoint (stay inactive for another interval)",
                address=target.address,
                interval=f"{self._retry_seconds:g}s",
                error=failure.getErrorMessage(),
            )

        probing = self.connect(target, Protocol())
        self._probes[target] = probing
        probing.addCallbacks(works, does_not)
