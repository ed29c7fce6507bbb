"""What is written past the reactor's queue."""

from __future__ import annotations

import socket
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from etcdtw.tls import direct
from etcdtw.tls.direct import DirectWriter, send_pieces


class Full:
    """A socket that has room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sent = b""

    def sendmsg(self, buffers: list[bytes | memoryview]) -> int:
        if not self.room:
            raise BlockingIOError
        assert len(buffers) <= direct.PIECES_MAX, "EMSGSIZE"
        took = b"".join(buffers)[: self.room]
        self.room -= len(took)
        self.sent += took
        return len(took)


class PieceTests(SynchronousTestCase):
    @given(st.lists(st.binary(max_size=5)), st.integers(0, 60), st.integers(1, 7))
    def test_nothing_is_lost(self, pieces: list[bytes], room: int, at_once: int) -> None:
        """What was sent and what is left are what was given."""
        self.patch(direct, "PIECES_MAX", at_once)
        full = Full(room)
        left = send_pieces(full, [*pieces])
        self.assertEqual(full.sent + b"".join(left), b"".join(pieces))
        self.assertTrue(not full.room or not b"".join(left), "there was room")


class ConnectionTests(TestCase):
    timeout = 30

    @inlineCallbacks
    def test_slow_reader(self) -> Any:
        """Far more than the system takes at once arrives in order, small writes between it."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        endpoint = TCP4ClientEndpoint(reactor, *listening.getsockname())
        protocol = yield endpoint.connect(Factory.forProtocol(Protocol))
        accepted, _ = listening.accept()
        self.addCleanup(accepted.close)
        accepted.setblocking(False)
        writer = DirectWriter(protocol.transport)
        expected = b""
        for number in range(4):
            pieces: list[bytes | memoryview] = [bytes([number]) * 3001] * 2000
            writer.write_pieces(pieces)
            writer.write(b"between")
            expected += b"".join(pieces) + b"between"
        protocol.transport.loseConnection()
        received = bytearray()
        while True:
            try:
                data = accepted.recv(1 << 20)
            except BlockingIOError:
                pause: Deferred[None] = Deferred()
                reactor.callLater(0.001, pause.callback, None)
                yield pause
                continue
            if not data:
                break
            received += data
        self.assertTrue(received == expected, "something was lost, or overtaken")
