"""The Lease service, and the loop that revokes leases which are over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from etcdtw.api.v3.canonical import canonical
from etcdtw.api.v3.streaming import HeaderSource, decode_streamed
from etcdtw.apply.quota import request_cost
from etcdtw.errors import (
    EtcdError,
    LeaseNotFound,
    LeaseTTLTooLarge,
    TimedOut,
    TooManyRequests,
)
from etcdtw.lease.lessor import TTL_SECONDS_MAX, Lessor
from etcdtw.pb.rpc_pb2 import (
    LeaseCheckpoint,
    LeaseCheckpointRequest,
    LeaseGrantRequest,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseLeasesRequest,
    LeaseLeasesResponse,
    LeaseRevokeRequest,
    LeaseStatus,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)
from etcdtw.rpc import Router, StreamCall, UnaryCall

# How long and how often a member that has no leader tries before it gives up (etcd: request
# timeout of 5 s and two elections).
LEADER_WAIT_SECONDS = 7.0
LEADER_POLL_SECONDS = 0.05
# Keepalives of one stream that wait: behind one that is on its way to the leader, for others to get
# their turn, or for the client to take the answers that there are.
KEEPALIVES_WAITING_MAX = 100_000
KEEPALIVES_PER_TURN = 300
EXPIRY_ROUND_SECONDS = 0.5
UNFINISHED_ROUND_SECONDS = 0.02
EXPIRED_PER_ROUND_MAX = 500
REVOKES_IN_FLIGHT_MAX = 16
_POSITIVE_ID = (1 << 63) - 1


class Proposer(Protocol):
    """Puts requests into the log."""

    def submit(
        self,
        kind: str,
        request: object,
        raw: bytes,
        done: Callable[[object], None],
        cost: int = 0,
    ) -> None:
        """Propose ``raw``, the bytes of ``request``, as the member ``kind`` of an
        InternalRaftRequest; ``done`` gets the response's bytes or an EtcdError."""

    def answer(
        self, call: UnaryCall, kind: str, request: object, raw: bytes, cost: int = 0
    ) -> None:
        """The same, and the result is the answer of ``call``."""


class LeaderLeases(Protocol):
    """The leases of a leader elsewhere."""

    def reachable(self) -> bool:
        """Whether another member is known to lead."""

    def renew(self, lease_id: int, done: Callable[[int | EtcdError], None]) -> None:
        """``done`` gets the TTL."""

    def time_to_live(
        self, lease_id: int, keys: bool, done: Callable[[LeaseTimeToLiveResponse | EtcdError], None]
    ) -> None: ...


