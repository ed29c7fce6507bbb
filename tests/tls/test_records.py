"""What is between the records of TLS and the bytes of an application."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.tls.records import LENGTH_MAX, RecordCounter
from tests.tls.case import PkiCase
from tests.tls.meeting import Meeting, meet

SIZES = st.lists(st.integers(1, 40) | st.integers(1, LENGTH_MAX), min_size=1, max_size=6)
CUTS = st.lists(st.integers(1, 50) | st.integers(1, 20_000), max_size=12)


def record(size: int) -> bytes:
    return b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size)


def parts(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


class RecordCounterTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(SIZES, CUTS)
    def test_any_parts(self, sizes: list[int], cuts: list[int]) -> None:
        """However the bytes come, every record is counted with its last byte, and only then."""
        ends = [sum(size + 5 for size in sizes[: n + 1]) for n in range(len(sizes))]
        counter = RecordCounter()
        seen = counted = 0
        for part in parts(b"".join(map(record, sizes)), cuts):
            seen += len(part)
            found = counter.count(part)
            assert found is not None, "these are records"
            counted += found
            self.assertEqual(counted, sum(end <= seen for end in ends))

    def test_noise(self) -> None:
        """From where the lengths cannot be right nothing is counted any more."""
        counter = RecordCounter()
        self.assertEqual(counter.count(record(7)), 1)
        self.assertIsNone(counter.count(b"GET / HTTP/1.1\r\n"))
        self.assertIsNone(counter.count(record(7)))
        self.assertIsNone(RecordCounter().count(record(0)))
        for noise in (record(LENGTH_MAX + 1), b"GET /" + bytes(0x202F)):
            self.assertIsNone(RecordCounter().count(noise))


class ReceivingTests(PkiCase):
    """After the handshake, from the caller's bytes to the server's echo."""

    def met(self, **how: Any) -> Meeting:
        self.pki.issue("member", "peer", ["localhost"])
        self.pki.issue("client", "client", [])
        meeting = meet(self.serving(**how), self.calling())
        self.assertEqual(meeting.heard, b"hello")
        meeting.caller.heard = b""
        return meeting

    def sealed(self, meeting: Meeting, *texts: bytes) -> bytes:
        """The records of what the caller says, which do not travel yet."""
        assert meeting.caller.transport is not None, "they have met"
        for text in texts:
            meeting.caller.transport.write(text)
        sent: bytes = meeting.pump.clientIO.getOutBuffer()
        return sent

    def test_any_parts(self) -> None:
        """All arrives once and in order, in whatever parts, with either version of TLS."""
        texts = [b"a", b"b" * 300, b"c" * 40_000, b"d" * 16_384, b"e"]
        for version in ("TLS1.2", "TLS1.3"):
            for size in (1 << 20, 16_406, 1_000, 329, 7, 1):
                meeting = self.met(min_version=version, max_version=version)
                data = self.sealed(meeting, *texts)
                for at in range(0, len(data), size):
                    meeting.pump.server.dataReceived(data[at : at + size])
                meeting.pump.flush()
                self.assertEqual(meeting.heard, b"".join(texts), (version, size))

    def test_asked_once(self) -> None:
        """OpenSSL is asked once for each record, and never for an answer to it."""
        meeting = self.met()
        server = meeting.pump.server
        data = self.sealed(meeting, b"one", b"two")
        real = server._tlsConnection
        server._tlsConnection = mock.Mock(wraps=real)
        server.wrappedProtocol.dataReceived = heard = mock.Mock()
        server.dataReceived(data[:20])
        server._tlsConnection.recv.assert_not_called()
        server.dataReceived(data[20:])
        self.assertEqual(server._tlsConnection.recv.call_count, 2)
        server._tlsConnection.bio_read.assert_not_called()
        self.assertEqual([call.args[0] for call in heard.call_args_list], [b"one", b"two"])

    def test_end(self) -> None:
        """A caller's goodbye ends the connection, after what was said before it."""
        meeting = self.met()
        assert meeting.caller.transport is not None, "they have met"
        meeting.caller.transport.write(b"last")
        meeting.caller.transport.loseConnection()
        meeting.pump.flush()
        self.assertEqual(meeting.heard, b"last")
        self.assertTrue(meeting.pump.serverIO.disconnecting or meeting.pump.serverIO.disconnected)

    def test_noise(self) -> None:
        """Whoever falls out of TLS, or changes a byte, is cut off at once."""
        for spoil in (
            lambda data: b"GET / HTTP/1.1\r\n\r\n",
            lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        ):
            meeting = self.met()
            data = self.sealed(meeting, b"more")
            meeting.pump.server.dataReceived(spoil(data))
            self.assertTrue(meeting.pump.server._lostTLSConnection)
            meeting.pump.flush()
            self.assertEqual(meeting.heard, b"")
