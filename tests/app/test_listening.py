"""What cannot be bound."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from etcdtw.app import listening
from etcdtw.app.listening import (
    RESERVED_DESCRIPTORS,
    TOLD_AGAIN_SECONDS,
    Door,
    Gate,
    check_descriptors,
    listen_all,
)
from etcdtw.errors import ConfigError
from tests.logs import logged


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


class DoorTests(SynchronousTestCase):
    """Clients do not get the last file descriptors of a member."""

    def setUp(self) -> None:
        self.gate = Gate()
        self.gate.open(Factory.forProtocol(Protocol))
        self.clock = Clock()
        self.door = Door(self.gate, self.clock)
        self.told = logged(self, "etcdtw.member")

    def limit(self, number: int) -> None:
        self.patch(listening, "descriptor_limit", lambda: number)

    def test_spare(self) -> None:
        """They are let in while there are more than the member may need, and told of now and then
        when there are not."""
        lowest = os.dup(0)
        os.close(lowest)
        self.limit(lowest + RESERVED_DESCRIPTORS + 1)
        self.assertIsInstance(self.door.buildProtocol(None), Protocol)
        self.limit(lowest + RESERVED_DESCRIPTORS)
        for told in (1, 1, 2):
            self.assertIsNone(self.door.buildProtocol(None))
            self.assertEqual(len(self.told), told)
            self.clock.advance(TOLD_AGAIN_SECONDS / 2)

    def test_too_low(self) -> None:
        """A limit that leaves none for clients is refused in etcd's words."""
        self.limit(RESERVED_DESCRIPTORS + 1)
        check_descriptors()
        self.limit(RESERVED_DESCRIPTORS)
        refused = self.assertRaises(ConfigError, check_descriptors)
        self.assertIn("file descriptor limit of etcd process is too low", refused.reason)


class RefusalTests(SynchronousTestCase):
    def test_port(self) -> None:
        """A port that there is not is refused in etcd's words."""
        urls = ["http://127.0.0.1:65536"]
        gates = [("listen-peer-urls", urls, Gate(), lambda factory: factory)]
        refused = self.assertRaises(ConfigError, listen_all, MemoryReactor(), gates)
        self.assertEqual(refused.reason, "listen tcp: address 65536: invalid port")

    def test_label(self) -> None:
        """So is a name that DNS has no room for."""
        host = "ü" * 70
        gates = [("listen-peer-urls", [f"http://{host}:1"], Gate(), lambda factory: factory)]
        refused = self.assertRaises(ConfigError, listen_all, MemoryReactor(), gates)
        self.assertEqual(refused.reason, f"listen tcp: lookup {host}: no such host")
