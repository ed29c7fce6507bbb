"""Leases over the peer port: only the leader knows how long they live, so others ask it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError, Message
from twisted.internet.interfaces import IReactorTime

from etcdtw.api.http.requests import HttpRequest, answer, plain_error
from etcdtw.api.peer.leader import LeaderCaller
from etcdtw.api.v3.lease import LeaseService
from etcdtw.errors import EtcdError, LeaseNotFound, TimedOut
from etcdtw.pb.lease_pb2 import LeaseInternalRequest, LeaseInternalResponse
from etcdtw.pb.rpc_pb2 import (
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)
from etcdtw.peer.calling import Answered
from etcdtw.replica.replica import Replica

CATCH_UP_SECONDS = 1.0
"""How long a call waits for what is committed to be applied."""
POLL_SECONDS = 0.05
ANSWER_SECONDS = 2.0
BODY_BYTES_MAX = 64 * 1024
NOT_CAUGHT_UP = "waiting for node to catch up its applied index has timed out"

_PROTOBUF = b"application/protobuf"


class LeasesPage:
    """``/leases`` renews, ``/leases/internal`` tells how long a lease still lives."""

    def __init__(self, replica: Replica, leases: LeaseService, clock: IReactorTime) -> None:
        self._replica = replica
        self._leases = leases
        self._clock = clock

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        if request.method != b"POST":
            return plain_error(request, 405, "Method Not Allowed")
        content = request.content
        body = b"" if content is None else content.read(BODY_BYTES_MAX + 1)
        if len(body) > BODY_BYTES_MAX:
            return plain_error(request, 413, "Request Entity Too Large")
        is_internal = path.endswith(b"/internal")
        kind: type[Message] = LeaseInternalRequest if is_internal else LeaseKeepAliveRequest
        try:
            wanted = kind.FromString(body)
        except DecodeError:
            return plain_error(request, 400, "error unmarshalling request")
        exchange = _Exchange(request)
        serve = self._time_to_live if is_internal else self._renew
        self._when_caught_up(
            lambda: serve(wanted, exchange),
            lambda: exchange.refuse(408, NOT_CAUGHT_UP),
            self._clock.seconds() + CATCH_UP_SECONDS,
        )
        return None

    def _when_caught_up(
        self, ready: Callable[[], None], late: Callable[[], None], until: float
    ) -> None:
        if self._replica.applied_index >= self._replica.node.committed:
            ready()
        elif self._clock.seconds() >= until:
            late()
        else:
            self._clock.callLater(POLL_SECONDS, self._when_caught_up, ready, late, until)

    def _renew(self, wanted: Any, exchange: _Exchange) -> None:
        def done(ttl: int | EtcdError) -> None:
            if isinstance(ttl, LeaseNotFound):
                exchange.refuse(404, "lease not found")
            elif isinstance(ttl, EtcdError):
                exchange.refuse(400, str(ttl))
            else:
                exchange.reply(LeaseKeepAliveResponse(ID=wanted.ID, TTL=ttl))

        self._leases.local_renew(wanted.ID, done)

    def _time_to_live(self, wanted: Any, exchange: _Exchange) -> None:
        asked = wanted.LeaseTimeToLiveRequest
        if not self._leases.is_primary:
            exchange.refuse(500, "not a primary lessor")
            return
        found = self._leases.local_time_to_live(asked.ID, asked.keys)
        if isinstance(found, LeaseNotFound):
            exchange.refuse(404, "lease not found")
            return
        found.header.SetInParent()
        exchange.reply(LeaseInternalResponse(LeaseTimeToLiveResponse=found))


class _Exchange:
    """A request whose answer may come later."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._gone: list[object] = []
        request.notifyFinish().addErrback(self._gone.append)

    def reply(self, message: Message) -> None:
        self._finish(lambda: answer(self._request, 200, message.SerializeToString(), _PROTOBUF))

    def refuse(self, status: int, text: str) -> None:
        self._finish(lambda: plain_error(self._request, status, text))

    def _finish(self, make: Callable[[], bytes]) -> None:
        if not self._gone:
            self._request.write(make())
            self._request.finish()


class RemoteLeases:
    """Asks the leader about leases."""

    def __init__(self, leader: LeaderCaller) -> None:
        self._leader = leader

    def reachable(self) -> bool:
        return self._leader.knows_leader()

    def renew(self, lease_id: int, done: Callable[[int | EtcdError], None]) -> None:
        request = LeaseKeepAliveRequest(ID=lease_id)
        self._ask("/leases", request, lambda body: done(_renewed_ttl(body)), done)

    def time_to_live(
        self, lease_id: int, keys: bool, done: Callable[[LeaseTimeToLiveResponse | EtcdError], None]
    ) -> None:
        request = LeaseInternalRequest(
            LeaseTimeToLiveRequest=LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
        )
        self._ask("/leases/internal", request, lambda body: done(_time_to_live(body)), done)

    def _ask(
        self,
        path: str,
        request: Message,
        done: Callable[[bytes], None],
        failed: Callable[[EtcdError], None],
    ) -> None:
        def accepted(answer: Answered) -> bool:
            if answer.status == 200:
                done(answer.body)
            elif answer.status == 404:
                failed(LeaseNotFound())
            else:
                return False
            return True

        body = request.SerializeToString()
        self._leader.post(path, body, ANSWER_SECONDS, accepted, lambda: failed(TimedOut()))


def _renewed_ttl(body: bytes) -> int:
    return LeaseKeepAliveResponse.FromString(body).TTL


def _time_to_live(body: bytes) -> LeaseTimeToLiveResponse:
    return LeaseInternalResponse.FromString(body).LeaseTimeToLiveResponse
