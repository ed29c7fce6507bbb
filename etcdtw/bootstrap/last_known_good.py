"""``--bootstrap-provider last-known-good``: the members that this one saw last.

A running member keeps them in a file beside its data directory. Whoever has lost that directory
and was added again finds the cluster by it while nothing else knows where it is. It only ever
joins: a cluster is known to be there, so none is founded by it, nor by what a chain asks next.
"""

from __future__ import annotations

import json
from dataclasses import replace

from twisted.internet.defer import Deferred
from zope.interface import implementer

from etcdtw.bootstrap.addresses import Addresses, compare_by_address
from etcdtw.bootstrap.existing import (
    ASK_SECONDS,
    RemoteCluster,
    RemoteMember,
    ask_for_cluster,
    bootstrapped,
    plan_of,
)
from etcdtw.bootstrap.interfaces import (
    BootstrapSettings,
    ClusterPlan,
    IBootstrapProvider,
    ReactorView,
)
from etcdtw.bootstrap.known_cluster import KnownCluster, known_path
from etcdtw.bootstrap.lists import FLAG, bad_list, no_list
from etcdtw.bootstrap.refusal import BootstrapError, BootstrapUnavailable
from etcdtw.bootstrap.waiting import a_turn
from etcdtw.ids import format_id
from etcdtw.peer.calling import Calls, HttpCaller


def read_known(path: str) -> KnownCluster:
    """What the file says. BootstrapUnavailable if it is not there, BootstrapError if it is no such
    file."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        members = tuple(
            (str(each["name"]), tuple(str(url) for url in each["peer-urls"]))
            for each in found["members"]
        )
        return KnownCluster(int(found["cluster-id"], 16), members)
    except FileNotFoundError:
        raise no_list(f"no cluster is known from before: {path} is not there") from None
    except OSError as error:
        raise no_list(f"open {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise bad_list(
            f"{path} is no list of members last seen ({error!r}); remove it if that is lost"
        ) from None


@implementer(IBootstrapProvider)
class LastKnownGood:
    """Joins the cluster of which the file tells."""

    def __init__(self, reactor: ReactorView) -> None:
        self._reactor = reactor

    def plan(self, settings: BootstrapSettings) -> Deferred[ClusterPlan]:
        return Deferred.fromCoroutine(self._plan(settings))

    async def _plan(self, settings: BootstrapSettings) -> ClusterPlan:
        known = read_known(known_path(settings))
        await a_turn(self._reactor)  # what needs no answer was checked before
        caller = HttpCaller(self._reactor, ASK_SECONDS, tls=settings.peer_tls)
        try:
            return await join_known(known, settings, caller, self._reactor)
        finally:
            caller.stop()


async def join_known(
    known: KnownCluster, settings: BootstrapSettings, caller: Calls, reactor: ReactorView
) -> ClusterPlan:
    """The plan of a member that joins the cluster that it knows. BootstrapError."""
    path, urls = known_path(settings), known.urls_but(settings.peer_urls)
    try:
        cluster = await ask_for_cluster(settings, urls, caller, reactor)
    except BootstrapUnavailable as error:
        error.known_cluster = known.cluster_id
        raise
    if cluster.cluster_id != known.cluster_id:
        raise BootstrapError(
            FLAG,
            f"conflicting cluster ID to the target cluster ({format_id(cluster.cluster_id)} != "
            f"{format_id(known.cluster_id)})",
            code="ETW-BOOT-CLUSTER",
            hint=f"the members in {path} belong to another cluster now: {cluster.listed()}",
        )
    own = await _own(cluster, settings, reactor)
    if own is None:
        raise BootstrapError(
            FLAG,
            f"member {settings.name} is not in the cluster {format_id(cluster.cluster_id)}",
            code="ETW-BOOT-MEMBERS",
            hint=(
                f"it has {cluster.listed()}; this one is added first: 'etcdctl member add "
                f"{settings.name} --peer-urls={','.join(settings.peer_urls)}'"
            ),
        )
    if own.client_urls:
        raise bootstrapped(own, f"the cluster of {path}")
    # Members are told apart by their URLs; names may be missing, or be there twice.
    listed = [(format_id(each.id), each.peer_urls) for each in cluster.members if each != own]
    listed.append((settings.name, own.peer_urls))
    asked = replace(settings, initial_cluster=tuple(listed))
    return await plan_of(cluster, asked, caller, reactor)


async def _own(
    cluster: RemoteCluster, settings: BootstrapSettings, reactor: ReactorView
) -> RemoteMember | None:
    addresses = Addresses(reactor, settings)
    for each in cluster.members:
        if sorted(each.peer_urls) == sorted(settings.peer_urls):
            return each
    for each in cluster.members:
        if not await compare_by_address(addresses, each.peer_urls, settings.peer_urls):
            return each
    return None
