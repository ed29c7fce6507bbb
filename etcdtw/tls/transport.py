"""TLS connections on Twisted: who is let in, and endpoints that are reached only when the other
side has shown who it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from etcdtw.tls.direct import DirectWriter
from etcdtw.tls.interfaces import ITLSContextFactory, TLSRefused
from etcdtw.tls.records import RecordCounter
from etcdtw.tls.turns import HandshakeTurns

HANDSHAKE_SECONDS = 10.0
"""etcd's time for one, as a caller; here also for those who call."""

HANDSHAKES_MAX = 2_000
"""Under way on one port; more callers are turned away until some are done."""


HELD_BYTES = 1 << 16
"""Of a caller whose handshake waits for its turn; then nothing more is read from it."""

RECORD_BYTES = 1 << 14
OUTPUT_BYTES = 1 << 18
"""Taken from OpenSSL at once."""

log = Logger(namespace="etcdtw.tls")


class TlsProtocol(TLSMemoryBIOProtocol):
    """One connection. Handshakes take turns, writes go out at once, and OpenSSL is not asked for
    what it cannot have: its answer that there is nothing costs as much as a record."""

    verdict: Any = None

    def __init__(self, factory: Any, wrapped: Any, turns: HandshakeTurns | None = None) -> None:
        super().__init__(factory, wrapped)  # type: ignore[no-untyped-call]
        self._turns = turns
        # What came while an earlier part of the handshake waits for its turn.
        self._held = b""
        self._records = RecordCounter()

    def makeConnection(self, transport: Any) -> None:
        self._socket = transport
        self._write_out = DirectWriter(transport).write
        super().makeConnection(transport)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        if self._held:
            self._held += data
            if len(self._held) > HELD_BYTES:
                self._socket.pauseProducing()
        elif self._handshakeDone or self._turns is None:
            self._receive(data)
        else:
            self._held = data
            self._turns.run(self._handshake)

    def _handshake(self) -> None:
        data, self._held = self._held, b""
        self._socket.resumeProducing()
        if self.connected and not self._lostTLSConnection and not self._aborted:
            try:
                self._receive(data)
            except Exception:
                # What the reactor does where it has brought the data itself.
                log.failure("a connection is cut for what it received")
                self.abortConnection()  # type: ignore[no-untyped-call]

    def _receive(self, data: bytes) -> None:
        ended = self._records.count(data)
        is_plain = self._handshakeDone and not self._appSendBuffer and not self._lostTLSConnection
        if ended is None or not is_plain:
            super().dataReceived(data)  # type: ignore[no-untyped-call]
            return
        connection = self._tlsConnection
        connection.bio_write(data)
        for _ in range(ended):
            try:
                received = connection.recv(RECORD_BYTES)
            except WantReadError:
                # A record that was not the application's may want an answer.
                self._flushSendBIO()
                continue
            except ZeroReturnError:
                # OpenSSL says so again, and then Twisted ends the connection.
                self._flushReceiveBIO()  # type: ignore[no-untyped-call]
                return
            except Error:
                self._tlsShutdownFinished(Failure())  # type: ignore[no-untyped-call]
                return
            if not self._aborted:
                self.wrappedProtocol.dataReceived(received)
            if self._lostTLSConnection:
                return

    def _write(self, data: bytes) -> None:
        """All records first, then one write: Twisted would make one for each record."""
        if self._lostTLSConnection:
            return
        send = self._tlsConnection.send
        at = 0
        try:
            while at < len(data):
                at += send(data[at : at + RECORD_BYTES])
        except WantReadError:
            self._bufferedWrite(data[at:])  # type: ignore[no-untyped-call]
        except Error:
            self._tlsShutdownFinished(Failure())  # type: ignore[no-untyped-call]
            return
        self._flushSendBIO()

    def _shutdownTLS(self) -> None:
        """Nothing where the connection is gone, as with TCP: a stream is stopped, a timer runs out,
        whatever became of the connection meanwhile."""
        if self._tlsConnection is not None:
            super()._shutdownTLS()  # type: ignore[no-untyped-call]

    def _flushSendBIO(self) -> None:
        read = self._tlsConnection.bio_read
        while True:
            try:
                data = read(OUTPUT_BYTES)
            except WantReadError:
                return
            self._write_out(data)
            if len(data) < OUTPUT_BYTES:
                return


