"""``etcdserverpb.Lease`` of the proxy."""

from __future__ import annotations

from collections.abc import Callable

from etcdtw.errors import EtcdError, TooManyRequests
from etcdtw.pb.rpc_pb2 import LeaseKeepAliveRequest, LeaseTimeToLiveResponse
from etcdtw.proxy.grpc.keepalives import KeepAlives
from etcdtw.proxy.grpc.namespace import Namespace
from etcdtw.proxy.grpc.streams import SharedStream
from etcdtw.proxy.grpc.upstream import Identity, Metadata, Upstream, identity_of
from etcdtw.rpc import Router, StreamCall, UnaryCall

SERVICE = "/etcdserverpb.Lease/"
_KEEP_ALIVE = SERVICE + "LeaseKeepAlive"
WISHES_MAX = 100_000
"""Renewals that one stream may wait for: while the cluster is away nothing else bounds them."""


class LeaseService:
    """Renewals are shared; how a lease is, is told without what lies outside of the namespace."""

    def __init__(self, upstream: Upstream, namespace: Namespace | None = None) -> None:
        self.upstream = upstream
        self._namespace = namespace
        self._sessions: dict[Identity, KeepAliveSession] = {}

    def register(self, router: Router) -> None:
        router.add_stream(_KEEP_ALIVE, lambda call: self._session(call.metadata).serve(call))
        if self._namespace is not None:
            router.add_unary(SERVICE + "LeaseTimeToLive", self._time_to_live)

    def stop(self) -> None:
        for each in list(self._sessions.values()):
            each.stream.close()

    def _time_to_live(self, call: UnaryCall, body: bytes) -> None:
        namespace = self._namespace
        assert namespace is not None, "without a namespace the answer is passed on as it is"

        def answered(answer: bytes | EtcdError) -> None:
            if isinstance(answer, EtcdError):
                call.fail(answer)
                return
            response = LeaseTimeToLiveResponse.FromString(answer)
            namespace.lease_told(response)
            call.reply(response.SerializeToString())

        self.upstream.forward(call, body, answered, repeatable=True)

    def _session(self, metadata: Metadata) -> KeepAliveSession:
        identity = identity_of(metadata)
        session = self._sessions.get(identity)
        if session is None:
            session = self._sessions[identity] = KeepAliveSession(self.upstream, dict(identity))
            session.on_empty = lambda: self._sessions.pop(identity, None)
        return session


class KeepAliveSession:
    """Clients with the same token, on one stream to the cluster for as long as there are any."""

    def __init__(self, upstream: Upstream, metadata: Metadata) -> None:
        self.keep_alives = KeepAlives()
        self.stream = SharedStream(upstream, _KEEP_ALIVE, metadata, self.keep_alives)
        self.stream.on_refused = self._refused
        self.on_empty: Callable[[], object] = lambda: None
        self._keepers: dict[ClientKeeper, None] = {}

    def serve(self, call: StreamCall) -> None:
        self._keepers[ClientKeeper(self, call)] = None

    def ask(self, keeper: ClientKeeper, lease_id: int) -> None:
        self.keep_alives.ask(keeper, lease_id)
        self.stream.look()

    def left(self, keeper: ClientKeeper) -> None:
        if keeper in self._keepers:
            del self._keepers[keeper]
            self.keep_alives.forget(keeper)
            if not self._keepers:
                self.stream.close()
                self.on_empty()

    def _refused(self, error: EtcdError) -> None:
        for each in list(self._keepers):
            each.end(error)


class ClientKeeper:
    """One client's stream."""

    def __init__(self, session: KeepAliveSession, call: StreamCall) -> None:
        self._session = session
        self._call = call
        self._due = 0
        self._is_half_closed = False
        call.on_message = self._message
        call.on_half_close = self._half_closed
        call.on_cancel = lambda: session.left(self)

    def _message(self, body: bytes) -> None:
        if self._due >= WISHES_MAX:
            self.end(TooManyRequests())
            return
        self._due += 1
        self._session.ask(self, LeaseKeepAliveRequest.FromString(body).ID)

    def _half_closed(self) -> None:
        self._is_half_closed = True
        self._end_if_done()

    def renewed(self, body: bytes) -> None:
        self._due -= 1
        self._call.send(body)
        self._end_if_done()

    def end(self, error: EtcdError | None) -> None:
        self._call.finish(error)
        self._session.left(self)

    def _end_if_done(self) -> None:
        if self._is_half_closed and not self._due:
            self.end(None)
