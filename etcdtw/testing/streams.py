"""A simulated network of byte streams: what runs on Twisted's transports runs on it unchanged.

Bytes of one direction arrive in order, cut anywhere, each piece a little later; links can be cut
(nothing arrives, nobody is told) and connections reset. Everything follows from the clock and the
dice that are handed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from random import Random
from typing import Any

from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

HIGH_WATER_BYTES = 64 * 1024
"""A sender with more than this under way is told to pause."""

CONNECT_SECONDS = 5.0


class StreamNetwork:
    """Hosts by name. ``delay_seconds`` bounds what a piece takes, ``piece_bytes_max`` its size."""

    def __init__(
        self,
        clock: IReactorTime,
        dice: Random,
        delay_seconds: tuple[float, float] = (0.0001, 0.001),
        piece_bytes_max: int = 0,
    ) -> None:
        self.clock = clock
        self._dice = dice
        self._delay = delay_seconds
        self._piece_bytes_max = piece_bytes_max
        self._listening: dict[tuple[str, int], IProtocolFactory] = {}
        self._cut: set[tuple[str, str]] = set()
        self._held: set[str] = set()
        self._lives: dict[str, int] = {}
        self._connections: dict[_Connection, None] = {}

    # --- what hosts do ---------------------------------------------------------------------------

    def listen(self, host: str, port: int, factory: IProtocolFactory) -> None:
        assert (host, port) not in self._listening, f"{host}:{port} is taken"
        self._listening[host, port] = factory

    def stop_listening(self, host: str, port: int) -> None:
        """New connections are refused; those there are go on."""
        del self._listening[host, port]

    def endpoint(self, origin: str, host: str, port: int) -> IStreamClientEndpoint:
        """How ``origin`` reaches a port."""
        return _Endpoint(self, origin, host, port)

    # --- what happens to them --------------------------------------------------------------------

    def cut(self, sender: str, receiver: str) -> None:
        """Nothing gets from one to the other any more; what is sent meanwhile waits."""
        self._cut.add((sender, receiver))

    def separate(self, one: str, other: str) -> None:
        """Cut both ways."""
        self.cut(one, other)
        self.cut(other, one)

    def mend(self, link: tuple[str, str] | None = None) -> None:
        """A link (None: all) works again, and brings what waited."""
        if link is None:
            self._cut.clear()
        else:
            self._cut.discard(link)
        for connection in list(self._connections):
            connection.carry_on()

    def hold(self, host: str) -> None:
        """The process behind a host reads nothing more, though its connections stay."""
        self._held.add(host)

    def release(self, host: str) -> None:
        """It reads again, and gets what has waited."""
        self._held.discard(host)
        for connection in list(self._connections):
            connection.carry_on()

    def set_delay(self, least: float, most: float) -> None:
        """Seconds that a piece takes from now on."""
        self._delay = (least, most)

    def vanish(self, host: str) -> None:
        """The process behind a host is gone: nothing of it runs any more, others see resets."""
        self._lives[host] = self._lives.get(host, 0) + 1
        for name, port in [each for each in self._listening if each[0] == host]:
            self.stop_listening(name, port)
        for connection in list(self._connections):
            for end in connection.ends:
                if end.here == host:
                    end.vanish()

    def reset(self, host: str) -> None:
        """All connections of a host end, without a goodbye; what was under way is lost."""
        for connection in list(self._connections):
            if host in connection.hosts:
                connection.reset()

    def is_cut(self, sender: str, receiver: str) -> bool:
        return (sender, receiver) in self._cut

    def brings(self, sender: str, receiver: str) -> bool:
        """Whether bytes get from one to the other, and are read there."""
        return receiver not in self._held and (sender, receiver) not in self._cut

    # --- for connections -------------------------------------------------------------------------

    def connect(
        self, origin: str, host: str, port: int, factory: IProtocolFactory
    ) -> Deferred[IProtocol]:
        calls: list[IDelayedCall] = []
        attempt: Deferred[IProtocol] = Deferred(lambda _: calls[-1].cancel())

        life = self._lives.get(origin)

        def arrive() -> None:
            if self._lives.get(origin) != life:
                return  # nobody is there to be connected
            listening = self._listening.get((host, port))
            if self.is_cut(origin, host) or self.is_cut(host, origin):
                calls.append(self.clock.callLater(CONNECT_SECONDS, fail, ConnectTimeout()))
            elif listening is None:
                fail(ConnectionRefusedError())
            else:
                self._join(origin, host, factory, listening, attempt)

        def fail(reason: Exception) -> None:
            if self._lives.get(origin) == life:
                attempt.errback(Failure(reason))

        calls.append(self.clock.callLater(self.delay(), arrive))
        return attempt

    def _join(
        self,
        origin: str,
        host: str,
        factory: IProtocolFactory,
        listening: IProtocolFactory,
        attempt: Deferred[IProtocol],
    ) -> None:
        caller = factory.buildProtocol(_address(host))
        called = listening.buildProtocol(_address(origin))
        if caller is None or called is None:
            attempt.errback(Failure(ConnectionRefusedError()))
            return
        connection = _Connection(self, (origin, host), (caller, called))
        self._connections[connection] = None
        called.makeConnection(connection.ends[1])
        caller.makeConnection(connection.ends[0])
        attempt.callback(caller)

    def delay(self) -> float:
        return self._dice.uniform(*self._delay)

    def pieces(self, data: bytes) -> list[bytes]:
        """The data as the network cuts it."""
        most = self._piece_bytes_max
        if not most:
            return [data]
        found = []
        while data:
            size = self._dice.randint(1, most)
            found.append(data[:size])
            data = data[size:]
        return found

    def forget(self, connection: _Connection) -> None:
        self._connections.pop(connection, None)


def _address(host: str) -> IAddress:
    return HostnameAddress(host.encode(), 0)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, network: StreamNetwork, origin: str, host: str, port: int) -> None:
        self._network = network
        self._origin = origin
        self._host = host
        self._port = port

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return self._network.connect(self._origin, self._host, self._port, protocolFactory)


class _Connection:
    """Two ends and what is under way between them."""

    def __init__(
        self,
        network: StreamNetwork,
        hosts: tuple[str, str],
        protocols: tuple[IProtocol, IProtocol],
    ) -> None:
        self.network = network
        self.hosts = hosts
        self.ends = (
            SimTransport(self, hosts[0], hosts[1], protocols[0]),
            SimTransport(self, hosts[1], hosts[0], protocols[1]),
        )
        self.ends[0].other, self.ends[1].other = self.ends[1], self.ends[0]

    def carry_on(self) -> None:
        for end in self.ends:
            end.deliver_soon()

    def reset(self) -> None:
        for end in self.ends:
            end.lost(ConnectionLost())

    def end_was_lost(self) -> None:
        if all(end.is_lost for end in self.ends):
            self.network.forget(self)


@implementer(ITransport)
class SimTransport:
    """One end, as protocols use it."""

    other: SimTransport

    def __init__(self, connection: _Connection, here: str, there: str, protocol: IProtocol) -> None:
        self._connection = connection
        self._network = connection.network
        self.here = here
        self._there = there
        self._protocol = protocol
        self._under_way: deque[bytes | None] = deque()  # to the other end; None ends the stream
        self._under_way_bytes = 0
        self._delivery: IDelayedCall | None = None
        self._producer: Any = None
        self._producer_paused = False
        self._reading = True
        self.disconnecting = False
        self.is_lost = False

    # --- what protocols call ---------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self.is_lost or self.disconnecting or not data:
            return
        for piece in self._network.pieces(data):
            self._under_way.append(piece)
        self._under_way_bytes += len(data)
        self.deliver_soon()
        is_full = self._under_way_bytes > HIGH_WATER_BYTES
        if is_full and self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if self._producer is None and not self.disconnecting and not self.is_lost:
            self._under_way.append(None)
            self.deliver_soon()
        self.disconnecting = True

    def abortConnection(self) -> None:
        if not self.is_lost:
            other = self.other
            self._network.clock.callLater(0, self.lost, ConnectionLost())
            if not self._network.is_cut(self.here, self._there):
                self._network.clock.callLater(self._network.delay(), other.lost, ConnectionLost())

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming, "only push producers are simulated"
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None
        if self.disconnecting and not self.is_lost:
            self._under_way.append(None)
            self.deliver_soon()

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        self._reading = True
        self.other.deliver_soon()

    def stopProducing(self) -> None:
        self.loseConnection()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """There is no such delay here."""

    def getPeer(self) -> IAddress:
        return _address(self._there)

    def getHost(self) -> IAddress:
        return _address(self.here)

    # --- what the network does -------------------------------------------------------------------

    def deliver_soon(self) -> None:
        if self._under_way and self._delivery is None:
            self._delivery = self._network.clock.callLater(self._network.delay(), self._deliver)

    def _deliver(self) -> None:
        """Bring one piece to the other end."""
        self._delivery = None
        other = self.other
        if not self._network.brings(self.here, self._there):
            return
        if other.is_lost or not (other._reading or self._under_way[0] is None):
            return
        piece = self._under_way.popleft()
        if piece is None:
            other.lost(ConnectionDone())
            self.lost(ConnectionDone())
            return
        self._under_way_bytes -= len(piece)
        other._protocol.dataReceived(piece)
        if self._producer_paused and self._under_way_bytes <= HIGH_WATER_BYTES // 2:
            self._producer_paused = False
            if self._producer is not None:
                self._producer.resumeProducing()
        self.deliver_soon()

    def lost(self, reason: Exception) -> None:
        if not self.is_lost:
            self._end()
            self._protocol.connectionLost(Failure(reason))

    def vanish(self) -> None:
        if not self.is_lost:
            self._end()
            self._network.clock.callLater(self._network.delay(), self.other.lost, ConnectionLost())

    def _end(self) -> None:
        self.is_lost = True
        self._under_way.clear()
        if self._delivery is not None and self._delivery.active():
            self._delivery.cancel()
        self._connection.end_was_lost()
