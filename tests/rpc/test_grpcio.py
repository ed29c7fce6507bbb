"""A real gRPC client (grpc-core) against a real server on loopback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource

from etcdtw.errors import KeyNotFound
from etcdtw.pb import health_pb2
from etcdtw.rpc.call import StreamCall, UnaryCall
from etcdtw.rpc.health import Health
from etcdtw.rpc.port import ClientPortFactory
from etcdtw.rpc.router import Router
from etcdtw.rpc.settings import ServerSettings
from tests.rpc.wire import Pages

SECONDS = 20.0


class GrpcioTests(TestCase):
    """What the client sees."""

    timeout = 60

    def setUp(self) -> None:
        clock: Any = reactor
        self.cancelled: Deferred[None] = Deferred()
        self.pending: list[UnaryCall] = []
        router = Router()
        Health(router)
        router.add_unary("/test.Echo/Unary", lambda call, body: call.reply(body))
        router.add_unary("/test.Echo/Never", self._never)
        router.add_unary("/test.Echo/Fail", self._fail)
        router.add_unary("/test.Echo/Token", self._token)
        router.add_stream("/test.Echo/Stream", self._stream)
        router.add_stream("/test.Echo/Count", self._count, "server_stream")
        self.port = ClientPortFactory(router, Pages(Resource()), ServerSettings(), clock)
        self.listening = clock.listenTCP(0, self.port, interface="127.0.0.1")
        self.target = f"127.0.0.1:{self.listening.getHost().port}"
        self.addCleanup(self.port.stop)
        self.addCleanup(self.listening.stopListening)  # before

    def _never(self, call: UnaryCall, body: bytes) -> None:
        call.on_cancel = lambda: self.cancelled.callback(None)

    def _fail(self, call: UnaryCall, body: bytes) -> None:
        raise KeyNotFound

    def _token(self, call: UnaryCall, body: bytes) -> None:
        call.reply(call.metadata["token"].encode())

    def _stream(self, call: StreamCall) -> None:
        call.on_message = call.send
        call.on_half_close = call.finish

    def _count(self, call: StreamCall) -> None:
        left = [200]

        def go_on() -> None:
            while left[0] and call.writable:
                left[0] -= 1
                call.send(bytes(32_768))
            if not left[0]:
                call.finish()

        call.on_message = lambda body: go_on()
        call.on_writable = go_on

    def _with_channel(self, work: Callable[[grpc.Channel], Any]) -> Deferred[Any]:
        def run() -> Any:
            with grpc.insecure_channel(self.target) as channel:
                return work(channel)

        return deferToThread(run)

    async def test_unary(self) -> None:
        """Small and large bodies, empty ones, and metadata."""

        def work(channel: grpc.Channel) -> Any:
            echo = channel.unary_unary("/test.Echo/Unary")
            bodies = [b"", b"x", bytes(100_000), bytes(2_000_000)]
            got = [echo(body, timeout=SECONDS) for body in bodies]
            self.assertEqual(got, bodies)
            token = channel.unary_unary("/test.Echo/Token")
            return token(b"", metadata=(("token", "abc"),), timeout=SECONDS)

        self.assertEqual(await self._with_channel(work), b"abc")

    async def test_many_at_once(self) -> None:
        """Hundreds of concurrent calls on one connection are all answered right."""

        def work(channel: grpc.Channel) -> list[bytes]:
            echo = channel.unary_unary("/test.Echo/Unary")
            futures = [echo.future(b"%d" % each, timeout=SECONDS) for each in range(500)]
            return [future.result() for future in futures]

        self.assertEqual(await self._with_channel(work), [b"%d" % each for each in range(500)])

    async def test_errors(self) -> None:
        """Codes and texts arrive."""

        def work(channel: grpc.Channel) -> list[tuple[Any, str]]:
            got = []
            for path in ("/test.Echo/Fail", "/test.Echo/Nope", "/no.Such/X"):
                try:
                    channel.unary_unary(path)(b"", timeout=SECONDS)
                except grpc.RpcError as error:
                    got.append((error.code(), error.details()))
            return got

        codes = grpc.StatusCode
        self.assertEqual(
            await self._with_channel(work),
            [
                (codes.INVALID_ARGUMENT, "etcdserver: key not found"),
                (codes.UNIMPLEMENTED, "unknown method Nope for service test.Echo"),
                (codes.UNIMPLEMENTED, "unknown service no.Such"),
            ],
        )

    async def test_cancel(self) -> None:
        """A client that gives up is noticed."""

        def work(channel: grpc.Channel) -> Any:
            future = channel.unary_unary("/test.Echo/Never").future(b"", timeout=0.2)
            return future.code()

        self.assertEqual(await self._with_channel(work), grpc.StatusCode.DEADLINE_EXCEEDED)
        await self.cancelled

    async def test_streams(self) -> None:
        """A conversation, and six megabytes through back-pressure."""

        def work(channel: grpc.Channel) -> tuple[list[bytes], int]:
            def talk() -> Iterator[bytes]:
                yield from (b"a", b"bb", bytes(70_000))

            answers = channel.stream_stream("/test.Echo/Stream")(talk(), timeout=SECONDS)
            count = channel.unary_stream("/test.Echo/Count")(b"", timeout=SECONDS)
            return list(answers), sum(map(len, count))

        answers, total = await self._with_channel(work)
        self.assertEqual(answers, [b"a", b"bb", bytes(70_000)])
        self.assertEqual(total, 200 * 32_768)

    async def test_gzip(self) -> None:
        """Compressed requests are understood."""

        def work(channel: grpc.Channel) -> Any:
            echo = channel.unary_unary("/test.Echo/Unary")
            return echo(bytes(5000), compression=grpc.Compression.Gzip, timeout=SECONDS)

        self.assertEqual(await self._with_channel(work), bytes(5000))

    async def test_health(self) -> None:
        """The health service says SERVING."""

        def work(channel: grpc.Channel) -> Any:
            return channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=SECONDS)

        body = await self._with_channel(work)
        self.assertEqual(health_pb2.HealthCheckResponse.FromString(body).status, 1)

    async def test_stop(self) -> None:
        """A server that stops ends its streams with Unavailable."""
        began = threading.Event()

        def work(channel: grpc.Channel) -> tuple[Any, str]:
            def talk() -> Iterator[bytes]:
                yield b"x"
                ended.wait(SECONDS)

            ended = threading.Event()
            answers = channel.stream_stream("/test.Echo/Stream")(talk(), timeout=SECONDS)
            next(answers)
            began.set()
            try:
                next(answers)
            except grpc.RpcError as error:
                return error.code(), error.details()
            finally:
                ended.set()
            return None, ""

        result = self._with_channel(work)
        await deferToThread(began.wait, SECONDS)
        await self.port.stop()
        got = await result
        self.assertEqual(got, (grpc.StatusCode.UNAVAILABLE, "etcdserver: server stopped"))
