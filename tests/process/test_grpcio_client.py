"""What grpcio does on the wire beyond plain calls, against a running member."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from functools import partial
from typing import Any

import grpc
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb import health_pb2
from etcdtw.pb.rpc_pb2 import (
    LeaseKeepAliveRequest,
    PutRequest,
    RangeRequest,
    RangeResponse,
    WatchCreateRequest,
    WatchRequest,
)
from tests.process.foreign import ForeignClient
from tests.process.member import Member, real_etcd, server_under_test
from tests.process.raw_http2 import END_HEADERS, HEADERS, RawConnection, frame
from tests.shared import Shared

SERVING = health_pb2.HealthCheckResponse.SERVING
MEGABYTE = 1 << 20
WATCH_ALL = WatchRequest(create_request=WatchCreateRequest(key=b"\0", range_end=b"\0"))


def raw_call(channel: grpc.Channel, path: str, answer: Any) -> Any:
    return channel.unary_unary(
        path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )


class _Served(Shared):
    """A member with one client."""

    command = staticmethod(server_under_test)

    def setUp(self) -> None:
        self.member = Member(self.command())
        self.addCleanup(self.member.close)
        self.member.start()
        self.client = ForeignClient(self.member.endpoint)
        self.addCleanup(self.client.close)

    def channel(self, *options: tuple[str, object], **more: Any) -> grpc.Channel:
        channel = grpc.insecure_channel(
            self.member.endpoint, [("grpc.use_local_subchannel_pool", 1), *options], **more
        )
        self.addCleanup(channel.close)
        return channel

    def test_deadline(self) -> None:
        """A watch ends at its client's deadline, and the member forgets it by itself even if the
        client has fallen silent."""
        call = self.client.open_unread("Watch.Watch", WATCH_ALL, seconds=0.3)
        self.assertTrue(next(call).created)
        with self.assertRaises(grpc.RpcError) as caught:
            next(call)
        # etcd's own answer at the deadline has code Unknown, and may be faster than grpcio's clock.
        self.assertIn(
            caught.exception.code(),
            (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN),
        )
        with contextlib.closing(RawConnection(self.member.client_port)) as silent:
            block = silent.block("/etcdserverpb.Watch/Watch", ("grpc-timeout", "200m"))
            silent.send(frame(HEADERS, END_HEADERS, 1, block))
            self.assertRegex(silent.outcome(1), "^(status|RST)")
        self.client.call("KV.Put", key=b"a")

    def test_cancelled_watches(self) -> None:
        """Cancelling many watch streams frees what they held: the connection goes on."""
        for _ in range(60):
            call = self.client.open_unread("Watch.Watch", WATCH_ALL)
            self.assertTrue(next(call).created)
            call.cancel()
        self.client.call("KV.Put", key=b"a")

    def test_half_close(self) -> None:
        """After the client's half close a watch goes on, and keepalives end with OK."""
        watch = self.client.open("Watch.Watch")
        self.addCleanup(watch.close)
        watch.send(WATCH_ALL)
        self.assertTrue(watch.receive().created)
        watch.half_close()
        self.client.call("KV.Put", key=b"half")
        self.assertEqual(watch.receive().events[0].kv.key, b"half")
        keepalives = self.client.open("Lease.LeaseKeepAlive")
        self.addCleanup(keepalives.close)
        keepalives.send(LeaseKeepAliveRequest(ID=404))
        keepalives.half_close()
        self.assertEqual(keepalives.receive().TTL, 0)
        self.assertIs(keepalives.receive(), None)

    def test_large_values(self) -> None:
        """Values of 1.4 MB go in and out, and a range of 10 MB comes whole."""
        for number in range(8):
            value = bytes((65 + number,)) * (14 * MEGABYTE // 10)
            self.client.call("KV.Put", key=b"large%d" % number, value=value)
            found = self.client.call("KV.Range", key=b"large%d" % number).kvs[0].value
            self.assertEqual(found, value)
        answer = self.client.call("KV.Range", key=b"large", range_end=b"largf")
        self.assertEqual(answer.count, 8)
        self.assertGreater(answer.ByteSize(), 10 * MEGABYTE)
        self.client.call("KV.DeleteRange", key=b"large", range_end=b"largf")

    def test_compression(self) -> None:
        """Requests compressed with gzip are taken, as etcd takes them."""
        channel = self.channel(compression=grpc.Compression.Gzip)
        put = raw_call(channel, "/etcdserverpb.KV/Put", RangeResponse)
        put(PutRequest(key=b"z", value=b"z" * 10_000), timeout=5)
        self.assertEqual(self.client.call("KV.Range", key=b"z").kvs[0].value, b"z" * 10_000)

    def test_metadata(self) -> None:
        """Metadata of every kind is accepted, binary and long values too."""
        metadata = [
            ("hasleader", "true"),
            ("client-api-version", "3.5"),
            ("some-text", "x" * 4000),
            ("some-bin", bytes(range(256))),
        ]
        self.client.call("KV.Put", key=b"a", metadata=metadata)
        watch = self.client.open("Watch.Watch", metadata=metadata)
        self.addCleanup(watch.close)
        watch.send(WATCH_ALL)
        self.assertTrue(watch.receive().created)

    def test_pings(self) -> None:
        """A client that pings while its watch is quiet, not more often than allowed, keeps its
        connection; so does one that writes much, whose bandwidth probes come with data."""
        channel = self.channel(
            ("grpc.keepalive_time_ms", 300),
            ("grpc.keepalive_timeout_ms", 1000),
            ("grpc.http2.bdp_probe", 1),
        )
        put = raw_call(channel, "/etcdserverpb.KV/Put", RangeResponse)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            put(PutRequest(key=b"a", value=b"x" * 100_000), timeout=5)

    def test_health(self) -> None:
        """The health service answers a check and a watch for the whole server."""
        self.assertEqual(self.client.call("Health.Check").status, SERVING)
        answers = self.client.download("Health.Watch")
        self.assertEqual(next(answers).status, SERVING)
        answers.cancel()
        with self.assertRaises(grpc.RpcError) as caught:
            self.client.call("Health.Check", service="nothing")
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_concurrent_calls(self) -> None:
        """Hundreds of calls under way on one connection are all answered, each with its own."""
        done: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        channel = self.channel()
        call = raw_call(channel, "/etcdserverpb.KV/Range", RangeResponse)
        for number in range(300):
            self.client.call("KV.Put", key=b"c%d" % number, value=b"%d" % number)

        def note(number: int, future: Any) -> None:
            done.put((number, future.result().kvs[0].value))

        for number in range(300):
            future = call.future(RangeRequest(key=b"c%d" % number), timeout=10)
            future.add_done_callback(partial(note, number))
        for _ in range(300):
            number, value = done.get(timeout=10)
            self.assertEqual(value, b"%d" % number)

    def test_forgotten_connections(self) -> None:
        """Connections that come and go leave no file behind."""
        before = self.member.open_files()
        for _ in range(30):
            with contextlib.closing(ForeignClient(self.member.endpoint)) as client:
                client.call("KV.Range", key=b"a")
                stream = client.open("Watch.Watch")
                stream.send(WATCH_ALL)
                stream.receive()
                stream.close()
        deadline = time.monotonic() + 5
        while self.member.open_files() > before + 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertLessEqual(self.member.open_files(), before + 2)


class RealEtcdTests(_Served, SynchronousTestCase):
    """Keeps the expectations honest."""

    skip = None if os.environ.get("ETCDTW_HEAVY") else "ETCDTW_HEAVY is not set"
    command = staticmethod(real_etcd)


class MemberTests(_Served, SynchronousTestCase):
    """The member under test."""
