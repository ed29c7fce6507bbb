"""Unary calls from frames to handlers and back."""

from __future__ import annotations

import gzip
from functools import partial

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import EmptyKey, StatusError
from etcdtw.http2.frames import DATA, END_STREAM, RST_STREAM, ErrorCode, frame
from etcdtw.rpc.call import UnaryCall
from etcdtw.rpc.connection import TURN_BYTES
from etcdtw.rpc.health import Health
from etcdtw.rpc.router import Method, Router
from etcdtw.rpc.settings import ServerSettings
from tests.rpc.wire import Wire, message

ECHO = "/test.Echo/Unary"
LATER = "/test.Echo/Later"
FAIL = "/test.Echo/Fail"
STREAM = "/test.Echo/Stream"


class UnaryTests(SynchronousTestCase):
    """One request, one answer."""

    def setUp(self) -> None:
        self.calls: list[UnaryCall] = []
        self.cancelled: list[int] = []
        self.router = Router()
        self.router.add_unary(ECHO, lambda call, body: call.reply(body))
        self.router.add_unary(LATER, self._later)
        self.router.add_unary(FAIL, self._fail)
        self.wire = Wire(self.router)

    def _later(self, call: UnaryCall, body: bytes) -> None:
        call.on_cancel = lambda: self.cancelled.append(call.stream_id)
        self.calls.append(call)

    def _fail(self, call: UnaryCall, body: bytes) -> None:
        raise EmptyKey

    def test_reply(self) -> None:
        """The answer is headers, one message and a status of 0; again once headers are indexed."""
        for _ in range(3):
            answer = self.wire.answer(self.wire.call(ECHO, b"hello"))
            self.assertEqual(answer.headers, {":status": "200", "content-type": "application/grpc"})
            self.assertEqual(answer.messages, [b"hello"])
            self.assertEqual(answer.status, (0, ""))
            self.assertTrue(answer.ended)

    def test_fail(self) -> None:
        """An EtcdError that a handler raises is the answer, in headers that end the stream."""
        answer = self.wire.answer(self.wire.call(FAIL))
        self.assertEqual(answer.status, (3, "etcdserver: key is not provided"))
        self.assertEqual(answer.headers["content-type"], "application/grpc")
        self.assertEqual((answer.messages, answer.ended), ([], True))

    def test_needs_leader(self) -> None:
        """Who asks for a member with a leader is refused by one without."""
        wanting = ("hasleader", "true")
        for has_leader, extra, code in (
            *((True, (wanting,), 0), (False, (wanting,), 14), (False, (), 0)),
            (False, (("hasleader", "no"),), 0),
        ):
            self.router.has_leader = partial(bool, has_leader)
            answer = self.wire.answer(self.wire.call(ECHO, b"x", *extra))
            self.assertEqual(answer.status[0], code)

    def test_times(self) -> None:
        """A router that is given a clock knows how long calls took, however they ended, streams
        included; one without knows nothing."""
        self.assertIsNone(self.method(self.router, ECHO).times)
        clock = Clock()
        router = Router(clock.seconds)
        router.add_unary(ECHO, lambda call, body: call.reply(body))
        router.add_unary(LATER, self._later)
        router.add_unary(FAIL, self._fail)
        router.add_stream(STREAM, lambda call: None)
        wire = Wire(router, clock=clock)
        for path in (ECHO, FAIL):
            wire.answer(wire.call(path, b"x"))
        for _ in range(3):
            wire.call(LATER, b"x")
        wire.begin(STREAM)
        clock.advance(0.3)
        answered, failed, _ = self.calls
        answered.reply(b"")
        failed.fail(EmptyKey())
        clock.advance(0.3)
        wire.lose()
        found = {}
        for path in (ECHO, FAIL, LATER, STREAM):
            times = self.method(router, path).times
            assert times is not None, f"{path} is not timed"
            found[path] = times.histogram
        for path in (ECHO, FAIL):
            self.assertEqual((found[path].counts[0], found[path].total), (1, 0))
        self.assertEqual((sum(found[LATER].counts), found[LATER].counts[6]), (3, 2))
        self.assertAlmostEqual(found[LATER].total, 1.2)
        self.assertAlmostEqual(found[STREAM].total, 0.6)

    def method(self, router: Router, path: str) -> Method:
        found = router.find(path)
        assert isinstance(found, Method)
        return found

    def test_fail_after_ok(self) -> None:
        """Errors between successes do not disturb the peer's header table."""
        for path, code in ((ECHO, 0), (FAIL, 3), (ECHO, 0), (FAIL, 3), (ECHO, 0)):
            self.assertEqual(self.wire.answer(self.wire.call(path)).status[0], code)

    def test_message_text(self) -> None:
        """Error texts are percent-encoded UTF-8."""

        def refuse(call: UnaryCall, body: bytes) -> None:
            call.fail(StatusError(5, "100% ✓\n"))  # type: ignore[arg-type]

        self.router.add_unary("/test.Echo/Text", refuse)
        answer = self.wire.answer(self.wire.call("/test.Echo/Text"))
        self.assertEqual(answer.status, (5, "100%25 %E2%9C%93%0A"))

    def test_later(self) -> None:
        """An answer may come in another turn and is written in the reactor's next one."""
        stream_id = self.wire.call(LATER)
        self.assertFalse(self.wire.answer(stream_id).headers)
        self.calls[0].reply(b"now")
        self.assertTrue(self.calls[0].done)
        self.wire.clock.advance(0)
        self.assertEqual(self.wire.answer(stream_id).messages, [b"now"])
        self.assertEqual(self.cancelled, [])

    def test_flusher(self) -> None:
        """Whoever answers a batch flushes it: one write for all answers of a connection."""
        ids = [self.wire.call(LATER) for _ in range(5)]
        before = self.wire.transport.writes
        for call in self.calls:
            call.reply(b"x")
        self.wire.factory.flusher.flush()
        self.assertEqual(self.wire.transport.writes, before + 1)
        self.assertEqual([self.wire.answer(each).messages for each in ids], [[b"x"]] * 5)

    def test_one_write_per_read(self) -> None:
        """Everything that a read leads to is written once."""
        before = self.wire.transport.writes
        self.wire.send(b"".join(self.wire.request(ECHO, b"x") for _ in range(20)))
        self.assertEqual(self.wire.transport.writes, before + 1)

    def test_handler_that_breaks(self) -> None:
        """What a broken request has led to on other connections is written all the same."""

        def breaks(call: UnaryCall, body: bytes) -> None:
            self.calls[0].reply(b"x")
            raise RuntimeError

        self.router.add_unary("/test.Echo/Broken", breaks)
        stream_id = self.wire.call(LATER)
        for bodies in (b"", b"x" * TURN_BYTES):
            self.calls.clear()
            stream_id = self.wire.call(LATER)
            other = Wire(self.router, factory=self.wire.factory)
            self.assertRaises(RuntimeError, other.call, "/test.Echo/Broken", bodies)
            self.assertEqual(self.wire.answer(stream_id).messages, [b"x"])

    def test_answer_counts_once(self) -> None:
        """The second answer to a call is ignored."""
        self.wire.call(LATER)
        call = self.calls[0]
        call.reply(b"first")
        call.reply(b"second")
        call.fail(EmptyKey())
        self.wire.clock.advance(0)
        self.assertEqual(self.wire.answer(1).messages, [b"first"])

    def test_cancel(self) -> None:
        """A reset calls on_cancel once; answers after it go nowhere."""
        stream_id = self.wire.call(LATER)
        reset = frame(RST_STREAM, 0, stream_id, bytes(4))
        self.wire.send(reset + reset)
        self.assertEqual(self.cancelled, [stream_id])
        self.assertTrue(self.calls[0].done)
        self.calls[0].reply(b"late")
        self.wire.clock.advance(1)
        self.assertFalse(self.wire.answer(stream_id).headers)

    def test_connection_lost(self) -> None:
        """The end of the connection cancels what is under way, and leaves no timer."""
        self.wire.call(LATER, b"", ("grpc-timeout", "1S"))
        self.wire.call(LATER)
        self.wire.lose()
        self.assertEqual(self.cancelled, [1, 3])
        self.calls[0].reply(b"late")
        self.wire.clock.advance(0)
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_deadline(self) -> None:
        """A call without an answer at its deadline is cancelled and answered so."""
        stream_id = self.wire.call(LATER, b"", ("grpc-timeout", "1500m"))
        self.assertEqual(self.calls[0].deadline, self.wire.clock.seconds() + 1.5)
        self.wire.clock.pump([0.1] * 14)
        self.assertEqual(self.cancelled, [])
        self.wire.clock.pump([0.1] * 3)
        self.assertEqual(self.cancelled, [stream_id])
        self.assertEqual(self.wire.answer(stream_id).status[1], "context deadline exceeded")
        self.wire.lose()
        self.assertEqual(self.cancelled, [stream_id])

    def test_deadline_in_the_past(self) -> None:
        """A call whose time is up on arrival reaches no handler."""
        stream_id = self.wire.call(LATER, b"", ("grpc-timeout", "0n"))
        self.assertEqual(self.calls, [])
        self.assertEqual(self.wire.answer(stream_id).status[1], "context deadline exceeded")

    def test_bad_timeout(self) -> None:
        """A timeout that is none resets the stream, as grpc-go does."""
        for text in ("", "S", "1", "1x", "123456789S", "-1S", "+1S", "1_0S", "1.5S"):
            answer = self.wire.answer(self.wire.call(ECHO, b"", ("grpc-timeout", text)))
            self.assertEqual(answer.reset, ErrorCode.PROTOCOL_ERROR)

    def test_call_facts(self) -> None:
        """A call knows its metadata, its method and where it comes from."""
        self.wire.call(LATER, b"", ("token", "abc"), ("token", "def"), ("grpc-timeout", "1S"))
        call = self.calls[0]
        self.assertEqual(call.metadata, {"token": "abc"})
        self.assertEqual(call.peer, "10.0.0.9:4242")
        self.assertEqual(call.method.path, LATER)
        self.assertIs(call.transport, self.wire.transport)

    def test_pieces(self) -> None:
        """A request in several DATA frames is served once its message is whole."""
        stream_id = self.wire.begin(ECHO)
        body = message(b"hello")
        for at in range(len(body) - 1):
            self.wire.send(frame(DATA, 0, stream_id, body[at : at + 1]))
        self.assertFalse(self.wire.answer(stream_id).headers)
        self.wire.send(frame(DATA, END_STREAM, stream_id, body[-1:]))
        self.assertEqual(self.wire.answer(stream_id).messages, [b"hello"])

    def test_answer_before_the_end(self) -> None:
        """A client that does not end its stream gets its answer, and is asked to stop."""
        stream_id = self.wire.begin(ECHO)
        self.wire.send(frame(DATA, 0, stream_id, message(b"hello")))
        answer = self.wire.answer(stream_id)
        self.assertEqual((answer.messages, answer.reset), ([b"hello"], 0))

    def test_second_message_is_ignored(self) -> None:
        """A unary method takes the first message."""
        stream_id = self.wire.begin(ECHO)
        self.wire.send(frame(DATA, END_STREAM, stream_id, message(b"one") + message(b"two")))
        self.assertEqual(self.wire.answer(stream_id).messages, [b"one"])

    def test_counters(self) -> None:
        """Methods count what started, how it ended and the bytes of messages."""
        self.wire.call(ECHO, b"12345")
        self.wire.call(FAIL, b"123")
        self.wire.call(LATER)
        self.wire.send(frame(RST_STREAM, 0, 5, bytes(4)))
        by_path = {method.path: method for method in self.router.methods()}
        echo = by_path[ECHO]
        self.assertEqual((echo.started, echo.handled[0]), (1, 1))
        self.assertEqual((echo.received_bytes, echo.sent_bytes), (5, 5))
        self.assertEqual((echo.service, echo.name, echo.kind), ("test.Echo", "Unary", "unary"))
        self.assertEqual(by_path[FAIL].handled[3], 1)
        self.assertEqual(by_path[LATER].handled[1], 1)


