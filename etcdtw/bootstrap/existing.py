"""Joining a cluster that is there: its members are asked who belongs to it.

The checks and their words are etcd's: every listed member must be one that the cluster knows by
its peer URLs, and no more and no fewer; names are not compared, ids are taken over.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, DeferredList
from twisted.logger import Logger

from etcdtw.bootstrap.addresses import Addresses, compare_by_address
from etcdtw.bootstrap.interfaces import BootstrapSettings, ClusterPlan, PlannedMember, ReactorView
from etcdtw.bootstrap.refusal import BootstrapError, BootstrapUnavailable
from etcdtw.bootstrap.waiting import Patience, a_turn
from etcdtw.ids import format_id
from etcdtw.peer.calling import Calls, HttpCaller
from etcdtw.version import ETCD_VERSION, parsed_version

ASK_SECONDS = 10.0
FOUNDED_SECONDS = 1.0
OLDEST_CLUSTER = (3, 0)

log = Logger(namespace="etcdtw.bootstrap")


@dataclass(frozen=True)
class RemoteMember:
    """A member as the cluster shows it."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool


@dataclass(frozen=True)
class RemoteCluster:
    """What the first member that answered said."""

    cluster_id: int
    members: tuple[RemoteMember, ...]

    def listed(self) -> str:
        """Its members, for a person."""
        return ", ".join(
            f"{each.name or 'not started'}={' '.join(each.peer_urls)}" for each in self.members
        )

    def go_text(self) -> str:
        """As etcd's messages print a cluster."""
        shown = " ".join(
            f"&{{ID:{format_id(each.id)} RaftAttributes:{{PeerURLs:[{' '.join(each.peer_urls)}] "
            f"IsLearner:{str(each.is_learner).lower()}}} Attributes:{{Name:{each.name} "
            f"ClientURLs:[{' '.join(each.client_urls)}]}}}}"
            for each in self.members
        )
        return f"{{ClusterID:{format_id(self.cluster_id)} Members:[{shown}] RemovedMemberIDs:[]}}"


async def join_plan(settings: BootstrapSettings, reactor: ReactorView) -> ClusterPlan:
    """The plan of a member that joins. BootstrapError when it may not."""
    await a_turn(reactor)  # checks before this need nobody else
    caller = HttpCaller(reactor, ASK_SECONDS, tls=settings.peer_tls)
    try:
        others = [
            url for name, urls in settings.initial_cluster if name != settings.name for url in urls
        ]
        cluster = await ask_for_cluster(settings, sorted(others), caller, reactor)
        return await plan_of(cluster, settings, caller, reactor)
    finally:
        caller.stop()


async def plan_of(
    cluster: RemoteCluster, settings: BootstrapSettings, caller: Calls, reactor: ReactorView
) -> ClusterPlan:
    """The plan of a member that joins this cluster. BootstrapError when it may not."""
    own = (await match_members(settings, cluster, reactor))[settings.name]
    await check_versions(caller, settings, cluster)
    for warning in await what_we_lack(caller, cluster):
        log.warn("{warning}", warning=warning)
    return ClusterPlan(
        cluster_id=cluster.cluster_id,
        member_id=own,
        members=tuple(
            PlannedMember(each.id, settings.name if each.id == own else each.name, each.peer_urls)
            for each in sorted(cluster.members, key=lambda each: each.id)
        ),
        token=settings.initial_cluster_token,
        new=False,
    )


async def ask_for_cluster(
    settings: BootstrapSettings, urls: Sequence[str], caller: Calls, reactor: ReactorView
) -> RemoteCluster:
    """What the first of these URLs that answers says. Without a deadline of the operator's own
    each is asked once, as etcd does."""
    patience = Patience(reactor, settings)
    while True:
        try:
            return await fetch_cluster(caller, urls)
        except BootstrapUnavailable as error:
            if not settings.timeout_seconds or not await patience.pause(error.reason):
                raise


async def fetch_cluster(caller: Calls, urls: Sequence[str]) -> RemoteCluster:
    """What the first of these URLs that answers says."""
    reasons = []
    for url in urls:
        try:
            found = await caller.call(b"GET", url + "/members", {}, b"", ASK_SECONDS)
            return _parsed(found.headers.get(b"x-etcd-cluster-id", b""), found.body)
        except CancelledError:
            raise
        except Exception as error:  # one that cannot say may have neighbours that can
            reasons.append(f"{url}: {error}")
            log.warn("failed to get cluster response", address=url, error=str(error))
    raise BootstrapUnavailable(
        "initial-cluster",
        "cannot fetch cluster info from peer urls: "
        "could not retrieve cluster information from the given URLs",
        code="ETW-BOOT-JOIN",
        hint="; ".join(reasons) or "--initial-cluster lists nobody else",
    )


