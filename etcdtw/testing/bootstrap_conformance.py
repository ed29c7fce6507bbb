"""What every bootstrap provider must do, as test cases for its author to run.

Mix ``BootstrapConformance`` into a ``twisted.trial.unittest.SynchronousTestCase``, and give it
``make_factory`` and ``make_settings``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import DNSLookupError
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from etcdtw.bootstrap.interfaces import (
    BootstrapSettings,
    ClusterPlan,
    IBootstrapFactory,
    IBootstrapProvider,
)
from etcdtw.config.flags import FLAGS
from etcdtw.errors import ConfigError
from etcdtw.ids import cluster_id
from etcdtw.testing.time import MemberTime, VirtualTime

if TYPE_CHECKING:
    from unittest import TestCase as _Base
else:
    _Base = object

PATIENCE_SECONDS = 3600.0


class _Reactor(MemberTime):
    """Time that the test drives, and no name but addresses."""

    def resolve(self, name: str, timeout: Sequence[int] = ()) -> Deferred[str]:
        return fail(DNSLookupError(name))


class BootstrapConformance(_Base):
    """The rules, one test each. They run in virtual time: a provider that waits must wait on the
    reactor that it was given."""

    def make_factory(self) -> IBootstrapFactory:
        """The factory as it is found by ``twisted.plugin``."""
        raise NotImplementedError

    def make_settings(self) -> BootstrapSettings:
        """Settings with which a member finds a cluster of at least two members."""
        raise NotImplementedError

    def planned(self, settings: BootstrapSettings) -> ClusterPlan:
        """The plan, however long it takes in virtual time."""
        time = VirtualTime(1)
        provider = self.make_factory().provider(_Reactor(time))
        plan = provider.plan(settings)
        outcome: list[ClusterPlan | Failure] = []
        plan.addBoth(outcome.append)
        end = time.now + PATIENCE_SECONDS
        while not outcome and time.now < end:
            time.run_until(time.now + 1)
        self.assertTrue(outcome, f"no plan within {PATIENCE_SECONDS:g} s")
        found = outcome[0]
        if isinstance(found, Failure):
            found.raiseException()
        return found

    def test_factory(self) -> None:
        """It is a plugin of the published shape, says what it is, and reads flags that exist."""
        factory = self.make_factory()
        verifyObject(IBootstrapFactory, factory)
        self.assertTrue(IPlugin.providedBy(factory))
        self.assertTrue(factory.name and ":" not in factory.name)
        self.assertTrue(factory.help)
        self.assertEqual(set(factory.flags) - set(FLAGS), set())

    def test_provider(self) -> None:
        """What it makes provides the interface, and asks nobody before it is asked."""
        clock = _Reactor(VirtualTime(1))
        verifyObject(IBootstrapProvider, self.make_factory().provider(clock))
        self.assertEqual(list(clock.getDelayedCalls()), [])

    def test_plan(self) -> None:
        """The plan has this member, all members by id, no URL twice, and the cluster's id."""
        settings = self.make_settings()
        plan = self.planned(settings)
        ids = [each.id for each in plan.members]
        self.assertGreater(len(ids), 1)
        self.assertEqual(ids, sorted(set(ids)))
        own = [each for each in plan.members if each.id == plan.member_id]
        self.assertEqual([each.name for each in own], [settings.name])
        urls = [url for each in plan.members for url in each.peer_urls]
        self.assertEqual(len(urls), len(set(urls)))
        self.assertTrue(all(urls), "a member without a URL")
        if plan.new:
            self.assertEqual(plan.cluster_id, cluster_id(ids))

    def test_same_for_all(self) -> None:
        """Asked again, and asked by another member, it finds the same cluster."""
        settings = self.make_settings()
        plan = self.planned(settings)
        for each in plan.members:
            asked = replace(settings, name=each.name, peer_urls=each.peer_urls)
            self.assertEqual(self.planned(asked), replace(plan, member_id=each.id))

    def test_writes_nothing(self) -> None:
        """Nothing appears in the working directory before there is a plan."""
        before = sorted(os.listdir("."))
        self.planned(self.make_settings())
        self.assertEqual(sorted(os.listdir(".")), before)

    def test_refusal(self) -> None:
        """A member that the cluster does not have is refused with a ConfigError that says why."""
        settings = self.make_settings()
        stranger = replace(settings, name="nobody-knows-me", peer_urls=("http://198.51.100.1:1",))
        try:
            self.planned(stranger)
        except ConfigError as error:
            self.assertTrue(error.reason)
        else:
            self.fail("a stranger was taken in")

    def test_cancelled(self) -> None:
        """A plan that is cancelled ends, and leaves no call behind."""
        clock = _Reactor(VirtualTime(1))
        plan: Deferred[ClusterPlan] = self.make_factory().provider(clock).plan(self.make_settings())
        outcome: list[object] = []
        plan.addBoth(outcome.append)
        plan.cancel()
        self.assertEqual(len(outcome), 1)
        if isinstance(outcome[0], Failure):
            self.assertTrue(outcome[0].check(CancelledError, ConfigError))
        self.assertEqual(list(clock.getDelayedCalls()), [])
