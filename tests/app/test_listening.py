"""What cannot be bound."""

from __future__ import annotations

from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.listening import Gate, listen_all
from etcdtw.errors import ConfigError


class RefusalTests(SynchronousTestCase):
    def test_port(self) -> None:
        """A port that there is not is refused in etcd's words."""
        urls = ["http://127.0.0.1:65536"]
        gates = [("listen-peer-urls", urls, Gate(), lambda factory: factory)]
        refused = self.assertRaises(ConfigError, listen_all, MemoryReactor(), gates)
        self.assertEqual(refused.reason, "listen tcp: address 65536: invalid port")
