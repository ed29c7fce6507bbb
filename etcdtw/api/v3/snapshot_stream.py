"""Sending an exported keyspace to a client."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from etcdtw.errors import Code, StatusError
from etcdtw.pb.rpc_pb2 import SnapshotResponse
from etcdtw.rpc import StreamCall

PIECE_BYTES = 32 * 1024
"""etcd's."""
TURN_PIECES = 32
"""However fast the client takes them, others have a turn after so many."""
FILES_MAX = 4
STALL_SECONDS = 300.0
"""A client that takes nothing for so long is not waited for."""


class Exported(Protocol):
    """An open file of ``size`` bytes with this SHA-256, to be closed by whoever got it."""

    @property
    def fd(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def digest(self) -> bytes: ...

    def close(self) -> None: ...


class Exports(Protocol):
    """Makes bbolt files of the keyspace."""

    def start(
        self, done: Callable[[Exported], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Call one of the two, with what is durable now or a little later."""


class SnapshotLine:
    """Gives each client a file of its own. Each is a copy of the keyspace on the disk, so that some
    have theirs at a time and the others wait."""

    def __init__(self, exports: Exports, clock: IReactorTime) -> None:
        self._exports = exports
        self._clock = clock
        self._waiting: deque[StreamCall] = deque()
        self._files = 0

    def join(self, call: StreamCall) -> None:
        """Send it a file as soon as there may be one more."""
        self._waiting.append(call)
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self._files < FILES_MAX:
            call = self._waiting.popleft()
            if not call.done:
                self._files += 1
                self._exports.start(partial(self._send, call), partial(self._failed, call))

    def _send(self, call: StreamCall, exported: Exported) -> None:
        if call.done:
            exported.close()
            self._let_go()
        else:
            SnapshotStream(call, exported, self._clock, self._let_go).go_on()

    def _failed(self, call: StreamCall, error: BaseException) -> None:
        call.finish(StatusError(Code.UNKNOWN, str(error)))
        self._let_go()

    def _let_go(self) -> None:
        self._files -= 1
        self._go_on()


class SnapshotStream:
    """One file on its way, as fast as the client takes it, unless he stops taking it."""

    def __init__(
        self,
        call: StreamCall,
        exported: Exported,
        clock: IReactorTime,
        closed: Callable[[], None],
    ) -> None:
        """``closed`` is called once the file is let go of."""
        self._call = call
        self._exported = exported
        self._clock = clock
        self._closed = closed
        self._sent = 0
        self._next_turn: IDelayedCall | None = None
        self._stalled = clock.callLater(STALL_SECONDS, self._give_up)
        call.on_writable = self.go_on
        call.on_cancel = self._close

    def go_on(self) -> None:
        """Send until the connection has enough to do, or for one turn."""
        call, exported = self._call, self._exported
        if self._next_turn is not None:
            return
        for _ in range(TURN_PIECES):
            if self._sent == exported.size:
                call.send(SnapshotResponse(blob=exported.digest).SerializeToString())
                self._close()
                call.finish()
                return
            if not call.writable:
                return
            piece = os.pread(exported.fd, min(PIECE_BYTES, exported.size - self._sent), self._sent)
            self._sent += len(piece)
            self._stalled.reset(STALL_SECONDS)
            answer = SnapshotResponse(remaining_bytes=exported.size - self._sent, blob=piece)
            call.send(answer.SerializeToString())
        self._next_turn = self._clock.callLater(0, self._in_next_turn)

    def _in_next_turn(self) -> None:
        self._next_turn = None
        self.go_on()

    def _close(self) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        if self._stalled.active():
            self._stalled.cancel()
        self._exported.close()
        self._closed()

    def _give_up(self) -> None:
        self._close()
        reason = f"etcdserver: nothing of the snapshot was taken for {STALL_SECONDS:g} s"
        self._call.finish(StatusError(Code.DEADLINE_EXCEEDED, reason))
