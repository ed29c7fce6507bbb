"""What waits for a reader who does not keep up."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.counting import PeerCounts
from etcdtw.peer.codec import AppendReader, AppendWriter
from etcdtw.peer.outgoing import WRITE_BYTES, OutStream, Timeouts
from etcdtw.raft.messages import Entry, Message, MessageType


class FullSink:
    """Takes what it is given, and says each time that this is enough."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.stream: OutStream | None = None

    def write(self, data: bytes) -> None:
        self.taken.append(data)
        assert self.stream is not None, "written to before there was a stream"
        self.stream.pause()

    def close(self) -> None:
        """Nothing is behind it."""


class OutStreamTests(SynchronousTestCase):
    def test_slow_reader(self) -> None:
        """Large messages that have piled up leave as he reads, in order, and not in one go."""
        sink = FullSink()
        stream = OutStream(sink, AppendWriter(), Clock(), Timeouts(), lambda: None, PeerCounts())
        sink.stream = stream
        stream.pause()
        data = bytes(WRITE_BYTES // 2)
        for index in range(9):
            entries = (Entry(1, index + 1, data=data),)
            stream.send(Message(MessageType.APP, 2, 1, 1, 1, index, entries=entries))
        stream.flush()
        self.assertEqual(sink.taken, [])
        for count in range(1, 6):
            stream.resume()
            self.assertEqual(len(sink.taken), count)
            self.assertLess(len(sink.taken[-1]), 2 * WRITE_BYTES)
        stream.close()
        found = AppendReader(1, 2).feed(b"".join(sink.taken))
        self.assertEqual([each.index for each in found], list(range(9)))