class LeaseService:
    """``etcdserverpb.Lease``. ``revision`` tells the store's, ``next_id`` gives numbers that no
    other member or restart gives; ``elsewhere`` None: this member is alone."""

    def __init__(
        self,
        proposer: Proposer,
        lessor: Lessor,
        header: HeaderSource,
        revision: Callable[[], int],
        clock: IReactorTime,
        next_id: Callable[[], int],
        elsewhere: LeaderLeases | None = None,
    ) -> None:
        self._proposer = proposer
        self._lessor = lessor
        self._header = header
        self._revision = revision
        self._clock = clock
        self._next_id = next_id
        self._elsewhere = elsewhere

    def register(self, router: Router) -> None:
        for name, handler in (
            ("LeaseGrant", self.grant),
            ("LeaseRevoke", self.revoke),
            ("LeaseTimeToLive", self.time_to_live),
            ("LeaseLeases", self.leases),
        ):
            router.add_unary(f"/etcdserverpb.Lease/{name}", handler)
        router.add_stream("/etcdserverpb.Lease/LeaseKeepAlive", self.keep_alive)

    def header(self) -> bytes:
        return self._header.encode(self._revision())

    @property
    def is_primary(self) -> bool:
        """Whether this member knows how long leases live."""
        return self._lessor.is_primary

    def grant(self, call: UnaryCall, body: bytes) -> None:
        request, raw = canonical(LeaseGrantRequest, body)
        if request.TTL > TTL_SECONDS_MAX:
            raise LeaseTTLTooLarge
        while request.ID == 0:
            request.ID = self._next_id() & _POSITIVE_ID
            raw = request.SerializeToString()
        cost = request_cost("lease_grant", request)
        self._proposer.answer(call, "lease_grant", request, raw, cost)

    def revoke(self, call: UnaryCall, body: bytes) -> None:
        request, raw = canonical(LeaseRevokeRequest, body)
        self._proposer.answer(call, "lease_revoke", request, raw)

    def leases(self, call: UnaryCall, body: bytes) -> None:
        canonical(LeaseLeasesRequest, body)
        found = [LeaseStatus(ID=each) for each in self._lessor.ids_by_expiry()]
        call.reply(self.header() + LeaseLeasesResponse(leases=found).SerializeToString())

    def time_to_live(self, call: UnaryCall, body: bytes) -> None:
        request, _ = canonical(LeaseTimeToLiveRequest, body)

        def done(answer: LeaseTimeToLiveResponse | EtcdError) -> None:
            if isinstance(answer, LeaseNotFound):
                answer = LeaseTimeToLiveResponse(ID=request.ID, TTL=-1)
            if isinstance(answer, EtcdError):
                call.fail(answer)
                return
            answer.ClearField("header")
            call.reply(self.header() + answer.SerializeToString())

        self._with_leader(
            lambda: done(self.local_time_to_live(request.ID, request.keys)),
            lambda leader: leader.time_to_live(request.ID, request.keys, done),
            done,
        )

    def local_time_to_live(
        self, lease_id: int, keys: bool
    ) -> LeaseTimeToLiveResponse | LeaseNotFound:
        """What the primary answers, to its own clients and to other members."""
        if not self._lessor.exists(lease_id):
            return LeaseNotFound()
        remaining = self._lessor.remaining(lease_id, self._clock.seconds())
        assert remaining < inf, "only the primary knows how much is left"
        return LeaseTimeToLiveResponse(
            ID=lease_id,
            TTL=int(remaining),
            grantedTTL=self._lessor.ttl(lease_id),
            keys=self._lessor.keys(lease_id) if keys else None,
        )

    def later(self, action: Callable[[], None]) -> IDelayedCall:
        """Do this when others have had their turn."""
        return self._clock.callLater(0, action)

    def keep_alive(self, call: StreamCall) -> None:
        KeepAliveStream(self, call)

    def renew(self, lease_id: int, done: Callable[[int | EtcdError], None]) -> None:
        """Renew at the leader, wherever that is; ``done`` gets the TTL."""
        self._with_leader(
            lambda: self.local_renew(lease_id, done),
            lambda leader: leader.renew(lease_id, done),
            done,
        )

    def local_renew(self, lease_id: int, done: Callable[[int | EtcdError], None]) -> None:
        """Renew as the primary, for its own clients and for other members."""

        def go(result: object = None) -> None:
            try:
                if isinstance(result, EtcdError):
                    raise result
                done(self._lessor.renew(lease_id, self._clock.seconds()))
            except EtcdError as error:
                done(error)

        if self._lessor.was_checkpointed(lease_id):
            request = _checkpoints([(lease_id, 0)])
            self._proposer.submit("lease_checkpoint", request, request.SerializeToString(), go)
        else:
            go()

    def _with_leader(
        self,
        local: Callable[[], None],
        remote: Callable[[LeaderLeases], None],
        failed: Callable[[EtcdError], None],
        deadline: float | None = None,
    ) -> None:
        """Call ``local`` or ``remote`` as soon as there is a leader here or elsewhere."""
        if self._lessor.is_primary:
            local()
        elif self._elsewhere is not None and self._elsewhere.reachable():
            remote(self._elsewhere)
        else:
            now = self._clock.seconds()
            if deadline is None:
                deadline = now + LEADER_WAIT_SECONDS
            if now >= deadline:
                failed(TimedOut())
            else:
                self._clock.callLater(
                    LEADER_POLL_SECONDS, self._with_leader, local, remote, failed, deadline
                )


