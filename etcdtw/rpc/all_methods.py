"""Every method of etcd's API, whoever serves it."""

from __future__ import annotations

from collections.abc import Iterator

from etcdtw.errors import EtcdError
from etcdtw.pb import election_pb2, lock_pb2, rpc_pb2

from .router import Kind, Router

_OWN_PACKAGE = "etcdtw."


def missing_methods(router: Router) -> Iterator[tuple[str, Kind]]:
    """Path and kind of those that nobody has registered yet."""
    for file in (rpc_pb2, lock_pb2, election_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            name = service.full_name.removeprefix(_OWN_PACKAGE)
            for method in service.methods:
                path = f"/{name}/{method.name}"
                if isinstance(router.find(path), EtcdError):
                    yield path, _kind(method.client_streaming, method.server_streaming)


def _kind(client_streaming: bool, server_streaming: bool) -> Kind:
    if client_streaming:
        return "bidi_stream"
    return "server_stream" if server_streaming else "unary"
