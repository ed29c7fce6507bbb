"""Choosing a bootstrap provider."""

from __future__ import annotations

from dataclasses import replace

from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from etcdtw.bootstrap.factories import BUILT_IN, STATIC, BootstrapFactory, choose_factory
from etcdtw.bootstrap.interfaces import BootstrapSettings, IBootstrapFactory
from etcdtw.bootstrap.refusal import BootstrapError
from etcdtw.bootstrap.static import StaticProvider
from etcdtw.config.flags import FLAGS
from tests.bootstrap.test_static import NamedHosts

SETTINGS = BootstrapSettings(
    name="m", peer_urls=("http://a:1",), initial_cluster=(("m", ("http://a:1",)),)
)
CONSUL = BootstrapFactory(
    "consul",
    "members are in a Consul catalogue",
    ("discovery",),
    "etcdtw.bootstrap.factories.claims_static",
    "etcdtw.bootstrap.static.StaticProvider",
)


class FactoryTests(SynchronousTestCase):
    def test_static(self) -> None:
        """Without discovery the static provider is chosen, and made when asked for."""
        factory = choose_factory(SETTINGS, BUILT_IN)
        self.assertIs(factory, STATIC)
        self.assertIsInstance(factory.provider(NamedHosts()), StaticProvider)

    def test_interfaces(self) -> None:
        """A built-in factory is a plugin of the published shape that reads existing flags."""
        for factory in BUILT_IN:
            verifyObject(IBootstrapFactory, factory)
            self.assertTrue(IPlugin.providedBy(factory))
            self.assertLessEqual(set(factory.flags), set(FLAGS))

    def test_none(self) -> None:
        """If nobody claims the settings, all candidates are listed."""
        settings = replace(SETTINGS, discovery="http://a:1/token")
        error = self.assertRaises(BootstrapError, choose_factory, settings, [STATIC])
        self.assertIn("no way", error.reason)
        self.assertIn("static (--initial-cluster", error.reason)

    def test_built_in(self) -> None:
        """OV1: a list, a discovery URL or a domain choose the provider."""
        for settings, name in (
            (SETTINGS, "static"),
            (replace(SETTINGS, discovery="http://a:1/token"), "discovery"),
            (replace(SETTINGS, discovery_srv="example.com"), "dns-srv"),
        ):
            self.assertEqual(choose_factory(settings, BUILT_IN).name, name)

    def test_several(self) -> None:
        """If two claim the settings, both are listed."""
        error = self.assertRaises(BootstrapError, choose_factory, SETTINGS, [STATIC, CONSUL])
        self.assertIn("more than one way", error.reason)
        self.assertIn("consul (--discovery)", error.reason)
