"""The built-in providers, by the rules for all."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.bootstrap.factories import STATIC
from etcdtw.bootstrap.interfaces import BootstrapSettings, IBootstrapFactory
from etcdtw.testing.bootstrap_conformance import BootstrapConformance


class StaticTests(BootstrapConformance, SynchronousTestCase):
    def make_factory(self) -> IBootstrapFactory:
        return STATIC

    def make_settings(self) -> BootstrapSettings:
        urls = {"a": ("http://10.0.1.10:2380",), "b": ("http://10.0.1.11:2380",)}
        return BootstrapSettings(name="a", peer_urls=urls["a"], initial_cluster=tuple(urls.items()))
