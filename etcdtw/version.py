"""Which etcd this is on the wire, and which release of our own."""

from __future__ import annotations

ETCD_VERSION = "3.5.1"
"""What ``/version``, Status and peers are told: the release whose behaviour is followed."""

CLUSTER_VERSION = "3.5.0"
"""The cluster version that a cluster of such members agrees on."""

ETCDTW_VERSION = "0.1.0"


def parsed_version(text: str) -> tuple[int, ...]:
    """``3.5.0`` as numbers to compare; ValueError for something else."""
    return tuple(int(part) for part in text.split("."))
