"""Shared renewals of leases."""

from __future__ import annotations

import tracemalloc

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.rpc_pb2 import LeaseKeepAliveRequest, LeaseKeepAliveResponse
from etcdtw.proxy.grpc.keepalives import IN_FLIGHT_MAX, KeepAlives


class Client:
    """Notes the TTLs that it is answered."""

    def __init__(self) -> None:
        self.ttls: list[int] = []

    def renewed(self, body: bytes) -> None:
        self.ttls.append(LeaseKeepAliveResponse.FromString(body).TTL)


class KeepAliveTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sent: list[bytes] = []
        self.shared = KeepAlives()
        self.clients = [Client(), Client(), Client()]

    @property
    def asked(self) -> list[int]:
        """Leases that the cluster was asked for since the last look."""
        sent, self.sent[:] = list(self.sent), []
        return [LeaseKeepAliveRequest.FromString(each).ID for each in sent]

    def answer(self, lease_id: int, ttl: int) -> None:
        self.shared.received(LeaseKeepAliveResponse(ID=lease_id, TTL=ttl).SerializeToString())

    def test_shared(self) -> None:
        """GX1: one request of the cluster for all who wait; each gets an answer for each wish."""
        self.shared.opened(self.sent.append)
        for each in (*self.clients, self.clients[0]):
            self.shared.ask(each, 1)
        self.shared.ask(self.clients[2], 2)
        self.assertEqual(self.asked, [1, 2])
        self.answer(1, 5)
        self.assertEqual([each.ttls for each in self.clients], [[5, 5], [5], [5]])
        self.shared.ask(self.clients[1], 1)
        self.assertEqual(self.asked, [1])
        self.answer(1, 0)  # it has expired
        self.assertEqual(self.clients[1].ttls, [5, 0])

    def test_lost(self) -> None:
        """What was not answered is asked for again, but for those who are gone."""
        self.shared.ask(self.clients[0], 1)
        self.shared.opened(self.sent.append)
        self.shared.ask(self.clients[1], 2)
        self.assertEqual(self.asked, [1, 2])
        self.shared.forget(self.clients[1])
        self.shared.lost()
        self.shared.opened(self.sent.append)
        self.assertEqual(self.asked, [1])
        self.shared.lost()
        self.shared.forget(self.clients[0])
        self.assertTrue(self.shared.is_idle)

    def test_gone(self) -> None:
        """A client that is gone gets nothing; the answer may come all the same."""
        self.shared.opened(self.sent.append)
        self.shared.ask(self.clients[0], 1)
        self.shared.forget(self.clients[0])
        self.shared.ask(self.clients[1], 1)
        self.answer(1, 5)
        self.assertEqual([each.ttls for each in self.clients], [[], [5], []])

    def test_many(self) -> None:
        """So many requests are under way, however many wait, also when the stream is a new one."""
        for lease_id in range(IN_FLIGHT_MAX + 5):
            self.shared.ask(self.clients[0], lease_id)
        for _ in range(2):
            self.shared.opened(self.sent.append)
            self.assertEqual(self.asked, list(range(IN_FLIGHT_MAX)))
            self.shared.lost()
        self.shared.opened(self.sent.append)
        for lease_id in self.asked[:3]:
            self.answer(lease_id, 5)
        self.assertEqual(self.asked, [IN_FLIGHT_MAX, IN_FLIGHT_MAX + 1, IN_FLIGHT_MAX + 2])
        self.shared.forget(self.clients[0])
        self.shared.lost()
        self.assertTrue(self.shared.is_idle)

    def test_repeated(self) -> None:
        """Who asks for the same lease again and again while the cluster is away costs nothing."""
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.shared.ask(self.clients[0], 1)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(50_000):
            self.shared.ask(self.clients[0], 1)
        self.assertLess(tracemalloc.get_traced_memory()[0] - before, 10_000)
        self.shared.opened(self.sent.append)
        self.answer(1, 5)
        self.assertEqual(len(self.clients[0].ttls), 50_001)