async def decide_state(
    plan: ClusterPlan, settings: BootstrapSettings, reactor: ReactorView
) -> tuple[str, str]:
    """``new`` or ``existing``, and why, for a member that was told ``auto``; ``plan`` is what it
    would found."""
    await a_turn(reactor)
    caller = HttpCaller(reactor, FOUNDED_SECONDS, tls=settings.peer_tls)
    try:
        return state_by_answers(plan, await ask_members(plan, caller))
    finally:
        caller.stop()


def state_by_answers(
    plan: ClusterPlan, answers: Sequence[tuple[str, RemoteCluster]]
) -> tuple[str, str]:
    """The same from what peers say. Whoever has not founded this very cluster is to be joined:
    that tells one who was added from one who is missing, which the own data directory cannot."""
    if not answers:
        return "new", "none of the listed peers answers"
    for url, cluster in answers:
        if cluster.cluster_id != plan.cluster_id:
            return "existing", f"{url} belongs to cluster {format_id(cluster.cluster_id)}"
        if plan.member_id not in {each.id for each in cluster.members}:
            return "existing", f"{url} knows this member by another id, or not at all"
    return "new", f"{answers[0][0]} is of the same new cluster"


async def check_others(plan: ClusterPlan, caller: Calls) -> None:
    """Before a cluster is founded: BootstrapError if the listed peers belong to another one, or
    know this member already.

    Who founds his cluster a second time, having lost his data, would vote twice in one term, and
    take empty what others count as written.
    """
    seen = await ask_members(plan, caller)
    strangers = [each for each in seen if each[1].cluster_id != plan.cluster_id]
    others = len(plan.members) - 1
    if strangers and len(strangers) == len(seen) and 2 * len(seen) > others:
        raise _conflict(plan, *strangers[0])
    for url, cluster in seen:
        for known in cluster.members:
            if known.id == plan.member_id and known.client_urls:
                raise bootstrapped(known, url)


async def ask_members(plan: ClusterPlan, caller: Calls) -> list[tuple[str, RemoteCluster]]:
    """What the other members of a plan say about their cluster, as far as they are up: one answer
    each, and the URL that it came from."""
    others = [each for each in plan.members if each.id != plan.member_id]
    calls = [(each, url) for each in others for url in each.peer_urls]
    answers = await DeferredList(
        [caller.call(b"GET", url + "/members", {}, b"", FOUNDED_SECONDS) for _, url in calls],
        consumeErrors=True,
    )
    seen: dict[int, tuple[str, RemoteCluster]] = {}
    for (member, url), (is_answer, found) in zip(calls, answers, strict=True):
        if not is_answer:
            continue  # not up yet, as is usual while a cluster is founded
        try:
            cluster = _parsed(found.headers.get(b"x-etcd-cluster-id", b""), found.body)
        except Exception as error:  # whoever cannot say is no reason to stay out
            log.debug("a listed peer does not show members", address=url, error=str(error))
            continue
        seen[member.id] = url, cluster
    return list(seen.values())


def _conflict(plan: ClusterPlan, url: str, cluster: RemoteCluster) -> BootstrapError:
    theirs, own = format_id(cluster.cluster_id), format_id(plan.cluster_id)
    return BootstrapError(
        "initial-cluster",
        f"conflicting cluster ID to the target cluster ({theirs} != {own})",
        code="ETW-BOOT-CLUSTER",
        sentence=(
            f"etcd: conflicting cluster ID to the target cluster ({theirs} != {own}). Exiting."
        ),
        hint=(
            f"{url} belongs to a cluster of {cluster.listed()}; to join it: 'etcdctl member add', "
            "then start with --initial-cluster-state existing; to found another one beside "
            "it, list no member of this one"
        ),
    )


