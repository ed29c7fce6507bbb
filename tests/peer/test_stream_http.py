"""Endless answers from a peer."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.peer.stream_http import BadAnswer, ChunkDecoder, StreamRequest

HEAD = b"HTTP/1.1 200 OK\r\nX-Server-Version: 3.5.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class Reader:
    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[bytes, bytes] = {}
        self.data = b""
        self.reasons: list[str] = []

    def answered(self, status: int, headers: Mapping[bytes, bytes]) -> None:
        self.status, self.headers = status, headers

    def received(self, data: bytes) -> None:
        self.data += data

    def ended(self, reason: str) -> None:
        self.reasons.append(reason)


class ChunkTests(SynchronousTestCase):
    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.integers(1, 50))
    def test_any_cut(self, chunks: list[bytes], step: int) -> None:
        """What is in the chunks comes out, however they are cut."""
        data = b"".join(b"%x;x=1\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"
        decoder = ChunkDecoder()
        found = b"".join(decoder.feed(data[at : at + step]) for at in range(0, len(data), step))
        self.assertEqual(found, b"".join(chunks))
        self.assertTrue(decoder.finished)

    def test_garbage(self) -> None:
        """What is no size is refused."""
        for data in (b"x\r\n", b"-1\r\n", b"\r\n", b"0x5\r\n", b"ffffffffff\r\n", b"1" * 5000):
            with self.assertRaises(BadAnswer):
                ChunkDecoder().feed(data)


class RequestTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reader = Reader()
        headers = {b"X-Raft-To": b"5"}
        self.request = StreamRequest("/raft/stream/message/7", "a:1", headers, self.reader)
        self.transport = StringTransport()
        self.request.makeConnection(self.transport)

    def test_request(self) -> None:
        """One GET with our headers."""
        self.assertEqual(
            self.transport.value(),
            b"GET /raft/stream/message/7 HTTP/1.1\r\nHost: a:1\r\nX-Raft-To: 5\r\n\r\n",
        )

    def test_answer(self) -> None:
        """The head, then the body as it comes, however both are cut."""
        data = HEAD + b"3\r\nabc\r\n2\r\nde\r\n"
        for step in (1, 7, len(data)):
            self.setUp()
            for at in range(0, len(data), step):
                self.request.dataReceived(data[at : at + step])
            self.assertEqual((self.reader.status, self.reader.data), (200, b"abcde"))
            self.assertEqual(self.reader.headers[b"x-server-version"], b"3.5.1")

    def test_refusal(self) -> None:
        """A refusal has a plain body."""
        head = b"HTTP/1.1 410 Gone\r\nContent-Length: 15\r\n\r\n"
        self.request.dataReceived(head + b"removed member\n")
        self.assertEqual((self.reader.status, self.reader.data), (410, b"removed member\n"))

    def test_end(self) -> None:
        """The last chunk ends it, and so does the connection; the reader is told why, once."""
        self.request.dataReceived(HEAD + b"0\r\n\r\n")
        self.assertTrue(self.transport.disconnected)
        self.request.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.reader.reasons, ["the peer ended the stream"])

    def test_garbage(self) -> None:
        """What is no answer ends the connection."""
        endless = b"HTTP/1.1 " + b"2" * 5000 + b"\r\n\r\n"
        for data in (b"nonsense\r\n\r\n", endless, b"x" * 70_000, HEAD + b"zz\r\n"):
            self.setUp()
            self.request.dataReceived(data)
            self.assertTrue(self.transport.disconnected)
            self.request.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(len(self.reader.reasons), 1)
