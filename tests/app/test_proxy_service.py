"""What the gateway and the gRPC proxy have in common."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.proxy_service import ProxyService


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
