"""Writing at once, not only when the reactor has gone round."""

from __future__ import annotations

import os
from typing import Any, Protocol

from twisted.internet import tcp

PIECES_MAX = os.sysconf("SC_IOV_MAX")
"""That the system takes at once."""


class DirectWriter:
    """Writes to a transport, past its queue where that is known to be safe: to plain sockets."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._socket = transport if isinstance(transport, tcp.Connection) else None

    def _is_free(self) -> bool:
        """Whether nothing waits that this would overtake."""
        socket = self._socket
        return bool(
            socket is not None
            and socket.connected
            and not socket.disconnecting
            and not socket.dataBuffer
            and not socket._tempDataBuffer
        )

    def write(self, data: bytes) -> None:
        socket = self._socket
        if (  # as ``_is_free``, without a call for each small answer
            socket is not None
            and socket.connected
            and not socket.disconnecting
            and not socket.dataBuffer
            and not socket._tempDataBuffer
        ):
            sent = socket.writeSomeData(data)
            if sent == len(data):
                return
            # An error comes again, and is handled, when the reactor writes the rest.
            if isinstance(sent, int) and sent > 0:
                data = data[sent:]
        self._transport.write(data)

    def write_pieces(self, pieces: list[bytes | memoryview]) -> None:
        """The same of many pieces, which the system puts together: what is large is not copied
        before."""
        if self._is_free():
            assert self._socket is not None, "it is free"
            pieces = send_pieces(self._socket.socket, pieces)
        if pieces:
            self.write(b"".join(pieces))


class Sends(Protocol):
    """A socket that does not block."""

    def sendmsg(self, buffers: list[bytes | memoryview], /) -> int: ...


def send_pieces(socket: Sends, pieces: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """Send as much as goes at once; what is left."""
    for begin in range(0, len(pieces), PIECES_MAX):
        some = pieces[begin : begin + PIECES_MAX]
        try:
            sent = socket.sendmsg(some)
        except OSError:
            return pieces[begin:]  # an error comes again, and is handled, with the rest
        for at, piece in enumerate(some, begin):
            if sent < len(piece):
                return [memoryview(piece)[sent:], *pieces[at + 1 :]]
            sent -= len(piece)
    return []
