"""Everything that a member serves, and that passes through the proxy as it is."""

from __future__ import annotations

from etcdtw.proxy.grpc.streams import ForwardedStream
from etcdtw.proxy.grpc.upstream import Upstream
from etcdtw.rpc import Router, StreamCall, UnaryCall
from etcdtw.rpc.all_methods import missing_methods

_REPEATABLE = frozenset(
    {
        "LeaseTimeToLive", "LeaseLeases", "MemberList", "Status", "Hash", "HashKV",
        "AuthStatus", "UserGet", "UserList", "RoleGet", "RoleList", "Leader",
    }
)  # fmt: skip
"""They change nothing: it does no harm to make them again elsewhere."""


def forward_the_rest(router: Router, upstream: Upstream) -> None:
    """Pass on every method of etcd's API that nobody has registered."""
    for path, kind in missing_methods(router):
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
