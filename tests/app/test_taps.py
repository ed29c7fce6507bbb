"""Options of the services that are there only under ``twistd``."""

from __future__ import annotations

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.taps import etcd_discovery, etcd_dns


class PortTests(SynchronousTestCase):
    def test_no_port(self) -> None:
        """What is no port is refused as an option, before anything is begun."""
        for port in ("65536", "-1", "x"):
            words = ["--listen", f"127.0.0.1:{port}"]
            self.assertRaises(UsageError, etcd_discovery.Options().parseOptions, words)
            words += ["--domain", "example.com", "--member", "a=10.0.1.10"]
            self.assertRaises(UsageError, etcd_dns.Options().parseOptions, words)
