"""Connections through the gateway, on loopback."""

from __future__ import annotations

import errno
import hashlib
import random
from typing import Any

from twisted.internet import reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectBindError
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from etcdtw.dns.srv import Service
from etcdtw.proxy.gateway import Gateway, by_name
from etcdtw.proxy.targets import Target, Targets

_reactor: Any = reactor
BYTES = 10 << 20


@implementer(IHalfCloseableProtocol)
class End(Protocol):
    """Either end of what the gateway joins."""

    def __init__(self) -> None:
        self.heard = hashlib.sha256()
        self.size = 0
        self.half_closed: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.answer = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard.update(data)
        self.size += len(data)

    def readConnectionLost(self) -> None:
        self.half_closed.callback(None)
        transport: Any = self.transport
        if self.answer:
            transport.write(self.answer)
        transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class GatewayCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.ends: list[End] = []

    def listen(self, port: int = 0) -> Any:
        """A server whose connections are in ``ends``."""

        def build() -> End:
            self.ends.append(End())
            return self.ends[-1]

        made: Any = Factory.forProtocol(build)
        listening = _reactor.listenTCP(port, made, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        return listening

    def start(self, *ports: int, retry_seconds: float = 60.0) -> Gateway:
        services = [Service("127.0.0.1", port) for port in ports]
        targets = Targets(services, random.Random(1))
        gateway = Gateway(_reactor, targets, retry_seconds, by_name(_reactor))
        gateway.start()
        self.listening = _reactor.listenTCP(0, gateway, interface="127.0.0.1")
        self.addCleanup(gateway.stop)
        self.addCleanup(self.listening.stopListening)
        return gateway

    async def call(self) -> End:
        made: Any = Factory.forProtocol(End)
        endpoint = TCP4ClientEndpoint(_reactor, "127.0.0.1", self.listening.getHost().port)
        connected: Any = await endpoint.connect(made)
        self.addCleanup(connected.transport.abortConnection)
        end: End = connected
        return end

    async def until(self, condition: Any) -> None:
        for _ in range(500):
            if condition():
                return
            await deferLater(_reactor, 0.01, lambda: None)
        self.fail("it did not come to that")


class PassingTests(GatewayCase):
    async def test_bytes(self) -> None:
        """GW1, GW3: any bytes, both ways, however many; and the half that is closed."""
        self.start(self.listen().getHost().port)
        for splicing in (True, False):
            gateway: Gateway = self.listening.factory
            if not splicing and gateway.splicer is not None:
                gateway.splicer.close()
                gateway.splicer = None
            client: Any = await self.call()
            await self.until(lambda: self.ends)
            server = self.ends.pop()
            there, back = random.randbytes(BYTES), random.randbytes(BYTES)
            server.answer = back
            client.transport.write(there)
            client.transport.loseWriteConnection()
            await server.half_closed
            self.assertEqual(server.heard.digest(), hashlib.sha256(there).digest())
            await client.lost
            self.assertEqual(client.heard.digest(), hashlib.sha256(back).digest())
            await server.lost

    async def test_back_pressure(self) -> None:
        """Who does not read holds up who sends, and the gateway keeps little."""
        self.start(self.listen().getHost().port)
        client: Any = await self.call()
        await self.until(lambda: self.ends)
        server: Any = self.ends.pop()
        server.transport.pauseProducing()
        client.transport.write(b"x" * (32 << 20))
        await deferLater(_reactor, 0.5, lambda: None)
        gateway: Gateway = self.listening.factory
        (joined,) = gateway.joined
        assert joined._server is not None, "it is joined"
        held = joined._server.transport
        assert isinstance(held, FileDescriptor), held
        self.assertLess(len(held.dataBuffer) + held._tempDataLen, 1 << 20)
        self.assertGreater(len(client.transport.dataBuffer), 1 << 20)
        server.transport.resumeProducing()
        await self.until(lambda: server.size == 32 << 20)

    async def test_ends(self) -> None:
        """When one side is gone so is the other, whichever it is."""
        self.start(self.listen().getHost().port)
        for end_of in ("client", "server"):
            client: Any = await self.call()
            await self.until(lambda: self.ends)
            server: Any = self.ends.pop()
            gone, left = (client, server) if end_of == "client" else (server, client)
            gone.transport.abortConnection()
            await left.lost
        gateway: Gateway = self.listening.factory
        await self.until(lambda: not gateway.joined)

    async def test_vanished(self) -> None:
        """The system looks whether either side is still there."""
        self.start(self.listen().getHost().port)
        await self.call()
        await self.until(lambda: self.ends)
        gateway: Gateway = self.listening.factory
        (joined,) = gateway.joined
        assert joined._server is not None, "the server has been called"
        for side in (joined.client, joined._server):
            self.assertTrue(side._transport().getTcpKeepAlive())

    async def test_each_its_own(self) -> None:
        """GW11, GW12: many clients, as many connections; one endpoint after the other."""
        ports = [self.listen().getHost().port for _ in range(3)]
        self.start(*ports)
        clients = [await self.call() for _ in range(60)]
        await self.until(lambda: len(self.ends) == 60)
        found = [each.transport.getHost().port for each in self.ends]  # type: ignore[union-attr]
        self.assertEqual([found.count(port) for port in ports], [20, 20, 20])
        self.assertEqual(len(clients), 60)


class FailureTests(GatewayCase):
    async def test_hidden(self) -> None:
        """GW5, GW6: an endpoint that refuses is passed over, and not asked again for a while."""
        dead = self.listen()
        port = dead.getHost().port
        await dead.stopListening()
        gateway = self.start(port, self.listen().getHost().port)
        for _ in range(4):
            client: Any = await self.call()
            client.transport.write(b"x")
        await self.until(lambda: len(self.ends) == 4 and all(each.size for each in self.ends))
        self.assertEqual([each.service.port for each in gateway.targets.inactive], [port])

    async def test_none_left(self) -> None:
        """GW7: nobody there: closed at once."""
        dead = self.listen()
        port = dead.getHost().port
        await dead.stopListening()
        self.start(port)
        client = await self.call()
        await client.lost

    async def test_recovered(self) -> None:
        """GW24, GW26: after the delay it is tried, and used again."""
        dead = self.listen()
        port = dead.getHost().port
        await dead.stopListening()
        gateway = self.start(port, retry_seconds=0.2)
        await (await self.call()).lost
        self.assertEqual(len(gateway.targets.inactive), 1)
        await deferLater(_reactor, 0.3, lambda: None)
        self.assertEqual(len(gateway.targets.inactive), 1)
        self.listen(port)
        await self.until(lambda: not gateway.targets.inactive)
        self.ends.clear()
        client: Any = await self.call()
        client.transport.write(b"x")
        await self.until(lambda: any(each.size for each in self.ends))

    async def test_no_descriptors(self) -> None:
        """A gateway that may open nothing more turns this client away, and blames no endpoint."""
        gateway = self.start(self.listen().getHost().port)
        connect = gateway.connect
        failing = [fail(ConnectBindError(errno.EMFILE, "Too many open files"))]
        self.patch(gateway, "connect", lambda *all: failing.pop() if failing else connect(*all))
        await (await self.call()).lost
        self.assertEqual(gateway.targets.inactive, [])
        client: Any = await self.call()
        client.transport.write(b"x")
        await self.until(lambda: any(each.size for each in self.ends))

    async def test_silent(self) -> None:
        """An endpoint that does not answer is tried once at a time, however short the delay."""
        gateway = self.start(1, retry_seconds=0.01)
        (target,) = gateway.targets._all
        target.active = False
        asked: list[Target] = []

        def connect(target: Target, protocol: Protocol) -> Deferred[Any]:
            asked.append(target)
            return Deferred()

        self.patch(gateway, "connect", connect)
        await deferLater(_reactor, 0.2, lambda: None)
        self.assertEqual(asked, [target])
