"""Sending an exported keyspace."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3 import snapshot_stream
from etcdtw.api.v3.snapshot_stream import FILES_MAX, STALL_SECONDS, SnapshotLine, SnapshotStream
from etcdtw.errors import Code
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
        self.ends: list[None] = []

    def begin(self, room: int = 1 << 30) -> None:
        self.stream.room = room
        stream: Any = self.stream
        SnapshotStream(stream, self.export, self.clock, lambda: self.ends.append(None)).go_on()

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
        self.assertEqual((self.clock.getDelayedCalls(), len(self.ends)), ([], 1))

    def test_client_that_takes_nothing(self) -> None:
        """The file is not kept for ever; whoever takes a piece now and then goes on."""
        self.begin(room=2)
        for _ in range(3):
            self.clock.advance(STALL_SECONDS - 1)
            self.assertFalse(self.stream.ended)
            self.stream.room = len(self.stream.sent) + 1
            assert self.stream.on_writable is not None
            self.stream.on_writable()
        self.clock.advance(STALL_SECONDS)
        assert self.stream.error is not None
        self.assertEqual(self.stream.error.code, Code.DEADLINE_EXCEEDED)
        self.assertTrue(self.closed())
        self.assertEqual((self.clock.getDelayedCalls(), len(self.ends)), ([], 1))


class SnapshotLineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.asked: list[tuple[Callable[[Any], None], Callable[[BaseException], None]]] = []
        self.line = SnapshotLine(self, Clock())

    def start(self, done: Callable[[Any], None], failed: Callable[[BaseException], None]) -> None:
        self.asked.append((done, failed))

    def join(self) -> FakeStream:
        stream: Any = FakeStream()
        stream.room = 0
        self.line.join(stream)
        return stream  # type: ignore[no-any-return]

    def test_some_at_a_time(self) -> None:
        """However many ask, there are no more than some copies of the keyspace; a file that is
        let go of, for whatever reason, makes room for the next who still waits."""
        streams = [self.join() for _ in range(FILES_MAX + 5)]
        self.assertEqual(len(self.asked), FILES_MAX)
        self.asked[0][0](FakeExport(self.mktemp()))
        self.assertEqual(len(self.asked), FILES_MAX)
        streams[FILES_MAX].ended = True
        assert streams[0].on_cancel is not None
        streams[0].on_cancel()
        self.assertEqual(len(self.asked), FILES_MAX + 1)
        self.asked[1][1](OSError("no space"))
        self.assertIsNotNone(streams[1].error)
        streams[2].ended = True
        self.asked[2][0](FakeExport(self.mktemp()))
        self.asked[3][0](FakeExport(self.mktemp()))
        self.assertEqual(len(self.asked), FILES_MAX + 3)
        self.assertFalse(streams[3].ended)
