"""Chains of providers: which answers end them, and what they may found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IResolver
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from etcdtw.bootstrap.chain import ChainProvider, look
from etcdtw.bootstrap.factories import BUILT_IN, choose_factory
from etcdtw.bootstrap.interfaces import (
    BootstrapSettings,
    ClusterPlan,
    IBootstrapFactory,
    IBootstrapProvider,
    IDryRun,
    PlannedMember,
    ReactorView,
)
from etcdtw.bootstrap.refusal import BootstrapError, BootstrapUnavailable
from etcdtw.testing.bootstrap_conformance import BootstrapConformance
from tests.bootstrap.test_static import IC3, NamedHosts, settings_of

PLAN = ClusterPlan(
    cluster_id=0xABC,
    member_id=1,
    members=(PlannedMember(1, "a", ("http://a:1",)),),
    token="t",
    new=True,
)
JOIN = ClusterPlan(cluster_id=0xDEF, member_id=1, members=PLAN.members, token="t", new=False)
SILENT = BootstrapUnavailable("x", "nobody answers", code="ETW-BOOT-X")
WRONG = BootstrapError("x", "it is another one", code="ETW-BOOT-X")


def silent_about(cluster: int) -> BootstrapUnavailable:
    error = BootstrapUnavailable("x", "nobody of it answers", code="ETW-BOOT-X")
    error.known_cluster = cluster
    return error


@implementer(IPlugin, IBootstrapFactory)
class Link:
    """A factory whose provider has one answer."""

    help = "answers as the test wants"
    flags = ("bootstrap-provider",)

    def __init__(self, name: str, answer: ClusterPlan | BootstrapError) -> None:
        self.name = name
        self.answer = answer
        self.asked: list[BootstrapSettings] = []

    def claims(self, settings: BootstrapSettings) -> bool:
        return False

    def provider(self, reactor: ReactorView) -> Any:
        return Answering(self)


@implementer(IBootstrapProvider)
class Answering:
    def __init__(self, link: Link) -> None:
        self._link = link

    def plan(self, settings: BootstrapSettings) -> Deferred[ClusterPlan]:
        self._link.asked.append(settings)
        answer = self._link.answer
        return fail(answer) if isinstance(answer, BootstrapError) else succeed(answer)


@implementer(IPlugin, IBootstrapFactory)
class Registry(Link):
    """One whose plan leaves traces."""

    def provider(self, reactor: ReactorView) -> Any:
        link = self

        @implementer(IDryRun)
        class Registering(Answering):
            def look(self, settings: BootstrapSettings) -> Deferred[Any]:
                return succeed("two of three are there")

        return Registering(link)


class ChainTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = NamedHosts()

    def begin(self, *links: Link, text: str = "", dry: bool = False) -> Deferred[Any]:
        argument = text or ",".join(each.name for each in links)
        settings = BootstrapSettings(
            name="a", peer_urls=("http://a:1",), provider="chain", provider_argument=argument
        )
        provider = ChainProvider(self.reactor, lambda: links)
        begun = look(provider, settings) if dry else provider.plan(settings)
        self.reactor.clock.pump([0.0] * 5)
        return begun

    def refusal(self, *links: Link, text: str = "") -> BootstrapError:
        error = self.failureResultOf(self.begin(*links, text=text), BootstrapError).value
        assert isinstance(error, BootstrapError)
        return error

    def test_first(self) -> None:
        """The first answer counts; who comes later is not asked."""
        last = Link("last", JOIN)
        plan = self.successResultOf(self.begin(Link("first", PLAN), last))
        self.assertEqual((plan, plan.found_by, last.asked), (PLAN, "first", []))

    def test_falls_through(self) -> None:
        """P31: who does not know is passed over; each has its own argument."""
        first, last = Link("first", SILENT), Link("last", PLAN)
        plan = self.successResultOf(self.begin(first, last, text="first:x:1, last"))
        self.assertEqual(plan.found_by, "last")
        (asked,) = first.asked
        self.assertEqual((asked.provider, asked.provider_argument), ("first", "x:1"))
        self.assertEqual(last.asked[0].provider_argument, "")

    def test_contradiction(self) -> None:
        """P31: what contradicts ends the chain: who asks on would found another cluster."""
        last = Link("last", PLAN)
        self.assertIs(self.refusal(Link("first", WRONG), last), WRONG)
        self.assertEqual(last.asked, [])

    def test_nobody(self) -> None:
        """If nobody knows, all reasons are told, and that is no contradiction either."""
        error = self.refusal(Link("first", silent_about(7)), Link("last", SILENT))
        assert isinstance(error, BootstrapUnavailable)
        self.assertEqual(
            error.reason,
            "no provider knows the cluster: first: nobody of it answers; last: nobody answers",
        )
        self.assertEqual(error.known_cluster, 7)

    def test_second_cluster(self) -> None:
        """P31: a member that was in a cluster founds none, neither another one nor the same again,
        though nobody answers; it may join."""
        for known, shown in ((0xDEF, "def"), (0xABC, "abc")):
            first = Link("first", silent_about(known))
            error = self.refusal(first, Link("last", PLAN))
            self.assertNotIsInstance(error, BootstrapUnavailable)
            self.assertEqual(
                error.reason,
                f"last would found cluster abc, but this member was in cluster {shown} before",
            )
            self.assertEqual(self.successResultOf(self.begin(first, Link("last", JOIN))), JOIN)

    def test_names(self) -> None:
        """Every name is looked at before anybody is asked."""
        first = Link("first", PLAN)
        error = self.refusal(first, text="first,nobody")
        self.assertIn("no way called 'nobody'", error.reason)
        for text in ("first,", "first,,first", "chain:first"):
            self.assertIn("has an empty link", self.refusal(first, text=text).reason)
        self.assertEqual(first.asked, [])

    def test_dry_run(self) -> None:
        """Who would leave traces is only looked at, and ends the look."""
        registry, last = Registry("registry", PLAN), Link("last", PLAN)
        found = self.successResultOf(self.begin(Link("first", SILENT), registry, last, dry=True))
        self.assertEqual(found, "registry: two of three are there")
        self.assertEqual(registry.asked + last.asked, [])

    def test_built_in(self) -> None:
        """P31: last known good, then DNS, then a list: what is down is passed over, and the list
        is what it is without a chain."""
        begun = choose_factory(CHAINED, BUILT_IN).provider(self.reactor).plan(CHAINED)
        self.reactor.clock.pump([1.0] * 35)
        plan = self.successResultOf(begun)
        self.assertEqual((plan.found_by, len(plan.members)), ("static", 3))


class Dead:
    """Name servers that nobody reaches."""

    def lookupService(self, name: str, timeout: object = None) -> Deferred[Any]:
        return fail(ConnectionRefusedError())

    lookupAddress = lookupIPV6Address = lookupService


CHAINED = replace(
    settings_of("infra0", IC3),
    discovery_srv="example.com",
    provider="chain",
    provider_argument="last-known-good:/nowhere/members,dns-srv,static",
    resolver=lambda: cast(IResolver, Dead()),
)


class ChainConformanceTests(BootstrapConformance, SynchronousTestCase):
    def make_factory(self) -> Any:
        return next(each for each in BUILT_IN if each.name == "chain")

    def make_settings(self) -> BootstrapSettings:
        return CHAINED