class RefusalTests(SynchronousTestCase):
    """Requests that reach no handler, with grpc-go's codes and texts."""

    def setUp(self) -> None:
        self.router = Router()
        self.router.add_unary(ECHO, lambda call, body: call.reply(body))
        self.wire = Wire(self.router, ServerSettings(max_receive_bytes=20_000))

    def _status(self, path: str, data: bytes, *extra: tuple[str, str]) -> tuple[int, str]:
        stream_id = self.wire.begin(path, *extra)
        for at in range(0, len(data), 10_000):
            if not self.wire.answer(stream_id).headers:
                self.wire.send(frame(DATA, 0, stream_id, data[at : at + 10_000]))
        if not self.wire.answer(stream_id).headers:
            self.wire.send(frame(DATA, END_STREAM, stream_id))
        answer = self.wire.answer(stream_id)
        self.assertTrue(answer.ended)
        return answer.status

    def test_unknown(self) -> None:
        """Unknown services and methods are told apart; a path without both is malformed."""
        good = message(b"")
        self.assertEqual(self._status("/no.Such/X", good), (12, "unknown service no.Such"))
        text = "unknown method X for service test.Echo"
        self.assertEqual(self._status("/test.Echo/X", good), (12, text))
        for path in ("/X", "/"):
            self.assertEqual(self._status(path, good), (8, f'malformed method name: "{path}"'))

    def test_too_large(self) -> None:
        """A message above the bound is refused when its length is read; one at it is served."""
        self.assertEqual(self._status(ECHO, message(bytes(20_000))), (0, ""))
        text = "grpc: received message larger than max (20001 vs. 20000)"
        self.assertEqual(self._status(ECHO, message(bytes(20_001))[:10]), (8, text))
        self.wire = Wire(self.router, ServerSettings(max_receive_bytes=3))
        answer = self.wire.answer(self.wire.call(ECHO, b"four"))
        self.assertEqual(answer.status, (8, "grpc: received message larger than max (4 vs. 3)"))

    def test_incomplete(self) -> None:
        """A stream that ends inside or before its message is told so."""
        self.assertEqual(self._status(ECHO, b""), (2, "EOF"))
        self.assertEqual(self._status(ECHO, b"\0\0"), (2, "unexpected EOF"))
        self.assertEqual(self._status(ECHO, message(b"abc")[:-1]), (2, "unexpected EOF"))
        answer = self.wire.answer(self.wire.begin(ECHO, end=True))
        self.assertEqual(answer.status, (2, "EOF"))

    def test_compression(self) -> None:
        """gzip is understood; the flag without an encoding, and other encodings, are refused."""
        packed = gzip.compress(b"hello")
        framed = b"\1" + len(packed).to_bytes(4, "big") + packed
        self.assertEqual(self._status(ECHO, framed, ("grpc-encoding", "gzip")), (0, ""))
        text = "grpc: compressed flag set with identity or empty encoding"
        self.assertEqual(self._status(ECHO, framed), (13, text))
        self.assertEqual(self._status(ECHO, framed, ("grpc-encoding", "identity")), (13, text))
        text = 'grpc: Decompressor is not installed for grpc-encoding "br"'
        self.assertEqual(self._status(ECHO, message(b""), ("grpc-encoding", "br")), (12, text))
        broken = b"\1" + message(b"no gzip")[1:]
        self.assertEqual(self._status(ECHO, broken, ("grpc-encoding", "gzip"))[0], 13)
        cut = b"\1" + message(packed[:-9])[1:]
        self.assertEqual(self._status(ECHO, cut, ("grpc-encoding", "gzip"))[0], 13)

    def test_compression_bomb(self) -> None:
        """A compressed message may not expand beyond the bound."""
        packed = gzip.compress(bytes(1_000_000))
        framed = b"\1" + message(packed)[1:]
        self.assertEqual(self._status(ECHO, framed, ("grpc-encoding", "gzip"))[0], 8)

    def test_payload_format(self) -> None:
        """A flag other than 0 and 1 is refused."""
        text = "grpc: received unexpected payload format 2"
        self.assertEqual(self._status(ECHO, b"\2\0\0\0\0"), (13, text))

    def test_bad_message(self) -> None:
        """Bytes that are no message of the method's type are the client's fault."""
        Health(self.router)
        status = self._status("/grpc.health.v1.Health/Check", message(b"\x0a\x09x"))
        self.assertEqual(status[0], 13)
        self.assertIn("error unmarshalling request", status[1])

    def test_http(self) -> None:
        """What is not gRPC gets an HTTP status: 415 for the content type, 405 for the method."""
        data = self.wire.headers(ECHO, end=True)
        for old, new, status in (
            (("content-type", "application/grpc"), ("content-type", "text/html"), "415"),
            (("content-type", "application/grpc"), ("x", "y"), "415"),
            (("content-type", "application/grpc"), ("content-type", "application/grpc-web"), "415"),
            ((":method", "POST"), (":method", "GET"), "405"),
        ):
            wire = _Altered(self.router, old, new)
            answer = wire.answer(wire.call(ECHO))
            self.assertEqual(answer.headers[":status"], status)
            self.assertTrue(answer.ended)
        for value in ("application/grpc+proto", "application/grpc;x=1"):
            wire = _Altered(
                self.router, ("content-type", "application/grpc"), ("content-type", value)
            )
            self.assertEqual(wire.answer(wire.call(ECHO)).status, (0, ""))
        self.assertTrue(data)

    def test_too_many_incomplete(self) -> None:
        """Incomplete messages of one connection together stay within a bound."""
        settings = ServerSettings(max_receive_bytes=10_000, partial_request_bytes=20_000)
        wire = Wire(self.router, settings)
        ids = [wire.begin(ECHO) for _ in range(3)]
        for stream_id in ids:
            wire.send(frame(DATA, 0, stream_id, message(bytes(9_000))[:-1]))
        self.assertFalse(wire.answer(ids[0]).headers)
        self.assertEqual(wire.answer(ids[2]).status[0], 8)
        wire.send(frame(DATA, END_STREAM, ids[0], b"\0"))
        self.assertEqual(wire.answer(ids[0]).status, (0, ""))
        wire.send(frame(RST_STREAM, 0, ids[1], bytes(4)))
        grpc = wire.protocol._grpc
        assert grpc is not None
        self.assertEqual(grpc.partial_bytes, 0)

    def test_faulty_bytes_are_not_counted(self) -> None:
        """Messages that are refused leave no trace in that sum."""
        self.router.add_stream(STREAM, lambda call: None)
        grpc = self.wire.protocol._grpc
        assert grpc is not None
        for path in (ECHO, STREAM):
            for pieces in ([b"\2" + bytes(99)], [b"\0\0", b"\xff\0\0\0x"]):
                stream_id = self.wire.begin(path)
                for piece in pieces:
                    self.wire.send(frame(DATA, 0, stream_id, piece))
                self.assertTrue(self.wire.answer(stream_id).ended)
                self.assertEqual(grpc.partial_bytes, 0)

    def test_one_large_incomplete(self) -> None:
        """That bound is never below one message of the size that is allowed."""
        settings = ServerSettings(max_receive_bytes=30_000, partial_request_bytes=20_000)
        wire = Wire(self.router, settings)
        stream_id = wire.begin(ECHO)
        body = message(bytes(29_000))
        for start in range(0, len(body), 10_000):
            piece = body[start : start + 10_000]
            ended = start + 10_000 >= len(body)
            wire.send(frame(DATA, END_STREAM if ended else 0, stream_id, piece))
        self.assertEqual(wire.answer(stream_id).status, (0, ""))


class _Altered(Wire):
    """Sends one header field as another."""

    def __init__(self, router: Router, old: tuple[str, str], new: tuple[str, str]) -> None:
        super().__init__(router)
        encode = self._encoder.encode
        self._encoder.encode = lambda fields: encode(  # type: ignore[method-assign]
            [new if each == old else each for each in fields]
        )
