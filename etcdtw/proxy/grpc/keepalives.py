"""Renewals of leases: many clients' requests on one stream, one at a time for each lease.

Without IO, like ``WatchCoalescer``. Who asks while an answer for the same lease is due gets that
one: the lease was renewed between his wish and the answer, or the stream's delay before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from etcdtw.pb.rpc_pb2 import LeaseKeepAliveRequest, LeaseKeepAliveResponse


class Keeper(Protocol):
    """A client's stream of renewals."""

    def renewed(self, body: bytes) -> None:
        """The cluster's answer to a request of his."""


class KeepAlives:
    """What clients of one identity wait for."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[Keeper]] = {}
        self._send: Callable[[bytes], None] | None = None

    @property
    def is_idle(self) -> bool:
        return not self._waiting

    def ask(self, keeper: Keeper, lease_id: int) -> None:
        """Renew it; the keeper gets one answer for each time he asks."""
        waiting = self._waiting.get(lease_id)
        if waiting is not None:
            waiting.append(keeper)
            return
        self._waiting[lease_id] = [keeper]
        if self._send is not None:
            self._send(_request(lease_id))

    def forget(self, keeper: Keeper) -> None:
        """He is gone."""
        for lease_id, waiting in list(self._waiting.items()):
            if keeper in waiting:
                self._waiting[lease_id] = left = [each for each in waiting if each is not keeper]
                if not left and self._send is None:
                    del self._waiting[lease_id]  # else its answer is on its way

    def opened(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        for lease_id in self._waiting:
            send(_request(lease_id))

    def lost(self) -> None:
        """Renewing twice does no harm: what was not answered is asked for again."""
        self._send = None
        self._waiting = {lease_id: each for lease_id, each in self._waiting.items() if each}

    def received(self, body: bytes) -> None:
        lease_id = LeaseKeepAliveResponse.FromString(body).ID
        for each in self._waiting.pop(lease_id, ()):
            each.renewed(body)


def _request(lease_id: int) -> bytes:
    return LeaseKeepAliveRequest(ID=lease_id).SerializeToString()
