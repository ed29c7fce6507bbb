"""What cannot be bound."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from etcdtw.app.listening import Gate, listen_all
from etcdtw.errors import ConfigError


class ListeningTests(TestCase):
    def test_vanished(self) -> None:
        """Who was accepted and says nothing is asked after half a minute whether he is there."""
        gates = [("listen-peer-urls", ["http://127.0.0.1:0"], Gate(), lambda factory: factory)]
        (port,) = listen_all(reactor, gates)
        listening: Any = port
        self.addCleanup(listening.stopListening)
        with socket.create_connection(("127.0.0.1", listening.getHost().port)):
            listening.socket.setblocking(True)
            accepted, _ = listening.socket.accept()
        with accepted:
            self.assertTrue(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            if hasattr(socket, "TCP_KEEPIDLE"):
                seconds = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                self.assertEqual(seconds, 30)


class RefusalTests(SynchronousTestCase):
    def test_port(self) -> None:
        """A port that there is not is refused in etcd's words."""
        urls = ["http://127.0.0.1:65536"]
        gates = [("listen-peer-urls", urls, Gate(), lambda factory: factory)]
        refused = self.assertRaises(ConfigError, listen_all, MemoryReactor(), gates)
        self.assertEqual(refused.reason, "listen tcp: address 65536: invalid port")
