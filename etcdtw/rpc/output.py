"""What a connection writes: at once where the socket takes it, held while it does not."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from etcdtw.tls.direct import DirectWriter

from .transport import Transport


@implementer(IPushProducer)
class Output:
    """The way out of one connection.

    While the transport's buffer is full, output is held here, and above ``held_bytes_max`` the
    transport is not read either: a client that takes no answers may ask no more. ``on_room`` is
    called when the transport takes output again.
    """

    def __init__(
        self, transport: Transport, held_bytes_max: int, on_room: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._held_bytes_max = held_bytes_max
        self._on_room = on_room
        writer = DirectWriter(transport)
        self._write, self._write_pieces = writer.write, writer.write_pieces
        self._held: list[bytes] = []
        self._reading_paused = False
        self._read_enough = False
        self.held_bytes = 0
        self.paused = False
        transport.registerProducer(self, True)

    def write(self, data: bytes) -> None:
        """Write or hold these bytes."""
        if self.paused:
            self._held.append(data)
            self.held_bytes += len(data)
            if self.held_bytes > self._held_bytes_max and not self._reading_paused:
                self._reading_paused = True
                self._transport.pauseProducing()
            return
        self._write(data)

    def write_pieces(self, pieces: list[bytes | memoryview]) -> None:
        """The same of what is large."""
        if self.paused:
            self.write(b"".join(pieces))
        else:
            self._write_pieces(pieces)

    def let_read(self, wanted: bool) -> None:
        """Whether the transport is to be read, where nothing else is against it."""
        self._read_enough = not wanted
        if not wanted:
            self._transport.pauseProducing()
        elif not self._reading_paused:
            self._transport.resumeProducing()

    def close(self) -> None:
        """Let the transport close behind everything that was written."""
        self._transport.unregisterProducer()
        self.paused = False
        if self._held:
            self._transport.write(b"".join(self._held))
            self._held.clear()
        self._transport.loseConnection()

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        held = b"".join(self._held)
        self._held.clear()
        self.held_bytes = 0
        if held:
            self.write(held)
        if self._reading_paused and not self.paused:
            self._reading_paused = False
            if not self._read_enough:
                self._transport.resumeProducing()
        self._on_room()

    def stopProducing(self) -> None:
        self.paused = True
