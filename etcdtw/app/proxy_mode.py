"""Whether a process is a member or a v2 proxy; light, for every start asks."""

from __future__ import annotations

import os

from etcdtw.app.settings import MemberSettings

CLUSTER_FILE = "cluster"
"""In the proxy's directory: the peer URLs of the members."""


def proxy_dir(settings: MemberSettings) -> str:
    """Where a proxy keeps what it knows."""
    return os.path.join(settings.data_dir, "proxy")


def is_proxy(settings: MemberSettings) -> bool:
    """Whether this is to be a proxy: it is asked for, or was one before and is no member."""
    if os.path.isdir(os.path.join(settings.data_dir, "member")):
        return settings.proxy != "off"
    return settings.proxy != "off" or os.path.isdir(proxy_dir(settings))


def way_to_members(settings: MemberSettings) -> str:
    """The flag by which a proxy finds the members: etcd takes the first that is set, and the last
    has a default."""
    if settings.discovery:
        return "discovery"
    if settings.discovery_endpoints:
        return "discovery-endpoints"
    return "discovery-srv" if settings.discovery_srv else "initial-cluster"