class KeepAliveStream:
    """Answers keepalives in the order in which they came."""

    def __init__(self, service: LeaseService, call: StreamCall) -> None:
        self._service = service
        self._call = call
        self._waiting: deque[int] = deque()
        self._current: int | None = None
        self._running = False
        self._no_more = False
        self._ended = False
        self._handled = 0  # in this turn
        self._next_turn: IDelayedCall | None = None
        call.on_message = self._message
        call.on_writable = self._run
        call.on_half_close = self._half_close
        call.on_cancel = self._cancelled

    def _message(self, body: bytes) -> None:
        if self._ended:
            return
        try:
            request = decode_streamed(LeaseKeepAliveRequest, body)
        except EtcdError as error:
            self._end(error)
            return
        if len(self._waiting) >= KEEPALIVES_WAITING_MAX:
            self._end(TooManyRequests())
            return
        self._waiting.append(request.ID)
        self._run()

    def _half_close(self) -> None:
        self._no_more = True
        self._run()

    def _cancelled(self) -> None:
        self._ended = True
        self._waiting.clear()
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None

    def _end(self, error: EtcdError | None) -> None:
        self._cancelled()
        self._call.finish(error)

    def _run(self) -> None:
        """Renew one after the other; an answer that comes at once does not nest."""
        if self._running:
            return
        self._running = True
        while (
            self._waiting
            and self._current is None
            and self._handled < KEEPALIVES_PER_TURN
            and self._call.writable
        ):
            if self._next_turn is None:
                self._next_turn = self._service.later(self._go_on)
            self._handled += 1
            self._current = self._waiting.popleft()
            self._service.renew(self._current, self._renewed)
        self._running = False
        if self._no_more and self._current is None and not self._waiting and not self._ended:
            self._end(None)

    def _go_on(self) -> None:
        self._next_turn = None
        self._handled = 0
        self._run()

    def _renewed(self, result: int | EtcdError) -> None:
        lease_id, self._current = self._current, None
        if self._ended:
            return
        if isinstance(result, EtcdError) and not isinstance(result, LeaseNotFound):
            self._end(result)
            return
        ttl = result if isinstance(result, int) else 0
        answer = LeaseKeepAliveResponse(ID=lease_id, TTL=ttl)
        self._call.send(self._service.header() + answer.SerializeToString())
        self._run()


class LeaseExpirer:
    """On the primary, revokes leases that are over and replicates checkpoints.

    ``proposer`` must refuse what it could only forward to another leader: that one has given
    every lease a new start.
    """

    def __init__(
        self, clock: IReactorTime, lessor: Lessor, proposer: Proposer, checkpoints: bool = False
    ) -> None:
        self._clock = clock
        self._lessor = lessor
        self._proposer = proposer
        self._checkpoints = checkpoints
        self._over: deque[int] = deque()
        self._in_flight = 0
        self._running = False
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        self._timer = self._clock.callLater(EXPIRY_ROUND_SECONDS, self._round)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._over.clear()

    def _round(self) -> None:
        lessor = self._lessor
        if lessor.is_primary:
            now = self._clock.seconds()
            if not self._over:
                self._over.extend(lessor.expired(now, EXPIRED_PER_ROUND_MAX))
            self._revoke_some()
            if self._checkpoints:
                self._checkpoint(now)
        delay = UNFINISHED_ROUND_SECONDS if lessor.unfinished else EXPIRY_ROUND_SECONDS
        self._timer = self._clock.callLater(delay, self._round)

    def _revoke_some(self) -> None:
        if self._running:
            return
        self._running = True
        while self._over and self._in_flight < REVOKES_IN_FLIGHT_MAX:
            lease_id = self._over.popleft()
            if self._lessor.is_primary and self._lessor.exists(lease_id):
                self._in_flight += 1
                request = LeaseRevokeRequest(ID=lease_id)
                self._submit("lease_revoke", request, self._revoked)
        self._running = False

    def _revoked(self, result: object) -> None:
        # A failed one comes up again by itself.
        self._in_flight -= 1
        self._revoke_some()

    def _checkpoint(self, now: float) -> None:
        due = self._lessor.due_checkpoints(now)
        if due:
            self._submit("lease_checkpoint", _checkpoints(due), lambda result: None)

    def _submit(
        self,
        kind: str,
        request: LeaseRevokeRequest | LeaseCheckpointRequest,
        done: Callable[[object], None],
    ) -> None:
        self._proposer.submit(kind, request, request.SerializeToString(), done)


def _checkpoints(remaining: list[tuple[int, int]]) -> LeaseCheckpointRequest:
    return LeaseCheckpointRequest(
        checkpoints=[LeaseCheckpoint(ID=each, remaining_TTL=ttl) for each, ttl in remaining]
    )
