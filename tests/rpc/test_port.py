"""The port itself: which protocol, how long it waits, pings, and the end."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.static import Data

from etcdtw.http2.frames import ACK, PING, PREFACE, RST_STREAM, ErrorCode, frame, settings_frame
from etcdtw.rpc.call import StreamCall, UnaryCall
from etcdtw.rpc.keepalive import PingStrikes
from etcdtw.rpc.port import ClientPortFactory, peer_text
from etcdtw.rpc.router import Router
from etcdtw.rpc.settings import ServerSettings
from tests.rpc.wire import Pages, Wire, message

ECHO = "/test.Echo/Unary"
LATER = "/test.Echo/Later"
STREAM = "/test.Echo/Stream"
PING_FRAME = frame(PING, 0, 0, bytes(8))


class PortTestCase(SynchronousTestCase):
    """A router with one method of each sort."""

    def setUp(self) -> None:
        self.calls: list[UnaryCall] = []
        self.streams: list[StreamCall] = []
        self.router = Router()
        self.router.add_unary(ECHO, lambda call, body: call.reply(body))
        self.router.add_unary(LATER, lambda call, body: self.calls.append(call))
        self.router.add_stream(STREAM, self.streams.append)


class FirstBytesTests(PortTestCase):
    """HTTP/2 and HTTP/1.1 on one port."""

    def _site(self, clock: Clock) -> Pages:
        root = Resource()
        root.putChild(b"version", Data(b"here", "text/plain"))
        return Pages(root, reactor=clock)

    def _wire(self) -> Wire:
        clock = Clock()
        return Wire(self.router, site=self._site(clock), clock=clock, handshake=False)

    def test_http1(self) -> None:
        """Anything but HTTP/2's preface goes to the site, from the first byte on."""
        wire = self._wire()
        request = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
        for byte in request:
            wire.send(bytes((byte,)))
        self.assertIn(b"200 OK", wire.transport.value())
        self.assertTrue(wire.transport.value().endswith(b"here"))
        wire.send(request)
        self.assertEqual(wire.transport.value().count(b"200 OK"), 2)
        wire.lose()

    def test_method_that_begins_like_the_preface(self) -> None:
        """PRI as the start of some other request is HTTP/1.1."""
        wire = self._wire()
        wire.send(b"PRI * HT")
        self.assertEqual(wire.transport.value(), b"")
        wire.send(b"TP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(wire.transport.value().startswith(b"HTTP/1.1 "))
        wire.lose()

    def test_http2_byte_by_byte(self) -> None:
        """The preface may come in any cut."""
        wire = self._wire()
        for byte in PREFACE + settings_frame({}) + wire.request(ECHO, b"x"):
            wire.send(bytes((byte,)))
        self.assertEqual(wire.answer(1).messages, [b"x"])

    def test_no_site(self) -> None:
        """Without a site, HTTP/1.1 is cut off."""
        wire = Wire(self.router, handshake=False)
        wire.send(b"GET / HTTP/1.1\r\n\r\n")
        self.assertTrue(wire.transport.aborted)

    def test_peer_text(self) -> None:
        """Peers are written as address and port."""
        self.assertEqual(peer_text(Wire(self.router).transport.getPeer()), "10.0.0.9:4242")
        self.assertEqual(peer_text(None), "@")

    def test_slow_first_bytes(self) -> None:
        """Who sends no whole preface within 10 s is cut off; so is who stops behind it."""
        for first in (b"", b"PRI", PREFACE, PREFACE + settings_frame({})[:5]):
            wire = Wire(self.router, handshake=False)
            wire.send(first)
            wire.clock.advance(9.9)
            self.assertFalse(wire.transport.aborted)
            wire.clock.advance(0.2)
            self.assertTrue(wire.transport.aborted)
            wire.lose()
            self.assertEqual(wire.clock.getDelayedCalls(), [])
        wire = Wire(self.router)
        wire.clock.advance(60)
        self.assertFalse(wire.transport.aborted)


class FaultTests(PortTestCase):
    """Clients that break the protocol."""

    def test_goaway_then_close(self) -> None:
        """A fault is answered by GOAWAY that names it, then the connection ends."""
        wire = Wire(self.router)
        wire.call(LATER)
        wire.send(frame(PING, 0, 0, b"short"))
        wire.read()
        self.assertEqual(wire.goaways, [(1, ErrorCode.FRAME_SIZE_ERROR, b"PING of 5 bytes")])
        self.assertTrue(wire.transport.disconnecting)
        cancelled: list[int] = []
        self.calls[0].on_cancel = lambda: cancelled.append(1)
        wire.lose()
        self.assertEqual(cancelled, [1])
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_peer_that_does_not_read_the_end(self) -> None:
        """A connection that does not close in time is cut."""
        wire = Wire(self.router)
        wire.send(frame(PING, 0, 0, b"short"))
        wire.clock.advance(5)
        self.assertTrue(wire.transport.aborted)


class KeepaliveTests(PortTestCase):
    """Pings of clients and of the server."""

    def test_strikes(self) -> None:
        """Two pings that come too soon are forgiven, the third is not."""
        strikes = PingStrikes(5.0)
        got = [strikes.too_many(now, 1, False) for now in (0, 1, 2, 3)]
        self.assertEqual(got, [False, False, False, True])

    def test_patient_pings(self) -> None:
        """Pings at least the minimum apart are no strikes while a call is open."""
        strikes = PingStrikes(5.0)
        self.assertFalse(any(strikes.too_many(now, 1, False) for now in range(0, 500, 5)))

    def test_pings_without_calls(self) -> None:
        """Without open calls any ping within two hours is a strike."""
        strikes = PingStrikes(5.0)
        got = [strikes.too_many(now, 0, False) for now in (0, 60, 120, 180)]
        self.assertEqual(got, [False, False, False, True])

    def test_answers_forgive(self) -> None:
        """Strikes are forgotten whenever data or headers were sent in between."""
        strikes = PingStrikes(5.0)
        got = [strikes.too_many(now * 0.1, 1, now % 3 == 2) for now in range(30)]
        self.assertNotIn(True, got)

    def test_too_many_pings(self) -> None:
        """A client that pings too much is told so and sent away."""
        wire = Wire(self.router)
        wire.call(LATER)
        for _ in range(5):
            wire.send(PING_FRAME)
        wire.read()
        self.assertEqual(wire.goaways, [(1, ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings")])
        self.assertTrue(wire.transport.disconnecting)

    def test_pings_beside_data(self) -> None:
        """A client may ping with every answer it gets, as grpc-go does to measure bandwidth."""
        wire = Wire(self.router)
        for _ in range(50):
            wire.call(ECHO, b"x")
            wire.send(PING_FRAME)
        wire.read()
        self.assertEqual(wire.goaways, [])

    def test_idle_client_is_pinged(self) -> None:
        """A silent client is pinged after the interval and cut when it does not answer."""
        wire = Wire(self.router, ServerSettings(keepalive_interval=100, keepalive_timeout=20))
        wire.clock.advance(60)
        wire.call(ECHO)
        wire.clock.advance(60)
        wire.read()
        self.assertEqual(wire.pings, [])
        wire.clock.advance(40)
        wire.clock.advance(0)
        wire.read()
        self.assertEqual(len(wire.pings), 1)
        wire.clock.advance(10)
        wire.send(frame(PING, ACK, 0, wire.pings[0]))
        wire.clock.advance(10)
        self.assertFalse(wire.transport.aborted)
        wire.clock.advance(90)
        wire.clock.advance(0)
        wire.clock.advance(20)
        self.assertTrue(wire.transport.aborted)


class StopTests(PortTestCase):
    """The server stops."""

    def _stop(self, factory: ClientPortFactory) -> list[object]:
        stopped: list[object] = []
        factory.stop().addCallback(stopped.append)
        return stopped

    def test_without_clients(self) -> None:
        """Nothing to wait for."""
        self.assertEqual(self._stop(Wire(self.router, handshake=False).factory), [])
        factory = ClientPortFactory(self.router, None, ServerSettings(), Clock())
        self.assertEqual(self._stop(factory), [None])

    def test_drain(self) -> None:
        """Clients are told to go, streams end, unary calls get their answer, then it closes."""
        wire = Wire(self.router)
        unary = wire.call(LATER)
        stream = wire.begin(STREAM)
        cancelled: list[int] = []
        self.streams[0].on_cancel = lambda: cancelled.append(1)
        stopped = self._stop(wire.factory)
        wire.read()
        self.assertEqual(wire.goaways, [((1 << 31) - 1, 0, b"")])
        self.assertEqual(wire.answer(stream).status, (14, "etcdserver: server stopped"))
        self.assertEqual(cancelled, [1])
        late = wire.call(ECHO, b"under way")
        self.assertEqual(wire.answer(late).messages, [b"under way"])
        wire.send(frame(PING, ACK, 0, wire.pings[0]))
        wire.read()
        self.assertEqual(wire.goaways[1], (late, 0, b""))
        self.assertFalse(wire.answer(wire.call(ECHO)).headers)
        self.assertFalse(wire.transport.disconnecting)
        self.calls[0].reply(b"done")
        wire.clock.advance(0)
        self.assertEqual(wire.answer(unary).messages, [b"done"])
        self.assertTrue(wire.transport.disconnecting)
        self.assertEqual(stopped, [])
        wire.lose()
        self.assertEqual(stopped, [None])

    def test_abort(self) -> None:
        """A cut connection writes nothing more, not even what waits already."""
        wire = Wire(self.router)
        wire.call(LATER)
        fresh = Wire(self.router, factory=wire.factory, handshake=False)
        before = wire.transport.value()
        self.calls[0].reply(b"too late")
        wire.factory.abort()
        wire.clock.advance(0)
        self.assertEqual(wire.transport.value(), before)
        self.assertEqual((wire.transport.aborted, fresh.transport.aborted), (True, True))

    def test_silent_client(self) -> None:
        """A client that does not answer the drain's ping is drained after a second."""
        wire = Wire(self.router)
        self._stop(wire.factory)
        self.assertFalse(wire.transport.disconnecting)
        wire.clock.advance(1)
        wire.clock.advance(0)
        self.assertTrue(wire.transport.disconnecting)

    def test_hanging_call(self) -> None:
        """What has no answer when the drain timeout ends is cut."""
        wire = Wire(self.router)
        wire.call(LATER)
        self._stop(wire.factory)
        wire.clock.advance(1)
        wire.clock.advance(5.9)
        self.assertFalse(wire.transport.aborted or wire.transport.disconnecting)
        wire.clock.advance(0.2)
        self.assertTrue(wire.transport.aborted)

    def test_reset_while_draining(self) -> None:
        """The last call may also end by a reset."""
        wire = Wire(self.router)
        stream_id = wire.call(LATER)
        self._stop(wire.factory)
        wire.clock.advance(1)
        wire.send(frame(RST_STREAM, 0, stream_id, bytes(4)))
        self.assertTrue(wire.transport.disconnecting)

    def test_late_connection(self) -> None:
        """A connection that was accepted just before the stop is closed."""
        wire = Wire(self.router)
        self._stop(wire.factory)
        late = Wire(self.router, factory=wire.factory, clock=wire.clock, handshake=False)
        self.assertTrue(late.transport.disconnecting)

    def test_first_bytes_and_http1(self) -> None:
        """Connections without gRPC are closed at once."""
        site = Pages(Resource(), reactor=Clock())
        wire = Wire(self.router, site=site, handshake=False)
        wire.send(b"GET /")
        self._stop(wire.factory)
        self.assertTrue(wire.transport.disconnecting)
        wire.lose()


class UnusedTests(PortTestCase):
    """A connection leaves nothing behind."""

    def test_no_timer_survives(self) -> None:
        """Every timer of a connection ends with it."""
        wire = Wire(self.router)
        wire.call(LATER, b"", ("grpc-timeout", "10S"))
        wire.begin(STREAM)
        self.streams[0].send(message(b"x"))
        wire.lose()
        wire.clock.advance(0)
        self.assertEqual(wire.clock.getDelayedCalls(), [])
