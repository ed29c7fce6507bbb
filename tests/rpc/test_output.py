"""The direct way to the socket."""

from __future__ import annotations

from twisted.internet import main, tcp
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.rpc.output import Output


class FakeSocket(tcp.Connection):
    """A TCP transport whose kernel takes as many bytes as a test says."""

    def __init__(self, takes: int | ConnectionLost) -> None:
        self.takes = takes
        self.sent: list[bytes] = []
        self.queued: list[bytes] = []
        self.connected = 1
        self.disconnecting = False
        self.dataBuffer = b""
        self._tempDataBuffer: list[bytes] = []

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Nobody pauses here."""

    def writeSomeData(self, data: bytes) -> int | ConnectionLost:
        if isinstance(self.takes, ConnectionLost):
            return self.takes
        self.sent.append(data[: self.takes])
        return min(self.takes, len(data))

    def write(self, data: bytes) -> None:
        self.queued.append(data)


class DirectWriteTests(SynchronousTestCase):
    """Bytes reach the kernel at once where nothing waits before them, and are never lost."""

    def _write(self, socket: FakeSocket) -> None:
        Output(socket, 1000, lambda: None).write(b"0123456789")

    def test_taken(self) -> None:
        """What the kernel takes whole is not queued."""
        socket = FakeSocket(10)
        self._write(socket)
        self.assertEqual((socket.sent, socket.queued), ([b"0123456789"], []))

    def test_partly_taken(self) -> None:
        """The rest of a partial write is queued in order."""
        for takes in (0, 4):
            socket = FakeSocket(takes)
            self._write(socket)
            self.assertEqual(b"".join(socket.sent + socket.queued), b"0123456789")

    def test_error(self) -> None:
        """A dead socket does not raise here: the reactor meets the error and ends it."""
        socket = FakeSocket(main.CONNECTION_LOST)
        self._write(socket)
        self.assertEqual(socket.queued, [b"0123456789"])

    def test_behind_others(self) -> None:
        """Nothing overtakes bytes that are buffered, nor the end of the connection."""
        for change in (
            {"dataBuffer": b"x"},
            {"_tempDataBuffer": [b"x"]},
            {"disconnecting": True},
            {"connected": 0},
        ):
            socket = FakeSocket(10)
            socket.__dict__.update(change)
            self._write(socket)
            self.assertEqual((socket.sent, socket.queued), ([], [b"0123456789"]))
