"""Streaming calls, back-pressure and health."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import EmptyKey, Stopped
from etcdtw.http2.frames import DATA, END_STREAM, RST_STREAM, frame, window_update_frame
from etcdtw.pb import health_pb2
from etcdtw.rpc import connection
from etcdtw.rpc.call import StreamCall, UnaryCall
from etcdtw.rpc.health import Health
from etcdtw.rpc.router import Router
from etcdtw.rpc.settings import ServerSettings
from tests.rpc.wire import Wire, message

STREAM = "/test.Echo/Stream"
BIG = "/test.Echo/Big"


class StreamTests(SynchronousTestCase):
    """Messages both ways on one stream."""

    def setUp(self) -> None:
        self.events: list[object] = []
        self.calls: list[StreamCall] = []
        router = self.router = Router()
        router.add_stream(STREAM, self._begin)
        self.wire = Wire(router)

    def _begin(self, call: StreamCall) -> None:
        self.calls.append(call)
        call.on_message = self.events.append
        call.on_half_close = lambda: self.events.append("half-closed")
        call.on_cancel = lambda: self.events.append("cancelled")
        call.on_writable = lambda: self.events.append("writable")

    def test_conversation(self) -> None:
        """Messages come one by one, in any cut; the end of the client's side is told."""
        stream_id = self.wire.begin(STREAM)
        data = message(b"one") + message(b"") + message(b"three")
        for byte in data:
            self.wire.send(frame(DATA, 0, stream_id, bytes((byte,))))
        self.wire.send(frame(DATA, END_STREAM, stream_id))
        self.assertEqual(self.events, [b"one", b"", b"three", "half-closed"])
        call = self.calls[0]
        call.send(b"a")
        call.send_shared(b"pre", b"shared")
        call.send_each([b"1", b"", b"333"], b"body")
        call.finish()
        call.send_each([b"ignored"], b"")
        call.send(b"ignored")
        call.finish()
        self.wire.clock.advance(0)
        answer = self.wire.answer(stream_id)
        self.assertEqual(answer.messages, [b"a", b"preshared", b"1body", b"body", b"333body"])
        self.assertEqual(answer.status, (0, ""))
        self.assertTrue(answer.ended)
        method = call.method
        self.assertEqual((method.sent, method.sent_bytes), (5, 1 + 9 + 5 + 4 + 7))

    def test_messages_in_one_piece(self) -> None:
        """More than a frame holds is cut into frames."""
        stream_id = self.wire.begin(STREAM)
        prefixes = [b"%d" % each for each in range(300)]
        self.calls[0].send_each(prefixes, bytes(1000))
        self.calls[0].finish()
        self.wire.clock.advance(0)
        answer = self.wire.answer(stream_id)
        self.assertEqual(answer.messages, [each + bytes(1000) for each in prefixes])
        self.assertTrue(answer.ended)

    def test_lasting(self) -> None:
        """When a life of the member ends, its calls end, but for those of lasting methods."""
        unanswered: list[UnaryCall] = []

        def keep(call: UnaryCall, body: bytes) -> None:
            call.on_cancel = lambda: self.events.append("given up")
            unanswered.append(call)

        self.router.add_unary("/test.Echo/Unary", keep)
        self.router.add_stream("/test.Echo/Lasting", self._begin, lasting=True)
        lasting, other = self.wire.begin("/test.Echo/Lasting"), self.wire.begin(STREAM)
        unary = self.wire.call("/test.Echo/Unary", b"x")
        self.wire.factory.end_calls(Stopped())
        self.wire.clock.advance(0)
        self.assertEqual(self.wire.answer(other).status, (14, str(Stopped())))
        self.assertEqual(self.wire.answer(unary).status, (14, str(Stopped())))
        self.assertEqual(self.events, ["cancelled", "given up"])
        unanswered[0].reply(b"too late")
        self.assertEqual([each.done for each in self.calls], [False, True])
        self.calls[0].send(b"more")
        self.wire.clock.advance(0)
        self.assertEqual(self.wire.answer(lasting).messages, [b"more"])

    def test_one_request(self) -> None:
        """A method with one request gets no second one, and none is an error in grpc-go's words."""
        path = "/test.Echo/Answers"
        self.router.add_stream(path, self._begin, "server_stream")
        stream_id = self.wire.begin(path)
        self.wire.send(frame(DATA, END_STREAM, stream_id, message(b"one") + message(b"two")))
        self.assertEqual(self.events, [b"one"])
        without = self.wire.begin(path)
        self.wire.send(frame(DATA, END_STREAM, without))
        self.wire.clock.advance(0)
        self.assertEqual(self.wire.answer(without).status, (2, "EOF"))
        self.assertFalse(self.wire.answer(stream_id).ended)

    def test_in_one_piece(self) -> None:
        """A stream whose one message comes with its headers works the same."""
        self.wire.call(STREAM, b"x")
        self.assertEqual(self.events, [b"x", "half-closed"])

    def test_error_without_message(self) -> None:
        """An error before anything was sent comes in headers that end the stream."""
        stream_id = self.wire.begin(STREAM)
        self.calls[0].finish(EmptyKey())
        self.wire.clock.advance(0)
        answer = self.wire.answer(stream_id)
        self.assertEqual(answer.status[0], 3)
        self.assertEqual((answer.trailers, answer.reset), ({}, 0))

    def test_error_after_message(self) -> None:
        """An error after messages comes in trailers."""
        stream_id = self.wire.begin(STREAM)
        self.calls[0].send(b"x")
        self.calls[0].finish(EmptyKey())
        self.wire.clock.advance(0)
        answer = self.wire.answer(stream_id)
        self.assertEqual((answer.messages, answer.status[0]), ([b"x"], 3))
        self.assertNotIn("grpc-status", answer.headers)

    def test_handler_raises(self) -> None:
        """EtcdError from the handler or a callback ends the call with it."""

        def refuse(body: bytes) -> None:
            raise EmptyKey

        stream_id = self.wire.begin(STREAM)
        self.calls[0].on_message = refuse
        self.wire.send(frame(DATA, 0, stream_id, message(b"x") + message(b"y")))
        self.assertEqual(self.wire.answer(stream_id).status[0], 3)
        self.router.add_stream("/test.Echo/Never", lambda call: refuse(b""))
        self.assertEqual(self.wire.answer(self.wire.call("/test.Echo/Never")).status[0], 3)

    def test_cancel(self) -> None:
        """A reset cancels; so does the end of the connection; each once."""
        first = self.wire.begin(STREAM)
        self.wire.begin(STREAM)
        self.wire.send(frame(RST_STREAM, 0, first, bytes(4)))
        self.assertEqual(self.events, ["cancelled"])
        self.calls[0].send(b"late")
        self.wire.lose()
        self.assertEqual(self.events, ["cancelled", "cancelled"])

    def test_deadline(self) -> None:
        """A stream with a deadline ends at it."""
        stream_id = self.wire.begin(STREAM, ("grpc-timeout", "1S"))
        self.wire.clock.pump([0.1] * 12)
        self.assertEqual(self.events, ["cancelled"])
        self.assertTrue(self.wire.answer(stream_id).ended)

    def test_cut_message(self) -> None:
        """A stream that ends inside a message is Internal, and cancelled."""
        stream_id = self.wire.begin(STREAM)
        self.wire.send(frame(DATA, END_STREAM, stream_id, b"\0\0"))
        self.assertEqual(self.wire.answer(stream_id).status, (13, "unexpected EOF"))
        self.assertEqual(self.events, ["cancelled"])

    def test_trailers_end_the_request(self) -> None:
        """Trailers of the client are the end of its side."""
        stream_id = self.wire.begin(STREAM)
        block = self.wire._encoder.encode((("x", "y"),))
        self.wire.send(frame(1, 5, stream_id, block))
        self.assertEqual(self.events, ["half-closed"])

    def test_flow_control(self) -> None:
        """A client that does not open its window makes the stream unwritable until it does."""
        stream_id = self.wire.begin(STREAM)
        call = self.calls[0]
        self.assertTrue(call.writable)
        for _ in range(20):
            call.send(bytes(60_000))
            self.wire.clock.advance(0)
        self.assertEqual(call.queued_bytes, 20 * 60_005 - (1 << 20))
        self.assertFalse(call.writable)
        self.wire.clock.advance(1)
        self.assertEqual(self.events, [])
        self.wire.send(window_update_frame(stream_id, 1 << 20))
        self.wire.clock.advance(0)
        self.assertEqual(self.events, ["writable"])
        self.assertEqual(call.queued_bytes, 0)
        self.assertTrue(call.writable)
        self.assertEqual(len(self.wire.answer(stream_id).messages), 20)

    def test_another_ones_window(self) -> None:
        """What one stream's window holds back, however much, lets the others go on."""
        self.wire = Wire(self.router, window=0)
        self.wire.begin(STREAM)
        other = self.wire.begin(STREAM)
        self.wire.send(window_update_frame(other, 1 << 20))
        for call in self.calls:
            call.send_headers()
        self.wire.clock.advance(0)
        self.calls[0].send(bytes(300_000))
        self.wire.clock.advance(0)
        self.assertTrue(self.calls[1].writable)

    def test_held_back_at_once(self) -> None:
        """Also where a read has led to nothing that could be written."""
        self.wire = Wire(self.router, window=0)
        stream_id = self.wire.begin(STREAM)
        self.wire.begin(STREAM)
        self.calls[0].send_headers()
        self.wire.clock.advance(0)
        self.calls[0].on_message = lambda body: self.calls[0].send(bytes(300_000))
        self.wire.send(frame(DATA, 0, stream_id, message(b"")))
        self.assertTrue(self.calls[1].writable)

    def test_given_up_while_held_back(self) -> None:
        """Calls that are gone are not waited for to become writable."""
        grpc = self.wire.protocol._grpc
        assert grpc is not None
        for ends in (
            lambda stream_id: frame(RST_STREAM, 0, stream_id, bytes(4)),
            lambda stream_id: window_update_frame(stream_id, 2 << 20),
        ):
            stream_id = self.wire.begin(STREAM)
            call = self.calls[-1]
            call.send(bytes(2 << 20))
            self.wire.clock.advance(0)
            self.assertFalse(call.writable)
            self.wire.send(frame(DATA, END_STREAM, stream_id, b"\2\0\0\0\0"))
            self.wire.send(ends(stream_id))
            self.wire.clock.advance(0)
            self.assertTrue(call.done)
            self.assertFalse(grpc._stalled)

    def test_full_transport(self) -> None:
        """A client that does not read makes streams unwritable until the transport drains."""
        stream_id = self.wire.begin(STREAM)
        self.wire.read()
        call = self.calls[0]
        self.wire.transport.fill()
        call.send(b"held")
        self.assertFalse(call.writable)
        self.wire.clock.advance(1)
        self.assertEqual(self.wire.transport.value(), b"")
        self.assertEqual(self.events, [])
        self.wire.transport.drain()
        self.wire.clock.advance(0)
        self.assertEqual(self.events, ["writable"])
        self.assertEqual(self.wire.answer(stream_id).messages, [b"held"])

    def test_one_turn(self) -> None:
        """What a stream sends within one turn is bounded by writable."""
        self.wire = Wire(self.router, window=(1 << 31) - 1)
        self.wire.begin(STREAM)
        call = self.calls[-1]
        sent = 0
        while call.writable:
            call.send(bytes(10_000))
            sent += 10_000
        self.assertLess(sent, 300_000)
        self.wire.clock.advance(0)
        self.wire.clock.advance(0)
        self.assertEqual(self.events, ["writable"])

    def test_finish_waits_for_data(self) -> None:
        """Trailers come behind data that flow control holds back."""
        self.wire = Wire(self.router, window=10)
        stream_id = self.wire.begin(STREAM)
        self.calls[0].send(bytes(20))
        self.calls[0].finish()
        self.wire.clock.advance(0)
        self.assertFalse(self.wire.answer(stream_id).ended)
        self.wire.send(window_update_frame(stream_id, 100))
        answer = self.wire.answer(stream_id)
        self.assertEqual((answer.messages, answer.status), ([bytes(20)], (0, "")))


