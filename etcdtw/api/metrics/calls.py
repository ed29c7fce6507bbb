"""Metrics of gRPC calls, of whoever serves them."""

from __future__ import annotations

from collections.abc import Iterator

from etcdtw.api.metrics.families import Family
from etcdtw.errors import Code
from etcdtw.rpc import Router
from etcdtw.rpc.router import Method


# fmt: off
def call_families(router: Router) -> list[Family]:
    """Calls by method and their bytes, and how long they took where that is noted."""
    return [
        Family("grpc_server_started_total", "counter", "RPCs begun.",
               lambda: [(_method(each), each.started) for each in router.methods()]),
        Family("grpc_server_handled_total", "counter", "RPCs ended, by status.",
               lambda: _handled(router)),
        Family("grpc_server_msg_received_total", "counter", "Messages received.",
               lambda: [(_method(each), each.received or _unary(each, each.started))
                        for each in router.methods()]),
        Family("grpc_server_msg_sent_total", "counter", "Messages sent.",
               lambda: [(_method(each), each.sent or _unary(each, each.handled[0]))
                        for each in router.methods()]),
        Family("etcd_network_client_grpc_received_bytes_total", "counter",
               "Bytes of messages from clients.",
               lambda: sum(each.received_bytes for each in router.methods())),
        Family("etcd_network_client_grpc_sent_bytes_total", "counter",
               "Bytes of messages to clients.",
               lambda: sum(each.sent_bytes for each in router.methods())),
        *_times(router),
    ]


def _times(router: Router) -> Iterator[Family]:
    if router.seconds is not None:
        yield Family("grpc_server_handling_seconds", "histogram", "How long RPCs took.",
                     lambda: [(_method(each), each.times.histogram)
                              for each in router.methods() if each.times is not None])
# fmt: on


def _method(method: Method) -> dict[str, str]:
    return {
        "grpc_type": method.kind,
        "grpc_service": method.service,
        "grpc_method": method.name,
    }


def _unary(method: Method, count: int) -> int:
    return count if method.kind == "unary" else 0


def _handled(router: Router) -> Iterator[tuple[dict[str, str], float]]:
    for method in router.methods():
        labels = _method(method)
        for code, count in zip(Code, method.handled, strict=True):
            yield labels | {"grpc_code": _GO_CODES[code]}, count


_GO_CODES = {code: code.name.title().replace("_", "") for code in Code} | {Code.OK: "OK"}
