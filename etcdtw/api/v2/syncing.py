"""Nodes of the v2 tree expire by entries in the log, so that all members agree on when."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from etcdtw.apply.requests import V2
from etcdtw.membership import fill_request
from etcdtw.pb.etcdserver_pb2 import Request
from etcdtw.replica.proposal import Proposal
from etcdtw.replica.replica import Replica
from etcdtw.v2store import V2Store

SYNC_SECONDS = 0.5


class Syncing:
    """Has the leader propose SYNC while there is anything that may expire."""

    def __init__(
        self,
        replica: Replica,
        store: V2Store,
        clock: IReactorTime,
        wall_seconds: Callable[[], float],
    ) -> None:
        self._replica = replica
        self._store = store
        self._clock = clock
        self._wall_seconds = wall_seconds
        self._next: IDelayedCall | None = None
        self._waits = False

    def start(self) -> None:
        self._next = self._clock.callLater(SYNC_SECONDS, self._look)

    def stop(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _look(self) -> None:
        self.start()
        if self._waits or not self._replica.is_leader or not self._store.has_ttl_keys():
            return
        entry = fill_request(
            Request(
                ID=self._replica.ids.next(),
                Method="SYNC",
                Time=int(self._wall_seconds() * 1e9),
            )
        )
        self._waits = True
        self._replica.propose(Proposal(entry.SerializeToString(), V2, entry, self._applied))

    def _applied(self, _: object) -> None:
        self._waits = False
