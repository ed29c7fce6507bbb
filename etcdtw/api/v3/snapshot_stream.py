"""Sending an exported keyspace to a client."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from etcdtw.pb.rpc_pb2 import SnapshotResponse
from etcdtw.rpc import StreamCall

PIECE_BYTES = 32 * 1024
"""etcd's."""


class Exported(Protocol):
    """An open file of ``size`` bytes with this SHA-256, to be closed by whoever got it."""

    @property
    def fd(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def digest(self) -> bytes: ...


class Exports(Protocol):
    """Makes bbolt files of the keyspace."""

    def start(
        self, done: Callable[[Exported], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Call one of the two, with what is durable now or a little later."""


class SnapshotStream:
    """One file on its way, as fast as the client takes it."""

    def __init__(self, call: StreamCall, exported: Exported) -> None:
        self._call = call
        self._exported = exported
        self._sent = 0
        call.on_writable = self.go_on
        call.on_cancel = self._close

    def go_on(self) -> None:
        """Send until the connection has enough to do."""
        call, exported = self._call, self._exported
        while self._sent < exported.size:
            if not call.writable:
                return
            piece = os.pread(exported.fd, min(PIECE_BYTES, exported.size - self._sent), self._sent)
            self._sent += len(piece)
            answer = SnapshotResponse(remaining_bytes=exported.size - self._sent, blob=piece)
            call.send(answer.SerializeToString())
        if not call.done:
            call.send(SnapshotResponse(blob=exported.digest).SerializeToString())
            self._close()
            call.finish()

    def _close(self) -> None:
        os.close(self._exported.fd)