def bootstrapped(member: RemoteMember, source: str) -> BootstrapError:
    """The refusal of a member that was started before, as ``source`` says."""
    shown = format_id(member.id)
    return BootstrapError(
        "initial-cluster-state",
        f"member {shown} has already been bootstrapped",
        code="ETW-BOOT-AGAIN",
        hint=(
            f"{source} knows it as {member.name!r}, which served {' '.join(member.client_urls)}, "
            "and its data directory is not here; if that is lost: "
            f"'etcdctl member remove {shown}', 'etcdctl member add', and start with "
            "--initial-cluster-state existing"
        ),
    )


def _parsed(cluster: bytes, body: bytes) -> RemoteCluster:
    fields: list[dict[str, Any]] = json.loads(body)
    members = tuple(
        RemoteMember(
            int(each["id"]),
            each.get("name", ""),
            tuple(each["peerURLs"]),
            tuple(each.get("clientURLs") or ()),
            each.get("isLearner", False) is True,
        )
        for each in fields
    )
    return RemoteCluster(int(cluster, 16), members)


async def match_members(
    settings: BootstrapSettings, cluster: RemoteCluster, reactor: ReactorView
) -> dict[str, int]:
    """The ids of the listed members, by name."""
    listed = dict(settings.initial_cluster)
    if len(listed) != len(cluster.members):
        raise _mismatch(cluster, "member count is unequal", settings)
    addresses = Addresses(reactor, settings)
    ids: dict[str, int] = {}
    left = dict(listed)
    for member in cluster.members:
        why = ""
        for name, urls in left.items():
            if sorted(urls) == sorted(member.peer_urls):
                why = ""
            else:
                why = await compare_by_address(addresses, member.peer_urls, urls)
            if not why:
                ids[name] = member.id
                del left[name]
                break
        else:
            shown = " ".join(member.peer_urls)
            raise _mismatch(
                cluster,
                f"PeerURLs: no match found for existing member ({format_id(member.id)}, "
                f"[{shown}]), last resolver error ({why})",
                settings,
            )
    return ids


def _mismatch(cluster: RemoteCluster, why: str, settings: BootstrapSettings) -> BootstrapError:
    return BootstrapError(
        "initial-cluster",
        f"error validating peerURLs {cluster.go_text()}: {why}",
        code="ETW-BOOT-MEMBERS",
        hint=(
            f"the cluster has {cluster.listed()}; a new member is added first ('etcdctl member add "
            f"{settings.name} --peer-urls=…'), and --initial-cluster lists all"
        ),
    )


async def what_we_lack(caller: Calls, cluster: RemoteCluster) -> list[str]:
    """What the cluster uses, as far as its members tell their clients, that a member of this build
    replicates but does not serve."""
    auth = await _first_json(caller, cluster, b"POST", "/v3/auth/status", b"{}")
    warnings = []
    if auth.get("enabled") is True:
        warnings.append(
            "the cluster has auth enabled, which this build cannot check yet: this member will "
            "keep what the others write, and refuse clients"
        )
    return warnings


async def _first_json(
    caller: Calls, cluster: RemoteCluster, method: bytes, path: str, body: bytes
) -> dict[str, Any]:
    """What the first member says that says anything; nothing if none does."""
    for member in cluster.members:
        for url in member.client_urls:
            try:
                found = await caller.call(method, url + path, {}, body, FOUNDED_SECONDS)
                answer = json.loads(found.body)
            except Exception as error:  # a hint that cannot be had keeps nobody from joining
                log.debug("no answer from {url}: {error}", url=url + path, error=str(error))
                continue
            return answer if isinstance(answer, dict) else {}
    return {}


async def check_versions(
    caller: Calls, settings: BootstrapSettings, cluster: RemoteCluster
) -> None:
    """No member that answers may have a cluster version that this release cannot join."""
    own = parsed_version(ETCD_VERSION)[:2]
    for member in cluster.members:
        if settings.peer_urls and sorted(member.peer_urls) == sorted(settings.peer_urls):
            continue
        for url in member.peer_urls:
            try:
                found = await caller.call(b"GET", url + "/version", {}, b"", ASK_SECONDS)
                version = parsed_version(json.loads(found.body)["etcdcluster"])[:2]
            except Exception as error:  # whoever does not say is no reason to stay out
                log.warn("failed to get version of a member", address=url, error=str(error))
                continue
            if not OLDEST_CLUSTER <= version <= own:
                raise BootstrapError(
                    "initial-cluster-state",
                    "incompatible with current running cluster",
                    code="ETW-BOOT-VERSION",
                    hint=f"{url} says that the cluster's version is {version[0]}.{version[1]}",
                )
            break
