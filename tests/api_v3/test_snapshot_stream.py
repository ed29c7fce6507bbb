"""Sending an exported keyspace."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3 import snapshot_stream
from etcdtw.api.v3.snapshot_stream import SnapshotStream
from etcdtw.pb.rpc_pb2 import SnapshotResponse
from tests.api_v3.fakes import FakeStream

PIECE_BYTES = 10
CONTENT = bytes(range(95))


class FakeExport:
    """A small file; closing it twice is an error."""

    def __init__(self, path: str) -> None:
        Path(path).write_bytes(CONTENT)
        self.fd = os.open(path, os.O_RDONLY)
        self.size = len(CONTENT)
        self.digest = b"digest"

    def close(self) -> None:
        os.close(self.fd)


class SnapshotStreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(snapshot_stream, "PIECE_BYTES", PIECE_BYTES)
        self.patch(snapshot_stream, "TURN_PIECES", 3)
        self.clock = Clock()
        self.stream = FakeStream()
        self.export = FakeExport(self.mktemp())

    def begin(self, room: int = 1 << 30) -> None:
        self.stream.room = room
        SnapshotStream(self.stream, self.export, self.clock).go_on()  # type: ignore[arg-type]

    def closed(self) -> bool:
        try:
            os.fstat(self.export.fd)
        except OSError:
            return True
        return False

    def test_others_have_their_turn(self) -> None:
        """A client that takes everything at once gets so many pieces a turn, then the digest."""
        self.begin()
        self.assertEqual(len(self.stream.sent), 3)
        assert self.stream.on_writable is not None
        self.stream.on_writable()  # an earlier wish of the connection changes nothing
        self.assertEqual(len(self.stream.sent), 3)
        for _ in range(5):
            self.clock.advance(0)
        sent = [SnapshotResponse.FromString(each) for each in self.stream.sent]
        self.assertEqual(b"".join(each.blob for each in sent), CONTENT + b"digest")
        self.assertEqual([each.remaining_bytes for each in sent[-3:]], [5, 0, 0])
        self.assertTrue(self.stream.ended and self.closed())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow_client(self) -> None:
        """What the connection has no room for waits."""
        self.begin(room=2)
        self.clock.advance(1)
        self.assertEqual(len(self.stream.sent), 2)
        self.stream.drain()
        for _ in range(5):
            self.clock.advance(0)
        self.assertTrue(self.stream.ended)

    def test_client_that_goes_away(self) -> None:
        """The file is let go of, and nothing is sent any more."""
        self.begin()
        assert self.stream.on_cancel is not None
        self.stream.on_cancel()
        self.clock.advance(1)
        self.assertEqual(len(self.stream.sent), 3)
        self.assertTrue(self.closed())
