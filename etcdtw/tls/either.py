"""One port for plain and for TLS connections, told apart by their first byte."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from etcdtw.tls.transport import HANDSHAKE_SECONDS

_HANDSHAKE_RECORD = b"\x16"
"""What TLS begins with; neither HTTP/1 nor HTTP/2 does."""


class EitherFactory(Factory):
    """Accepts what ``plain`` or ``secure`` then serves."""

    noisy = False

    def __init__(self, plain: Any, secure: Any, clock: IReactorTime) -> None:
        self._plain = plain
        self._secure = secure
        self._clock = clock

    def buildProtocol(self, addr: Any) -> Protocol:
        return _Undecided(self._plain, self._secure, addr, self._clock)


class _Undecided(Protocol):
    """A connection that has said nothing yet; who serves it takes its place at the transport."""

    def __init__(self, plain: Any, secure: Any, address: Any, clock: IReactorTime) -> None:
        self._plain = plain
        self._secure = secure
        self._address = address
        self._clock = clock
        self._timeout: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._timeout = self._clock.callLater(HANDSHAKE_SECONDS, self._too_late)

    def dataReceived(self, data: bytes) -> None:
        self._stop_timeout()
        transport: Any = self.transport
        factory = self._secure if data.startswith(_HANDSHAKE_RECORD) else self._plain
        serving = factory.buildProtocol(self._address)
        if serving is None:
            transport.abortConnection()
            return
        transport.protocol = serving
        serving.makeConnection(transport)
        serving.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_timeout()

    def _too_late(self) -> None:
        self._timeout = None
        transport: Any = self.transport
        transport.abortConnection()

    def _stop_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
