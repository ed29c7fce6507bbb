"""What comes on one connection is handled in turns, so that others get theirs."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.http2.frames import DATA, END_STREAM, frame, reset_frame
from etcdtw.rpc.call import MESSAGES_AT_ONCE, StreamCall, UnaryCall
from etcdtw.rpc.connection import TURN_BYTES, TURN_SECONDS
from etcdtw.rpc.router import Router
from tests.rpc.wire import Wire, message

STREAM = "/test.Echo/Stream"
SLOW = "/test.Echo/Slow"
SECONDS_EACH = 0.0005
PER_TURN_MAX = MESSAGES_AT_ONCE + TURN_SECONDS / SECONDS_EACH


class TurnTests(SynchronousTestCase):
    """One read that holds far more than one turn's work."""

    def setUp(self) -> None:
        self.events: list[object] = []
        router = Router()
        router.add_stream(STREAM, self._begin)
        router.add_unary(SLOW, self._answer)
        self.wire = Wire(router)

    def _begin(self, call: StreamCall) -> None:
        def received(body: bytes) -> None:
            self.events.append(body)
            self.wire.clock.rightNow += SECONDS_EACH

        call.on_message = received
        call.on_half_close = lambda: self.events.append("half-closed")
        call.on_cancel = lambda: self.events.append("cancelled")

    def _answer(self, call: UnaryCall, body: bytes) -> None:
        self.events.append(body)
        self.wire.clock.rightNow += SECONDS_EACH
        call.reply(body)

    @property
    def _is_read(self) -> bool:
        return self.wire.transport.producerState == "producing"

    def _turns(self) -> list[int]:
        """How many events each turn brought, until nothing waits."""
        found = [len(self.events)]
        while not self._is_read:
            before = len(self.events)
            call = self.wire.clock.calls.pop(0)
            call.called = 1
            call.func()
            found.append(len(self.events) - before)
        return found

    def test_messages_of_one_frame(self) -> None:
        """Thousands of small messages in one frame take several turns, in their order, and nothing
        is read meanwhile; the client's end of the stream comes behind them."""
        stream_id = self.wire.begin(STREAM)
        bodies = [b"%d" % each for each in range(1500)]
        self.wire.send(frame(DATA, END_STREAM, stream_id, b"".join(map(message, bodies))))
        self.assertLess(max(self._turns()), PER_TURN_MAX)
        self.assertEqual(self.events, [*bodies, "half-closed"])

    def test_small_frames(self) -> None:
        """So do thousands of small frames, and what comes behind them, however little, waits."""
        stream_id = self.wire.begin(STREAM)
        bodies = [b"%04d" % each for each in range(3000)]
        data = b"".join(frame(DATA, 0, stream_id, message(each)) for each in bodies)
        self.wire.send(data[:-5])
        self.wire.send(data[-5:])
        self.assertLess(max(self._turns()), TURN_BYTES / 18 + PER_TURN_MAX)
        self.assertEqual(self.events, bodies)

    def test_requests(self) -> None:
        """So do requests; each is answered."""
        first = self.wire.call(SLOW, b"first")
        self.wire.send(b"".join(self.wire.request(SLOW, b"x") for _ in range(1, 2000)))
        turns = self._turns()
        self.assertGreater(len(turns), 5)
        self.assertLess(max(turns), 200)
        self.assertEqual(len(self.events), 2000)
        for each in range(2000):
            self.assertEqual(self.wire.answer(first + 2 * each).status, (0, ""))

    def test_given_up(self) -> None:
        """A stream that the client resets meanwhile hears no more."""
        stream_id = self.wire.begin(STREAM)
        many = frame(DATA, 0, stream_id, message(b"") * 3000)
        self.wire.send(many + reset_frame(stream_id, 8))
        before = self._turns()
        self.assertEqual(self.events[-1], "cancelled")
        self.assertLess(sum(before), 3000)

    def test_lost(self) -> None:
        """Nothing is handled once the connection is gone, and no timer stays."""
        stream_id = self.wire.begin(STREAM)
        self.wire.send(frame(DATA, 0, stream_id, message(b"") * 3000))
        self.wire.lose()
        before = len(self.events)
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])
        self.assertLess(before, PER_TURN_MAX + 1)

    def test_not_taken_answers(self) -> None:
        """A connection that is not read because its client takes no answers stays so when what came
        before has been handled."""
        wire = self.wire
        stream_id = wire.begin(STREAM)
        output = wire.protocol._grpc._output  # type: ignore[union-attr]
        wire.send(frame(DATA, 0, stream_id, message(b"") * 1000))
        wire.transport.fill()
        output.write(bytes(17 << 20))
        for _ in range(100):
            wire.clock.advance(0)
        self.assertEqual(len(self.events), 1000)
        self.assertFalse(self._is_read)
        wire.transport.drain()
        self.assertTrue(self._is_read)
