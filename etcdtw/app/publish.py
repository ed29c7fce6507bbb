"""What a member tells the cluster about itself once there is a leader."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from etcdtw.apply.requests import V2
from etcdtw.errors import EtcdError
from etcdtw.pb.etcdserver_pb2 import Request
from etcdtw.replica.proposal import Proposal
from etcdtw.replica.replica import Replica

RETRY_SECONDS = 0.1


class Announcement:
    """One v2 request that is proposed again until it has been applied."""

    def __init__(
        self,
        replica: Replica,
        clock: IReactorTime,
        request: Callable[[int], Request],
        done: Callable[[], None],
    ) -> None:
        self._replica = replica
        self._clock = clock
        self._request = request
        self._done = done
        self._retry: IDelayedCall | None = None

    def start(self) -> None:
        request = self._request(self._replica.ids.next())
        self._replica.propose(Proposal(request.SerializeToString(), V2, request, self._answered))

    def stop(self) -> None:
        if self._retry is not None and self._retry.active():
            self._retry.cancel()

    def _answered(self, result: object) -> None:
        if isinstance(result, EtcdError):
            self._retry = self._clock.callLater(RETRY_SECONDS, self.start)
        else:
            self._done()
