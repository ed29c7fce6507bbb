"""The servers that the documents can be played against, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.process.member import old_etcd, real_etcd, server_under_test

OURS = "etcdtw"
SERVERS: dict[str, Callable[[], Sequence[str]]] = {
    OURS: server_under_test,
    "etcd-3.5.1": real_etcd,
    "etcd-3.4.23": old_etcd,
}
MIXED = f"{OURS}+etcd-3.5.1"
"""Our members, and a real one in the place of infra2."""


def command(server: str, machine: str) -> Sequence[str]:
    """What ``etcd`` means on a machine; skips the test where that is not installed."""
    first, _, second = server.partition("+")
    return SERVERS[second if second and machine == "infra2" else first]()
