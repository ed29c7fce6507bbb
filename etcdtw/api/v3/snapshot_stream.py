"""Sending an exported keyspace to a client."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from etcdtw.pb.rpc_pb2 import SnapshotResponse
from etcdtw.rpc import StreamCall

PIECE_BYTES = 32 * 1024
"""etcd's."""
TURN_PIECES = 32
"""However fast the client takes them, others have a turn after so many."""


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


class SnapshotStream:
    """One file on its way, as fast as the client takes it."""

    def __init__(self, call: StreamCall, exported: Exported, clock: IReactorTime) -> None:
        self._call = call
        self._exported = exported
        self._clock = clock
        self._sent = 0
        self._next_turn: IDelayedCall | None = None
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
        self._exported.close()