class OverfullTests(SynchronousTestCase):
    """Answers that the client does not take."""

    def setUp(self) -> None:
        self.served = 0
        self.router = Router()
        self.router.add_unary(BIG, self._serve)
        self.settings = ServerSettings(queued_answer_bytes=100_000)

    def _serve(self, call: UnaryCall, body: bytes) -> None:
        self.served += 1
        call.reply(bytes(30_000))

    def test_reading_stops(self) -> None:
        """With too much unwritten the connection is not read, until the transport drains."""
        wire = Wire(self.router, self.settings)
        wire.transport.fill()
        for _ in range(4):
            self.assertEqual(wire.transport.producerState, "producing")
            wire.call(BIG)
        self.assertEqual(wire.transport.producerState, "paused")
        wire.transport.drain()
        self.assertEqual(wire.transport.producerState, "producing")
        self.assertEqual(len(wire.answer(7).messages), 1)

    def test_requests_wait_for_windows(self) -> None:
        """With too much held by flow control requests wait, while window updates are read."""
        wire = Wire(self.router, self.settings, window=0)
        ids = [wire.call(BIG) for _ in range(8)]
        self.assertEqual(self.served, 4)
        self.assertEqual(wire.transport.producerState, "producing")
        for _ in range(4):
            for stream_id in ids:
                answer = wire.answer(stream_id)
                if answer.headers and not answer.ended:
                    wire.send(window_update_frame(stream_id, 100_000))
            wire.clock.advance(0)
            wire.clock.advance(0)
        self.assertEqual(self.served, 8)
        self.assertTrue(all(wire.answer(stream_id).ended for stream_id in ids))

    def test_waiting_requests_are_few_bytes(self) -> None:
        """Large requests do not wait by the thousand: those beyond the bound may be tried again."""
        self.patch(connection, "HELD_REQUEST_BYTES_MAX", 50_000)
        wire = Wire(self.router, self.settings, window=0)
        for _ in range(4):
            wire.call(BIG)
        ids = [wire.call(BIG, bytes(16_000)) for _ in range(5)]
        resets = [wire.answer(stream_id).reset for stream_id in ids]
        self.assertEqual(resets, [None, None, None, 7, 7])
        for stream_id in range(1, 9, 2):
            wire.send(window_update_frame(stream_id, 100_000))
        wire.clock.advance(0)
        wire.clock.advance(0)
        self.assertEqual(self.served, 7)
        ids = [wire.call(BIG, bytes(16_000)) for _ in range(5)]
        resets = [wire.answer(stream_id).reset for stream_id in ids]
        self.assertEqual(resets.count(None), 4)

    def test_waiting_request_may_be_reset(self) -> None:
        """A request that is given up while it waits is never served."""
        wire = Wire(self.router, self.settings, window=0)
        ids = [wire.call(BIG) for _ in range(6)]
        for stream_id in ids:
            wire.send(frame(RST_STREAM, 0, stream_id, bytes(4)))
        wire.clock.advance(0)
        wire.clock.advance(0)
        self.assertEqual(self.served, 4)

    def test_one_read(self) -> None:
        """The bound holds within a single read of many requests, too."""
        wire = Wire(self.router, self.settings)
        requests = [wire.request(BIG, b"") for _ in range(20)]
        wire.send(b"".join(requests))
        self.assertEqual(self.served, 4)
        for _ in range(10):
            wire.clock.advance(0)
        self.assertEqual(self.served, 20)
        self.assertTrue(wire.answer(39).ended)


