"""Everything that a member serves, and that passes through the proxy as it is."""

from __future__ import annotations

from collections.abc import Iterator

from etcdtw.errors import EtcdError
from etcdtw.pb import election_pb2, lock_pb2, rpc_pb2
from etcdtw.proxy.grpc.streams import ForwardedStream
from etcdtw.proxy.grpc.upstream import Upstream
from etcdtw.rpc import Router, StreamCall, UnaryCall
from etcdtw.rpc.router import Kind

_OWN_PACKAGE = "etcdtw."
_REPEATABLE = frozenset(
    {
        "LeaseTimeToLive", "LeaseLeases", "MemberList", "Status", "Hash", "HashKV",
        "AuthStatus", "UserGet", "UserList", "RoleGet", "RoleList", "Leader",
    }
)  # fmt: skip
"""They change nothing: it does no harm to make them again elsewhere."""


def forward_the_rest(router: Router, upstream: Upstream) -> None:
    """Pass on every method of etcd's API that nobody has registered."""
    for path, kind in _all_methods():
        if not isinstance(router.find(path), EtcdError):
            continue
        if kind == "unary":
            repeatable = path.rpartition("/")[2] in _REPEATABLE
            router.add_unary(path, _Unary(upstream, repeatable))
        else:
            assert kind == "server_stream", f"{path} is a conversation"
            router.add_stream(path, _Stream(upstream), kind)


class _Unary:
    def __init__(self, upstream: Upstream, repeatable: bool) -> None:
        self._upstream = upstream
        self._repeatable = repeatable

    def __call__(self, call: UnaryCall, body: bytes) -> None:
        self._upstream.forward(call, body, repeatable=self._repeatable)


class _Stream:
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def __call__(self, call: StreamCall) -> None:
        ForwardedStream(self._upstream, call)


def _all_methods() -> Iterator[tuple[str, Kind]]:
    for file in (rpc_pb2, lock_pb2, election_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            name = service.full_name.removeprefix(_OWN_PACKAGE)
            for method in service.methods:
                kind: Kind = "unary"
                if method.client_streaming:
                    kind = "bidi_stream"
                elif method.server_streaming:
                    kind = "server_stream"
                yield f"/{name}/{method.name}", kind
