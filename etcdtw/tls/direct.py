"""Writing at once, not only when the reactor has gone round."""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp


class DirectWriter:
    """Writes to a transport, past its queue where that is known to be safe: to plain sockets."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._socket = transport if isinstance(transport, tcp.Connection) else None

    def write(self, data: bytes) -> None:
        socket = self._socket
        if (
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
