"""Calls of etcd's API that this build does not serve: they say so instead of being unknown."""

from __future__ import annotations

from etcdtw.errors import Unimplemented
from etcdtw.rpc import Router, StreamCall, UnaryCall
from etcdtw.rpc.all_methods import missing_methods


def refuse_the_rest(router: Router) -> None:
    """Answer every method that nobody has registered with Unimplemented and a sentence."""
    for path, kind in missing_methods(router):
        if kind == "unary":
            router.add_unary(path, _refuse_unary)
        else:
            router.add_stream(path, _refuse_stream, kind)


def _refusal(path: str) -> Unimplemented:
    return Unimplemented(f"etcdserver: {path.rpartition('.')[2]} is not available in this build")


def _refuse_unary(call: UnaryCall, body: bytes) -> None:
    raise _refusal(call.method.path)


def _refuse_stream(call: StreamCall) -> None:
    raise _refusal(call.method.path)
