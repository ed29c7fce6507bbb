"""Calls of etcd's API that this build does not serve: they say so instead of being unknown."""

from __future__ import annotations

from collections.abc import Iterator

from etcdtw.errors import EtcdError, Unimplemented
from etcdtw.pb import election_pb2, lock_pb2, rpc_pb2
from etcdtw.rpc import Router, StreamCall, UnaryCall
from etcdtw.rpc.router import Kind

_OWN_PACKAGE = "etcdtw."


def refuse_the_rest(router: Router) -> None:
    """Answer every method that nobody has registered with Unimplemented and a sentence."""
    for path, kind in _all_methods():
        if not isinstance(router.find(path), EtcdError):
            continue
        if kind == "unary":
            router.add_unary(path, _refuse_unary)
        else:
            router.add_stream(path, _refuse_stream, kind)


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


def _refusal(path: str) -> Unimplemented:
    return Unimplemented(f"etcdserver: {path.rpartition('.')[2]} is not available in this build")


def _refuse_unary(call: UnaryCall, body: bytes) -> None:
    raise _refusal(call.method.path)


def _refuse_stream(call: StreamCall) -> None:
    raise _refusal(call.method.path)