@implementer(IHandshakeListener)
class Doorkeeper(Protocol):
    """Stands in front of a protocol until the handshake is done and the caller admitted.

    Then ``open`` makes the protocol, which takes the place of this one. ``refused`` gets the
    reason otherwise.
    """

    def __init__(
        self,
        contexts: ITLSContextFactory,
        clock: IReactorTime,
        host: str,
        open: Callable[[], IProtocol | None],
        refused: Callable[[Any, str], None],
        opened: Callable[[IProtocol], None] = lambda _: None,
    ) -> None:
        """``host`` is the address of who calls; empty where this side calls. ``opened`` is told of
        the protocol when it is connected."""
        self._contexts = contexts
        self._clock = clock
        self._host = host
        self._open = open
        self._opened = opened
        self._refused: Callable[[Any, str], None] | None = refused
        self._timeout: IDelayedCall | None = None
        self._checking: Deferred[None] | None = None
        self._early: list[bytes] = []

    def connectionMade(self) -> None:
        self._timeout = self._clock.callLater(HANDSHAKE_SECONDS, self._too_late)

    def handshakeCompleted(self) -> None:
        try:
            checking = self._contexts.admit(self.transport, self._host)
        except TLSRefused as refusal:
            self._turn_away(str(refusal))
            return
        if checking is None:
            self._let_in()
            return
        self._checking = checking
        self._tls().transport.pauseProducing()
        checking.addCallbacks(self._checked, self._not_admitted)

    def dataReceived(self, data: bytes) -> None:
        self._early.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_timeout()
        if self._checking is not None:
            self._checking.cancel()
        if self._refused is not None:
            error = reason.value
            assert error is not None, "lost without a reason"
            plain = isinstance(error, ConnectionLost) or reason.check(type(connectionDone.value))
            self._tell("EOF" if plain else self._contexts.explain(self.transport, error))

    def give_up(self) -> None:
        """The connection is not wanted any more."""
        self._refused = None
        self._tls().abortConnection()

    def _checked(self, _: None) -> None:
        self._checking = None
        tls = self._tls()
        tls.transport.resumeProducing()
        self._let_in()

    def _not_admitted(self, failure: Failure) -> None:
        self._checking = None
        self._turn_away(failure.getErrorMessage())

    def _let_in(self) -> None:
        self._stop_timeout()
        self._refused = None
        tls = self._tls()
        inner: Any = self._open()
        if inner is None:
            tls.abortConnection()
            return
        tls.wrappedProtocol = inner
        inner.makeConnection(tls)
        self._opened(inner)
        for data in self._early:
            inner.dataReceived(data)

    def _too_late(self) -> None:
        self._timeout = None
        self._turn_away(f"the TLS handshake took longer than {HANDSHAKE_SECONDS:g} s")

    def _turn_away(self, reason: str) -> None:
        self._tell(reason)
        self._tls().abortConnection()

    def _tell(self, reason: str) -> None:
        self._stop_timeout()
        refused, self._refused = self._refused, None
        if refused is not None:
            refused(self.transport, reason)

    def _tls(self) -> Any:
        tls: Any = self.transport
        return tls

    def _stop_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None


class _Securing(TLSMemoryBIOFactory):
    """Makes connections whose doorkeepers come from a function, which knows more about each than
    a factory would."""

    def __init__(
        self,
        creator: Any,
        is_client: bool,
        make: Callable[[Any], Doorkeeper | None],
        clock: IReactorTime,
        turns: HandshakeTurns | None = None,
    ) -> None:
        super().__init__(creator, is_client, Factory(), clock)
        self._make = make
        self._turns = turns

    def buildProtocol(self, addr: Any) -> TlsProtocol | None:  # type: ignore[override]  # or none
        keeper = self._make(addr)
        return None if keeper is None else TlsProtocol(self, keeper, self._turns)


def secure_listening(
    contexts: ITLSContextFactory,
    factory: Any,
    clock: IReactorTime,
    rejected: Callable[[Any, str], None],
    meter: Callable[[], float] = time.thread_time,
) -> Any:
    """A factory for a listening port: callers who are let in meet protocols of ``factory``.

    ``rejected`` is told of the others, with their connection and the reason. ``meter`` tells how
    many seconds handshakes have cost.
    """
    underway = 0

    def ended() -> None:
        nonlocal underway
        underway -= 1

    def build(addr: Any) -> Doorkeeper | None:
        nonlocal underway
        if underway >= HANDSHAKES_MAX:
            return None
        underway += 1

        def open() -> IProtocol | None:
            ended()
            built: IProtocol | None = factory.buildProtocol(addr)
            return built

        def refused(connection: Any, reason: str) -> None:
            ended()
            rejected(connection, reason)

        return Doorkeeper(contexts, clock, plain_host(getattr(addr, "host", "")), open, refused)

    return _Securing(contexts, False, build, clock, HandshakeTurns(clock, meter))


@implementer(IStreamClientEndpoint)
class SecureEndpoint:
    """Reaches a host over TLS; connecting fails with :class:`TLSRefused` where the handshake does,
    or the certificate is not for the host."""

    def __init__(
        self,
        contexts: ITLSContextFactory,
        host: str,
        endpoint: IStreamClientEndpoint,
        clock: IReactorTime,
    ) -> None:
        self._contexts = contexts
        self._host = host
        self._endpoint = endpoint
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """The protocol, once the other side is known to be who it should be."""
        keeper: list[Doorkeeper] = []

        def cancel(_: Deferred[IProtocol]) -> None:
            connecting.cancel()
            for each in keeper:
                each.give_up()

        done: Deferred[IProtocol] = Deferred(cancel)

        def build(addr: Any) -> Doorkeeper:
            def open() -> IProtocol | None:
                return protocolFactory.buildProtocol(addr)

            def refused(connection: Any, reason: str) -> None:
                if not done.called:
                    done.errback(TLSRefused(reason))

            made = Doorkeeper(self._contexts, self._clock, "", open, refused, done.callback)
            keeper.append(made)
            return made

        wrapping = _Securing(self._contexts.calling(self._host), True, build, self._clock)

        def not_connected(failure: Failure) -> None:
            if not done.called:
                done.errback(failure)

        connecting = self._endpoint.connect(wrapping)
        connecting.addErrback(not_connected)
        return done


def plain_host(host: str) -> str:
    """An address as certificates and DNS have it: IPv4 not dressed up as IPv6."""
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)
