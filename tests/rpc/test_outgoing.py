"""Calls to a server that is made of frames."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import Code, EtcdError
from etcdtw.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    ErrorCode,
    frame,
    settings_frame,
)
from etcdtw.http2.header_encoder import HeaderEncoder
from etcdtw.rpc.outgoing import OutgoingConnection, StreamOutgoing
from etcdtw.rpc.status import RESPONSE_HEADERS
from tests.http2.recorder import cut
from tests.rpc.wire import message


class _Receiver:
    """Writes down what comes, and gives the stream up at a message that says so."""

    stream: StreamOutgoing

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.ends: list[tuple[Code | None, bool]] = []

    def message_received(self, body: bytes) -> None:
        self.messages.append(body)
        if body == b"enough":
            self.stream.cancel()

    def stream_ended(self, error: EtcdError | None, answered: bool) -> None:
        self.ends.append((None if error is None else error.code, answered))


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.transport = StringTransport()
        self.connection = OutgoingConnection(Clock(), "here")
        self.connection.makeConnection(self.transport)
        self.receiver = _Receiver()
        self.receiver.stream = self.connection.stream("/a.B/C", {}, self.receiver)
        block = HeaderEncoder(lambda field: False).encode(RESPONSE_HEADERS)
        self.connection.dataReceived(settings_frame({}) + frame(HEADERS, END_HEADERS, 1, block))
        self.transport.clear()

    def test_given_up(self) -> None:
        """After a stream was given up nothing of it is heard, also of the same read."""
        bodies = b"".join(map(message, (b"one", b"enough", b"three")))
        self.connection.dataReceived(frame(DATA, END_STREAM, 1, bodies))
        self.assertEqual(self.receiver.messages, [b"one", b"enough"])
        self.assertEqual(self.receiver.ends, [])

    def test_no_status(self) -> None:
        """A stream that the server ends without a status is over on both sides."""
        self.connection.dataReceived(frame(DATA, END_STREAM, 1, message(b"last")))
        self.assertEqual(self.receiver.messages, [b"last"])
        self.assertEqual(self.receiver.ends, [(Code.INTERNAL, True)])
        reset = (RST_STREAM, 0, 1, ErrorCode.CANCEL.to_bytes(4, "big"))
        self.assertIn(reset, cut(self.transport.value()))
