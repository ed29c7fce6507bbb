"""The HTTP pages of a member's two ports, over one of its lives."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from etcdtw.api.gateway.gateway import Gateway
from etcdtw.api.http.access import Access
from etcdtw.api.http.checks import member_checks
from etcdtw.api.http.debug import debug_pages
from etcdtw.api.http.log_level import LogLevelPage
from etcdtw.api.http.requests import Resource
from etcdtw.api.http.resources import DowngradeEnabled, Health, Members, Version
from etcdtw.api.http.site import Site
from etcdtw.api.http.views import MemberCluster, MemberHealth
from etcdtw.api.metrics.member import families
from etcdtw.api.metrics.page import MetricsPage
from etcdtw.api.peer.hashkv import HashKvPage
from etcdtw.api.peer.leases import LeasesPage
from etcdtw.api.peer.promote import PROMOTE_PREFIX, PromoteTree
from etcdtw.api.peer.raft import STREAM_PREFIX, Probing, RaftPage, StreamTree
from etcdtw.api.peer.snapshot import Receiver, SnapshotPage
from etcdtw.api.v2.auth import AUTH_PREFIX, AuthPage
from etcdtw.api.v2.keys import KEYS_PREFIX
from etcdtw.api.v2.members import MEMBERS_PREFIX, Machines, MembersPage
from etcdtw.api.v2.stats import STATS_PREFIX, Stats
from etcdtw.app.assemble import Core
from etcdtw.app.command_line import told_command_line
from etcdtw.app.log import verbosity
from etcdtw.app.parts import V2_SERVED
from etcdtw.config.urls import parse_url_list
from etcdtw.counting import ReceivedCounts, TLSCounts
from etcdtw.peer.snapshots import SNAPSHOT_PATH
from etcdtw.peer.transport import PeerTransport
from etcdtw.rpc import ClientPortFactory

OBSERVED = (b"/health", b"/livez", b"/readyz", b"/metrics")
"""What ``--listen-metrics-urls`` show."""


def client_sites(
    core: Core,
    gateway: Gateway | None,
    factory: ClientPortFactory,
    reactor: Any,
    tls: Mapping[str, TLSCounts],
    received: ReceivedCounts,
) -> tuple[Site, Site]:
    """The sites of the client port, and of the ports that only show how the member is."""
    settings = core.settings
    view = MemberHealth(core.replica, core.alarms)
    health = Health(view)
    pages: dict[bytes, Resource] = {
        b"/health": health,
        b"/version": Version(MemberCluster(core.cluster_id, core.members)),
        b"/config/local/log": LogLevelPage(lambda: verbosity.level, verbosity.set_level),
        **debug_pages(core.router, reactor, settings.enable_pprof, told_command_line(settings)),
    }
    checks = member_checks(view)
    for each in checks:
        pages.update(each.pages())
    shown = families(core.sources, health, factory, checks, tls, received)
    pages[b"/metrics"] = MetricsPage(shown, reactor)
    observed = {path: page for path, page in pages.items() if path.startswith(OBSERVED)}
    trees: dict[bytes, Resource] = {} if gateway is None else {b"/v3/": gateway}
    if settings.enable_v2 and settings.v2_deprecation == V2_SERVED:
        for path, page in _v2_pages(core).items():
            (trees if path.endswith(b"/") else pages)[path] = page
    access = Access(settings.cors, settings.host_whitelist)
    return Site(pages, trees, access), Site(observed)


def _v2_pages(core: Core) -> dict[bytes, Resource]:
    members = MembersPage(
        core.cluster,
        core.members,
        core.cluster_id,
        lambda: core.replica.leader,
        parse_url_list,
        core.keys.users,
    )
    stats = Stats(
        core.replica, core.members, core.v2store, core.member_id, core.settings.name, time.time
    )
    return {
        KEYS_PREFIX: core.keys,
        KEYS_PREFIX + b"/": core.keys,
        MEMBERS_PREFIX: members,
        MEMBERS_PREFIX + b"/": members,
        b"/v2/machines": Machines(core.members),
        STATS_PREFIX: stats,
        AUTH_PREFIX: AuthPage(core.keys.users, core.cluster_id),
    }


def peer_site(core: Core, transport: PeerTransport, receiver: Receiver, reactor: Any) -> Site:
    """The site of the peer port."""
    cluster = MemberCluster(core.cluster_id, core.members)
    leases = LeasesPage(core.replica, core.leases, reactor)
    pages: dict[bytes, Resource] = {
        b"/version": Version(cluster),
        b"/members": Members(cluster),
        b"/downgrade/enabled": DowngradeEnabled(
            cluster, lambda: core.members.downgrade_target is not None
        ),
        b"/members/hashkv": HashKvPage(core.store, core.slices, core.cluster_id),
        b"/leases": leases,
        b"/leases/internal": leases,
        b"/raft": RaftPage(transport),
        b"/raft/probing": Probing(time.time),
        SNAPSHOT_PATH.encode(): SnapshotPage(transport, receiver),
    }
    trees: dict[bytes, Resource] = {
        STREAM_PREFIX: StreamTree(transport),
        PROMOTE_PREFIX: PromoteTree(core.cluster, core.members, core.cluster_id),
    }
    return Site(pages, trees)
