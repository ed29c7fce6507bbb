"""Founding a cluster from ``--initial-cluster``: all members are known before the start.

The checks and their order are etcd's: the own name is listed, the advertised peer URLs are the
listed ones (by address where the texts differ), no URL is listed twice. Member ids come from the
URLs and the token, so that every member computes the same cluster without talking to the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from etcdtw.bootstrap.interfaces import (
    BootstrapSettings,
    ClusterPlan,
    IBootstrapProvider,
    PlannedMember,
    ReactorView,
)
from etcdtw.bootstrap.refusal import BootstrapError
from etcdtw.ids import cluster_id, member_id

log = Logger(namespace="etcdtw.bootstrap")

Members = Sequence[tuple[str, tuple[str, ...]]]


@implementer(IBootstrapProvider)
class StaticProvider:
    """Plans from the settings alone; asks the DNS only where names are compared."""

    def __init__(self, reactor: ReactorView) -> None:
        self._reactor = reactor

    def plan(self, settings: BootstrapSettings) -> Deferred[ClusterPlan]:
        return Deferred.fromCoroutine(self._plan(settings))

    async def _plan(self, settings: BootstrapSettings) -> ClusterPlan:
        check_size(settings)
        check_listed(settings)
        difference = await self._addresses_differ(settings)
        if difference:
            raise differing_urls(settings, difference)
        check_unique(settings)
        check_state(settings)
        plan, state = static_plan(settings), settings.initial_cluster_state
        if state == "new" or (state == "auto" and len(plan.members) == 1):
            return plan
        # Only who asks others needs what asks them.
        from etcdtw.bootstrap.existing import decide_state, join_plan

        if state == "auto":
            state, why = await decide_state(plan, settings, self._reactor)
            log.info("decided the initial cluster state", state=state, because=why)
        return await join_plan(settings, self._reactor) if state == "existing" else plan

    async def _addresses_differ(self, settings: BootstrapSettings) -> str:
        ours, listed = settings.peer_urls, listed_urls(settings)
        if sorted(ours) == sorted(listed):
            return ""
        from etcdtw.bootstrap.addresses import Addresses, compare_by_address

        return await compare_by_address(Addresses(self._reactor, settings), ours, listed)


def static_plan(settings: BootstrapSettings) -> ClusterPlan:
    """The plan of settings that passed the checks."""
    token = settings.initial_cluster_token
    members = [
        PlannedMember(member_id(urls, token), name, urls) for name, urls in settings.initial_cluster
    ]
    members.sort(key=lambda member: member.id)
    own = next(member for member in members if member.name == settings.name)
    return ClusterPlan(
        cluster_id=cluster_id(member.id for member in members),
        member_id=own.id,
        members=tuple(members),
        token=token,
        new=True,
    )


def check_listed(settings: BootstrapSettings) -> None:
    """The own name must be one of the listed ones."""
    names = [name for name, _ in settings.initial_cluster]
    if settings.name in names:
        return
    own = ",".join(settings.peer_urls)
    listed = members_text(settings.initial_cluster) or "nobody"
    hint = f"--name is {settings.name!r} with {own}, --initial-cluster lists {listed}"
    owner = _owner(settings)
    near = nearest([settings.name], names)
    if owner:
        hint += f"; the own peer URL is listed as {owner!r}: use --name {owner}"
    elif near:
        hint += f"; the nearest name is {near!r}: use --name {near}"
    raise BootstrapError(
        "initial-cluster",
        f'couldn\'t find local name "{settings.name}" in the initial cluster configuration',
        code="ETW-BOOT-NAME",
        sentence=f"etcd: {settings.name} not listed in the initial cluster config",
        hint=hint,
    )


def check_size(settings: BootstrapSettings) -> None:
    """As many members must be listed as ``--bootstrap-expect`` says."""
    size, expected = len(settings.initial_cluster), settings.expected_size
    if not expected or size == expected:
        return
    raise BootstrapError(
        "bootstrap-expect",
        f"{size} of {expected} expected members are listed",
        code="ETW-BOOT-EXPECT",
        hint=f"listed: {members_text(settings.initial_cluster) or 'nobody'}",
    )


def check_state(settings: BootstrapSettings) -> None:
    """Joining needs another member to ask."""
    if settings.initial_cluster_state != "existing" or len(settings.initial_cluster) > 1:
        return
    raise BootstrapError(
        "initial-cluster-state",
        "cannot fetch cluster info from peer urls: "
        "could not retrieve cluster information from the given URLs",
        code="ETW-BOOT-JOIN",
        hint="--initial-cluster lists nobody else; --initial-cluster-state new founds a cluster",
    )


def check_unique(settings: BootstrapSettings, what: str = "initial cluster") -> None:
    """No URL may be listed twice; ``what`` the list is called in the refusal."""
    counts = Counter(url for _, urls in settings.initial_cluster for url in urls)
    twice = [url for url, count in counts.items() if count > 1]
    if not twice:
        return
    raise BootstrapError(
        "initial-cluster",
        f"{what} {members_text(settings.initial_cluster)} has duplicate url",
        code="ETW-BOOT-DUPLICATE",
        hint=f"listed more than once: {', '.join(twice)}",
    )


def listed_urls(settings: BootstrapSettings) -> tuple[str, ...]:
    """The URLs that the list gives to this member."""
    return dict(settings.initial_cluster).get(settings.name, ())


def differing_urls(settings: BootstrapSettings, difference: str) -> BootstrapError:
    """The refusal when advertised URLs are not the listed ones, from either side."""
    own, listed = settings.peer_urls, listed_urls(settings)
    unadvertised = [f"{settings.name}={url}" for url in listed if url not in own]
    unlisted = [url for url in own if url not in listed]
    own_text, cluster_text = ",".join(own), members_text([(settings.name, own)])
    if unadvertised:
        reason = (
            f"--initial-cluster has {','.join(unadvertised)} but missing from "
            f"--initial-advertise-peer-urls={own_text} ({difference})"
        )
    elif unlisted:
        reason = (
            f"--initial-advertise-peer-urls has {','.join(unlisted)} but missing from "
            f"--initial-cluster={cluster_text}"
        )
    else:
        reason = f"failed to resolve {own_text} to match --initial-cluster={cluster_text}"
    hint = f"advertised: {own_text}; listed for {settings.name!r}: {','.join(listed)}"
    owner = _owner(settings)
    if owner:
        hint += f"; the advertised URL is listed as {owner!r}: use --name {owner}"
    else:
        hint += f"; use --initial-advertise-peer-urls {','.join(listed)}, or list the other"
    schemes = {url.partition(":")[0] for url in own}, {url.partition(":")[0] for url in listed}
    if schemes[0] != schemes[1]:
        hint += f"; the schemes differ: {'/'.join(schemes[0])} and {'/'.join(schemes[1])}"
    return BootstrapError(
        "initial-advertise-peer-urls",
        reason,
        code="ETW-BOOT-URLS",
        sentence=(
            f"etcd: error setting up initial cluster: {settings.name} has different "
            "advertised URLs in the cluster and advertised peer URLs list"
        ),
        hint=hint,
    )


def _owner(settings: BootstrapSettings) -> str:
    """Who else is listed with one of the own URLs."""
    own = set(settings.peer_urls)
    owners = (name for name, urls in settings.initial_cluster if own & set(urls))
    return next((name for name in owners if name != settings.name), "")


def nearest(texts: Iterable[str], others: Sequence[str]) -> str:
    """The one of the others that looks most like one of the texts; empty if none does."""
    from difflib import get_close_matches  # only refusals need it

    found = [near for text in texts for near in get_close_matches(text, others, n=1)]
    return found[0] if found else ""


def members_text(members: Members) -> str:
    """``name=url`` pairs by name, as etcd prints a cluster."""
    return ",".join(f"{name}={url}" for name, urls in sorted(members) for url in urls)
