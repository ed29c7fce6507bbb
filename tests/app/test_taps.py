"""Options of the services that are there only under ``twistd``."""

from __future__ import annotations

from time import monotonic, time

from twisted.internet.base import ReactorBase
from twisted.internet.selectreactor import SelectReactor
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.taps import etcd_discovery, etcd_dns
from etcdtw.app.taps.clock import forget_time_of_day


class ClockTests(SynchronousTestCase):
    def test_any_reactor(self) -> None:
        """A reactor that was chosen without a thought of clocks goes by one that nobody sets,
        unless it has timers that would never come then."""
        reactor = SelectReactor()
        for reader in list(reactor._internalReaders):
            self.addCleanup(reader.connectionLost, None)
        call = reactor.callLater(1, list)
        forget_time_of_day(reactor)
        self.assertLess(abs(call.getTime() - time()), 60)
        self.assertLess(abs(reactor.seconds() - time()), 60)
        call.cancel()
        forget_time_of_day(reactor)
        self.patch(ReactorBase, "seconds", staticmethod(lambda: 0.0))
        call = reactor.callLater(1, list)
        self.assertLess(abs(call.getTime() - monotonic()), 60)


class PortTests(SynchronousTestCase):
    def test_no_port(self) -> None:
        """What is no port is refused as an option, before anything is begun."""
        for port in ("65536", "-1", "x"):
            words = ["--listen", f"127.0.0.1:{port}"]
            self.assertRaises(UsageError, etcd_discovery.Options().parseOptions, words)
            words += ["--domain", "example.com", "--member", "a=10.0.1.10"]
            self.assertRaises(UsageError, etcd_dns.Options().parseOptions, words)
