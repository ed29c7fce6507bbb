"""What the gateway and the gRPC proxy have in common."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.gateway import GatewayService
from etcdtw.app.gateway_options import GatewayOptions
from etcdtw.app.proxy_service import ProxyService
from etcdtw.dns.server import Host, Zone, make_authority


class Following(ProxyService):
    """Looks every second; the first look goes wrong in a way that nobody has thought of."""

    log = Logger()
    retry_seconds = 5.0

    def __init__(self, reactor: Clock) -> None:
        super().__init__(reactor, (), lambda reason: None, lambda: None)
        self.looks = 0

    async def _begin(self) -> float:
        return 1.0

    async def _follow(self) -> float:
        self.looks += 1
        if self.looks == 1:
            raise ArithmeticError("nobody has thought of it")
        return 1.0

    def _end(self) -> None:
        return None


class FollowTests(SynchronousTestCase):
    def test_goes_on(self) -> None:
        """A look that fails is told of, and not the last one."""
        reactor = MemoryReactorClock()
        service = Following(reactor)
        service.startService()
        reactor.advance(1.0)
        self.assertEqual(len(self.flushLoggedErrors(ArithmeticError)), 1)
        reactor.advance(5.0)
        self.assertEqual(service.looks, 2)
        service.stopService()
        calls: Any = reactor.getDelayedCalls()
        self.assertNotIn(service, [getattr(each.func, "__self__", None) for each in calls])

    def test_loop(self) -> None:
        """A gateway does not follow records that lead to itself."""
        reactor, refusals = MemoryReactorClock(), list[str]()
        zone = Zone("example.com", [Host("infra0", ("10.0.1.10",), client_port=23790)])
        options = GatewayOptions(discovery_srv="example.com", insecure_discovery=True)
        service = GatewayService(options, reactor, refusals.append, lambda: None)
        service._resolver = make_authority(zone)
        service.startService()
        gateway = service.gateway
        assert gateway is not None, refusals
        for name, address in (("here", "127.0.0.1"), ("infra1", "10.0.1.11")):
            before = gateway.targets.addresses
            zone.hosts = [Host(name, (address,), client_port=23790)]
            reactor.advance(zone.ttl_seconds)
            found = f"{name}.example.com:23790"
            self.assertEqual(gateway.targets.addresses, before if name == "here" else [found])
        service.stopService()
