"""The simulated network of byte streams."""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.testing.streams import CONNECT_SECONDS, HIGH_WATER_BYTES, StreamNetwork
from etcdtw.testing.time import VirtualTime


class Recorder(Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.pieces = 0
        self.lost: list[type] = []
        self.paused: list[bool] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self.pieces += 1

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        assert reason.type is not None
        self.lost.append(reason.type)

    def pauseProducing(self) -> None:
        self.paused.append(True)

    def resumeProducing(self) -> None:
        self.paused.append(False)


class StreamNetworkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = VirtualTime(1)
        self.network = StreamNetwork(self.time.view(), random.Random(1), piece_bytes_max=5)
        self.called: list[Recorder] = []
        factory = Factory()
        factory.buildProtocol = self.build  # type: ignore[method-assign, assignment]
        self.network.listen("server", 1, factory)

    def build(self, _: object) -> Recorder:
        self.called.append(Recorder())
        return self.called[-1]

    def connect(self, port: int = 1) -> Deferred[IProtocol]:
        endpoint = self.network.endpoint("client", "server", port)
        return endpoint.connect(Factory.forProtocol(Recorder))

    def connected(self) -> tuple[Recorder, Recorder]:
        waiting = self.connect()
        self.time.run_until_idle()
        caller = self.successResultOf(waiting)
        assert isinstance(caller, Recorder)
        return caller, self.called[-1]

    @staticmethod
    def write(protocol: Recorder, data: bytes) -> None:
        assert protocol.transport is not None
        protocol.transport.write(data)

    def test_both_ways(self) -> None:
        """Bytes arrive in order, in other pieces than they were written in."""
        caller, called = self.connected()
        data = bytes(range(100))
        self.write(caller, data[:50])
        self.write(caller, data[50:])
        self.write(called, b"answer")
        self.time.run_until_idle()
        self.assertEqual((called.data, caller.data), (data, b"answer"))
        self.assertGreater(called.pieces, 20)

    def test_nobody_listens(self) -> None:
        """Connecting to a port that nobody has is refused."""
        waiting = self.connect(2)
        self.time.run_until_idle()
        self.failureResultOf(waiting, ConnectionRefusedError)

    def test_close(self) -> None:
        """What was written before the end arrives before it."""
        caller, called = self.connected()
        self.write(caller, b"last words")
        assert caller.transport is not None
        caller.transport.loseConnection()
        self.time.run_until_idle()
        self.assertEqual((called.data, called.lost), (b"last words", [ConnectionDone]))
        self.assertEqual(caller.lost, [ConnectionDone])

    def test_reset(self) -> None:
        """A reset ends both sides at once, and what was under way is gone."""
        caller, called = self.connected()
        self.write(caller, b"lost words")
        self.network.reset("server")
        self.time.run_until_idle()
        self.assertEqual((called.data, called.lost, caller.lost),
                         (b"", [ConnectionLost], [ConnectionLost]))  # fmt: skip

    def test_cut(self) -> None:
        """Over a cut link nothing arrives; when it is mended everything does."""
        caller, called = self.connected()
        self.network.cut("client", "server")
        self.write(caller, b"question")
        self.write(called, b"answer")
        self.time.run_until_idle()
        self.assertEqual((called.data, caller.data), (b"", b"answer"))
        self.network.mend()
        self.time.run_until_idle()
        self.assertEqual(called.data, b"question")

    def test_held(self) -> None:
        """A host that does not read gets everything when it does; what it has sent arrives."""
        caller, called = self.connected()
        self.network.hold("server")
        self.write(caller, b"question")
        self.write(called, b"answer")
        self.time.run_until_idle()
        self.assertEqual((called.data, caller.data), (b"", b"answer"))
        self.network.release("server")
        self.time.run_until_idle()
        self.assertEqual(called.data, b"question")

    def test_connect_over_a_cut(self) -> None:
        """Nor can anybody connect over it."""
        self.network.separate("client", "server")
        waiting = self.connect()
        self.time.run_until(CONNECT_SECONDS - 0.1)
        self.assertNoResult(waiting)
        self.time.run_until_idle()
        self.failureResultOf(waiting, ConnectTimeout)

    def test_back_pressure(self) -> None:
        """A reader that pauses makes its writer's producer pause."""
        caller, called = self.connected()
        self.network._piece_bytes_max = 1000
        assert caller.transport is not None and called.transport is not None
        caller.transport.registerProducer(caller, True)  # type: ignore[attr-defined]
        called.transport.pauseProducing()  # type: ignore[attr-defined]
        self.write(caller, bytes(HIGH_WATER_BYTES + 1))
        self.time.run_until_idle()
        self.assertEqual((caller.paused, called.data), ([True], b""))
        called.transport.resumeProducing()  # type: ignore[attr-defined]
        self.time.run_until_idle()
        self.assertEqual((caller.paused, len(called.data)), ([True, False], HIGH_WATER_BYTES + 1))

    def test_same_seed(self) -> None:
        """The same dice give the same pieces at the same times."""
        runs = []
        for _ in range(2):
            self.setUp()
            caller, called = self.connected()
            self.write(caller, bytes(1000))
            self.time.run_until_idle()
            runs.append((called.pieces, self.time.now))
        self.assertEqual(runs[0], runs[1])
