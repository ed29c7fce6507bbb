"""``--bootstrap-provider chain:ONE,TWO,…``: providers that are asked one after the other.

The next one is asked when nothing could be found out (``BootstrapUnavailable``). What contradicts
the configuration ends the chain, and no later provider founds a cluster when an earlier one knows
that this member was in one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from etcdtw.bootstrap.factories import bootstrap_factories, choose_factory
from etcdtw.bootstrap.interfaces import (
    BootstrapSettings,
    ClusterPlan,
    IBootstrapFactory,
    IBootstrapProvider,
    IDryRun,
    ReactorView,
)
from etcdtw.bootstrap.lists import FLAG, bad_list
from etcdtw.bootstrap.naming import CHAIN, links
from etcdtw.bootstrap.refusal import BootstrapError, BootstrapUnavailable
from etcdtw.bootstrap.waiting import a_turn
from etcdtw.ids import format_id

log = Logger(namespace="etcdtw.bootstrap")

Finding = ClusterPlan | str
Ask = Callable[[IBootstrapProvider, BootstrapSettings], Deferred[Any]]


@implementer(IBootstrapProvider, IDryRun)
class ChainProvider:
    """Asks the providers of a chain until one has an answer."""

    def __init__(
        self,
        reactor: ReactorView,
        installed: Callable[[], Sequence[IBootstrapFactory]] = bootstrap_factories,
    ) -> None:
        self._reactor = reactor
        self._installed = installed

    def plan(self, settings: BootstrapSettings) -> Deferred[ClusterPlan]:
        return Deferred.fromCoroutine(self._plan(settings))

    async def _plan(self, settings: BootstrapSettings) -> ClusterPlan:
        plan = await self._first(settings, lambda provider, link: provider.plan(link))
        assert isinstance(plan, ClusterPlan), "a provider has planned without a plan"
        return plan

    def look(self, settings: BootstrapSettings) -> Deferred[Finding]:
        return Deferred.fromCoroutine(self._first(settings, look))

    async def _first(self, settings: BootstrapSettings, ask: Ask) -> Finding:
        known: int | None = None
        silent = []
        for link, factory in self._chosen(settings):
            try:
                found: Finding = await ask(factory.provider(self._reactor), link)
            except BootstrapUnavailable as error:
                await a_turn(self._reactor)  # checks before the start tell nobody
                log.warn(
                    "{provider} does not know the cluster: {reason}",
                    provider=factory.name,
                    reason=error.reason,
                )
                silent.append(f"{factory.name}: {error.reason}")
                known = known or error.known_cluster
                continue
            if isinstance(found, str):
                return f"{factory.name}: {found}"
            if known is not None and found.new:
                raise _founded_before(known, found, factory.name)
            log.info("the cluster is known by {provider}", provider=factory.name)
            return replace(found, found_by=factory.name)
        last = BootstrapUnavailable(
            FLAG, f"no provider knows the cluster: {'; '.join(silent)}", code="ETW-BOOT-CHAIN"
        )
        last.known_cluster = known
        raise last

    def _chosen(
        self, settings: BootstrapSettings
    ) -> list[tuple[BootstrapSettings, IBootstrapFactory]]:
        """All of them, before the first is asked: a wrong name is not to come out late."""
        installed = self._installed()
        asked = links(settings)
        for each in asked:
            if each.provider in ("", CHAIN):
                raise bad_list(f"{FLAG} {CHAIN}:{settings.provider_argument} has an empty link")
        return [(each, choose_factory(each, installed)) for each in asked]


def look(provider: IBootstrapProvider, settings: BootstrapSettings) -> Deferred[Finding]:
    """What a provider finds without leaving a trace."""
    if IDryRun.providedBy(provider):
        return IDryRun(provider).look(settings)
    return cast(Deferred[Finding], provider.plan(settings))


def _founded_before(known: int, found: ClusterPlan, name: str) -> BootstrapError:
    """Whoever had data and lost it may vote twice if it founds its own cluster again, and splits
    it if it founds another one."""
    return BootstrapError(
        FLAG,
        f"{name} would found cluster {format_id(found.cluster_id)}, but this member was in "
        f"cluster {format_id(known)} before",
        code="ETW-BOOT-AGAIN",
        hint=(
            "nobody of that cluster answers; to join it, wait until somebody does; to found one, "
            "since it is gone for good, remove the file of last-known-good"
        ),
    )
