"""Servers of one keyspace on a simulated network, and a client of them."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3.watch import WatchSettings
from etcdtw.client import Client
from etcdtw.client.endpoints import Address
from etcdtw.errors import EtcdError
from etcdtw.pb.rpc_pb2 import CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest
from etcdtw.rpc import ClientPortFactory, Router, ServerSettings, UnaryCall
from etcdtw.testing.streams import StreamNetwork
from etcdtw.testing.time import VirtualTime
from tests.api_v3.member import Member

T = TypeVar("T")
PORT = 2379


class Servers(SynchronousTestCase):
    """Hosts ``a``, ``b`` and ``c`` serve the same store, as members of a cluster do."""

    hosts = ("a", "b", "c")
    seed: int | str = 1
    piece_bytes_max = 7

    def setUp(self) -> None:
        self.time = VirtualTime(self.seed)
        self.clock = self.time.view()
        self.network = StreamNetwork(
            self.clock, random.Random(self.seed), piece_bytes_max=self.piece_bytes_max
        )
        self.member = Member(WatchSettings(progress_seconds=1.0), clock=self.clock)
        self.puts = 0
        self.refusal: EtcdError | None = None
        self.silent = False
        self.routers: dict[str, Router] = {}
        for host in self.hosts:
            self.up(host)

    def router(self, host: str) -> Router:
        router = Router()
        member = self.member
        kv = member.kv
        for name, kind, handler in (
            ("Put", PutRequest, self.put),
            ("Range", RangeRequest, kv.range),
            ("DeleteRange", DeleteRangeRequest, kv.delete_range),
            ("Compact", CompactionRequest, lambda request: kv.compaction(request)[0]),
        ):
            router.add_unary(f"/etcdserverpb.KV/{name}", self._answering(kind, handler))
        member.watches.register(router)
        member.leases.register(router)
        return router

    def put(self, request: Any) -> bytes:
        self.puts += 1
        return self.member.kv.put(request)

    def _answering(
        self, kind: Any, handler: Callable[[Any], bytes]
    ) -> Callable[[UnaryCall, bytes], None]:
        def answer(call: UnaryCall, body: bytes) -> None:
            if self.refusal is not None:
                raise self.refusal
            done = handler(kind.FromString(body))
            if not self.silent:
                call.reply(done)

        return answer

    def up(self, host: str) -> None:
        self.routers[host] = self.router(host)
        factory = ClientPortFactory(self.routers[host], None, ServerSettings(), self.clock)
        self.network.listen(host, PORT, factory)

    def down(self, host: str) -> None:
        """The process dies: its connections end, new ones are refused."""
        self.network.stop_listening(host, PORT)
        self.network.reset(host)

    def client(self, *hosts: str, **options: Any) -> Client:
        def connector(address: Address) -> IStreamClientEndpoint:
            return self.network.endpoint("client", address.host, address.port)

        client = Client(
            self.clock,
            [f"http://{host}:{PORT}" for host in hosts or self.hosts],
            connector=connector,
            dice=random.Random(self.seed),
            **options,
        )
        self.addCleanup(client.close)
        return client

    def run_for(self, seconds: float) -> None:
        self.time.run_until(self.time.now + seconds)

    def result(self, waiting: Awaitable[T], seconds: float = 30.0) -> T:
        """What comes of it within so much virtual time; an error is raised."""
        deferred: Deferred[T] = Deferred.fromCoroutine(_awaited(waiting))
        until = self.time.now + seconds
        while not deferred.called and self.time.now < until and self.time.step():
            pass
        return self.successResultOf(deferred)

    def error(self, waiting: Awaitable[Any], kind: type[Exception], seconds: float = 30.0) -> Any:
        with self.assertRaises(kind) as caught:
            self._raising(waiting, seconds)
        return caught.exception

    def _raising(self, waiting: Awaitable[Any], seconds: float) -> None:
        deferred: Deferred[Any] = Deferred.fromCoroutine(_awaited(waiting))
        until = self.time.now + seconds
        while not deferred.called and self.time.now < until and self.time.step():
            pass
        self.assertTrue(deferred.called, f"nothing came within {seconds} s")
        self.failureResultOf(deferred).raiseException()


async def _awaited(waiting: Awaitable[T]) -> T:
    return await waiting
