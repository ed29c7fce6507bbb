"""The built-in providers, by the rules for all."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from etcdtw.bootstrap.discovery_v2 import DiscoveryProvider
from etcdtw.bootstrap.discovery_v3 import DiscoveryV3Provider
from etcdtw.bootstrap.factories import DISCOVERY, DISCOVERY_V3, STATIC
from etcdtw.bootstrap.interfaces import (
    BootstrapSettings,
    ClusterPlan,
    DiscoverySettings,
    IBootstrapFactory,
    IBootstrapProvider,
)
from etcdtw.bootstrap.meeting import Claim
from etcdtw.ids import format_id, member_id
from etcdtw.pb.kv_pb2 import KeyValue
from etcdtw.pb.rpc_pb2 import RangeResponse
from etcdtw.testing.bootstrap_conformance import BootstrapConformance
from tests.bootstrap.test_discovery import URL, Service
from tests.bootstrap.test_meeting import MemoryNote

LISTED = {"a": "http://10.0.1.10:2380", "b": "http://10.0.1.11:2380"}
TOKEN = "token"


class StaticTests(BootstrapConformance, SynchronousTestCase):
    def make_factory(self) -> IBootstrapFactory:
        return STATIC

    def make_settings(self) -> BootstrapSettings:
        members = tuple((name, (url,)) for name, url in LISTED.items())
        return BootstrapSettings(name="a", peer_urls=(LISTED["a"],), initial_cluster=members)


@implementer(IBootstrapProvider)
class Returning:
    """A provider whose member has registered before, and has kept its note."""

    def __init__(self, provider: IBootstrapProvider, token: str, place: str) -> None:
        self._provider = provider
        self._token = token
        self._place = place

    def plan(self, settings: BootstrapSettings) -> Deferred[ClusterPlan]:
        note = MemoryNote()
        identity = format_id(member_id(settings.peer_urls, self._token))
        value = f"{settings.name}={settings.peer_urls[0]}"
        Claim(note, self._place, identity, value).make()
        return self._provider.plan(replace(settings, note=note))


def v2_provider(reactor: Any) -> IBootstrapProvider:
    """At a service in memory where all have registered."""
    service = Service("2")
    for name, url in LISTED.items():
        service.register(name, url)
    return Returning(DiscoveryProvider(reactor, lambda settings, reactor: service), URL, URL)


class DiscoveryTests(BootstrapConformance, SynchronousTestCase):
    def make_factory(self) -> IBootstrapFactory:
        return replace(DISCOVERY, provider_path=f"{__name__}.v2_provider")

    def make_settings(self) -> BootstrapSettings:
        return BootstrapSettings(name="a", peer_urls=(LISTED["a"],), discovery=URL)


class FullRegistry:
    """A client of a service where all have registered below the token."""

    def __init__(self) -> None:
        self.channel = SimpleNamespace(metadata={})
        self.kv = self

    def get(self, key: str, *, prefix: bool = False) -> Deferred[RangeResponse]:
        if not prefix:
            return succeed(RangeResponse(kvs=[KeyValue(value=b"2")]))
        kvs = [
            KeyValue(
                key=f"{key}/{format_id(member_id((url,), TOKEN))}".encode(),
                value=f"{name}={url}".encode(),
                create_revision=number,
            )
            for number, (name, url) in enumerate(LISTED.items())
        ]
        return succeed(RangeResponse(kvs=kvs))

    def close(self) -> None:
        """Nothing is open."""


def v3_provider(reactor: Any) -> IBootstrapProvider:
    client: Any = FullRegistry()
    provider = DiscoveryV3Provider(reactor, lambda settings, reactor: client)
    return Returning(provider, TOKEN, f"v3 {TOKEN}")


class DiscoveryV3Tests(BootstrapConformance, SynchronousTestCase):
    def make_factory(self) -> IBootstrapFactory:
        return replace(DISCOVERY_V3, provider_path=f"{__name__}.v3_provider")

    def make_settings(self) -> BootstrapSettings:
        asked = DiscoverySettings(token=TOKEN, endpoints=("http://a:2379",))
        return BootstrapSettings(name="a", peer_urls=(LISTED["a"],), discovery_v3=asked)