class HealthTests(SynchronousTestCase):
    """grpc.health.v1."""

    def setUp(self) -> None:
        router = Router()
        self.health = Health(router)
        self.wire = Wire(router)

    def _status(self, body: bytes) -> int:
        return health_pb2.HealthCheckResponse.FromString(body).status

    def test_check(self) -> None:
        """The empty service serves; others are not found."""
        answer = self.wire.answer(self.wire.call("/grpc.health.v1.Health/Check"))
        self.assertEqual(self._status(answer.messages[0]), 1)
        other = health_pb2.HealthCheckRequest(service="x").SerializeToString()
        answer = self.wire.answer(self.wire.call("/grpc.health.v1.Health/Check", other))
        self.assertEqual(answer.status, (5, "unknown service"))

    def test_watch(self) -> None:
        """Watchers learn the status and its changes; of other services that they are unknown."""
        stream_id = self.wire.call("/grpc.health.v1.Health/Watch")
        other = health_pb2.HealthCheckRequest(service="x").SerializeToString()
        unknown = self.wire.call("/grpc.health.v1.Health/Watch", other)
        self.health.set_serving(False)
        self.health.set_serving(False)
        self.health.set_serving(True)
        self.wire.clock.advance(0)
        got = [self._status(each) for each in self.wire.answer(stream_id).messages]
        self.assertEqual(got, [1, 2, 1])
        self.assertEqual(self._status(self.wire.answer(unknown).messages[0]), 3)
        self.wire.lose()
        self.health.set_serving(False)
