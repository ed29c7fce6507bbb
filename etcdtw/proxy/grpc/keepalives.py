"""Renewals of leases: many clients' requests on one stream, one at a time for each lease.

Without IO, like ``WatchCoalescer``. Who asks while an answer for the same lease is due gets that
one: the lease was renewed between his wish and the answer, or the stream's delay before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from etcdtw.pb.rpc_pb2 import LeaseKeepAliveRequest, LeaseKeepAliveResponse

IN_FLIGHT_MAX = 1000
"""Requests without an answer: a member ends a stream on which very many wait, and with it all
clients' renewals."""


class Keeper(Protocol):
    """A client's stream of renewals."""

    def renewed(self, body: bytes) -> None:
        """The cluster's answer to a request of his."""


class KeepAlives:
    """What clients of one identity wait for."""

    def __init__(self) -> None:
        self._waiting: dict[int, dict[Keeper, int]] = {}
        """Who waits for a lease, and for how many answers."""
        self._wanted: dict[Keeper, set[int]] = {}
        """The same by keeper: for one that leaves, not all leases are searched."""
        self._unsent: dict[int, None] = {}
        self._in_flight = 0
        self._send: Callable[[bytes], None] | None = None

    @property
    def is_idle(self) -> bool:
        return not self._waiting

    def ask(self, keeper: Keeper, lease_id: int) -> None:
        """Renew it; the keeper gets one answer for each time he asks."""
        waiting = self._waiting.get(lease_id)
        if waiting is None:
            waiting = self._waiting[lease_id] = {}
            self._unsent[lease_id] = None
        waiting[keeper] = waiting.get(keeper, 0) + 1
        self._wanted.setdefault(keeper, set()).add(lease_id)
        self._send_more()

    def forget(self, keeper: Keeper) -> None:
        """He is gone."""
        for lease_id in self._wanted.pop(keeper, ()):
            waiting = self._waiting[lease_id]
            del waiting[keeper]
            if not waiting and lease_id in self._unsent:  # else its answer is on its way
                del self._waiting[lease_id], self._unsent[lease_id]

    def opened(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._send_more()

    def lost(self) -> None:
        """Renewing twice does no harm: what was not answered is asked for again."""
        self._send = None
        self._in_flight = 0
        self._waiting = {lease_id: each for lease_id, each in self._waiting.items() if each}
        self._unsent = dict.fromkeys(self._waiting)

    def received(self, body: bytes) -> None:
        lease_id = LeaseKeepAliveResponse.FromString(body).ID
        waiting = self._waiting.pop(lease_id, None)
        if waiting is None:
            return
        self._in_flight -= 1
        for keeper in waiting:
            self._wanted[keeper].discard(lease_id)
        for keeper, answers in waiting.items():
            for _ in range(answers):
                keeper.renewed(body)
        self._send_more()

    def _send_more(self) -> None:
        while self._send is not None and self._unsent and self._in_flight < IN_FLIGHT_MAX:
            lease_id = next(iter(self._unsent))
            del self._unsent[lease_id]
            self._in_flight += 1
            self._send(_request(lease_id))


def _request(lease_id: int) -> bytes:
    return LeaseKeepAliveRequest(ID=lease_id).SerializeToString()
