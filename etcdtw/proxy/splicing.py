"""Bytes from one socket to another without passing through this process (Linux's ``splice``)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST

PIPE_BYTES = 1 << 18
"""Moved at once. Only what a full socket does not take comes into this process."""


class Splicer:
    """One pipe that all connections share: it is empty whenever the reactor goes on."""

    def __init__(self) -> None:
        """OSError or AttributeError where the platform has no splice."""
        self._splice = os.splice
        self._flags = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # above what an unprivileged process may have: the usual size does as well

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)

    def reader(self, source: Any, sink: Any) -> Callable[[], object] | None:
        """What takes the place of a transport's ``doRead``, so that what comes there goes to the
        sink; None where one of the two is no plain socket."""
        if not isinstance(source, tcp.Connection) or not isinstance(sink, tcp.Connection):
            return None
        taken, given = source.socket.fileno(), sink.socket.fileno()
        splice, flags, pipe_in, pipe_out = self._splice, self._flags, self._in, self._out

        def read() -> object:
            if sink.dataBuffer or sink._tempDataBuffer or not sink.connected:
                return tcp.Connection.doRead(source)  # behind what waits already
            try:
                moved = splice(taken, pipe_in, PIPE_BYTES, flags=flags)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError:
                return CONNECTION_LOST
            if not moved:
                return CONNECTION_DONE
            left = moved
            try:
                while left:
                    left -= splice(pipe_out, given, left, flags=flags)
            except OSError:
                # Full, or gone: the transport finds out which, and holds the rest meanwhile.
                sink.write(os.read(pipe_out, left))
            return None

        return read


def make_splicer() -> Splicer | None:
    """None where the platform has no splice."""
    try:
        return Splicer()
    except (AttributeError, OSError):
        return None
