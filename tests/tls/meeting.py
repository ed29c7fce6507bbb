"""Two sides of TLS that meet in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump, connect

from etcdtw.tls.contexts import FileContexts
from etcdtw.tls.interfaces import ITLSContextFactory, TLSSettings
from etcdtw.tls.transport import SecureEndpoint, secure_listening

CALLER = "127.0.0.1"


class NoLookups(AssertionError):
    """DNS was asked, and the test has none."""


def no_lookups() -> Any:
    raise NoLookups


def contexts(side: str = "peer", resolver: Any = None, **settings: Any) -> FileContexts:
    """TLS by files; DNS only if there is a resolver."""
    make = no_lookups if resolver is None else lambda: resolver
    return FileContexts(TLSSettings(side=side, **settings), None, make)


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None, "data came from somewhere"
        self.transport.write(data)


class Caller(Protocol):
    """Says hello, and keeps what comes back."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None, "it is connected"
        self.transport.write(b"hello")

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class _FakeEndpoint:
    def __init__(self, address: IPv4Address) -> None:
        self._address = address
        self.protocol: Any = None

    def connect(self, factory: Any) -> Deferred[Any]:
        self.protocol = factory.buildProtocol(self._address)
        return Deferred()


@dataclass
class Meeting:
    """How it went: what the caller heard, why each side refused the other (empty: it did not)."""

    caller: Caller
    clock: Clock
    pump: IOPump
    served: Any
    calling: Any
    rejected: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def heard(self) -> bytes:
        return self.caller.heard


def meet(
    serving: ITLSContextFactory,
    calling: ITLSContextFactory,
    *,
    called: str = "localhost",
    address: str = CALLER,
) -> Meeting:
    """``calling`` calls ``called`` from ``address``."""
    clock = Clock()
    rejected: list[str] = []
    listening = secure_listening(
        serving,
        Factory.forProtocol(Echo),
        clock,
        lambda _, reason: rejected.append(reason),
        clock.seconds,
    )
    listening.doStart()
    server = listening.buildProtocol(IPv4Address("TCP", address, 40000))
    caller = Caller()
    endpoint: Any = _FakeEndpoint(IPv4Address("TCP", "127.0.0.1", 2379))
    made: Any = Factory.forProtocol(lambda: caller)
    connected = SecureEndpoint(calling, called, endpoint, clock).connect(made)
    refused: list[str] = []
    connected.addErrback(lambda failure: refused.append(failure.getErrorMessage()))
    there = FakeTransport(server, isServer=True, peerAddress=IPv4Address("TCP", address, 40000))
    here = FakeTransport(endpoint.protocol, isServer=False)
    pump = connect(server, there, endpoint.protocol, here)
    pump.flush()
    return Meeting(caller, clock, pump, server, connected, rejected, refused)
