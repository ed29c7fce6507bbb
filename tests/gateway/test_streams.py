"""Calls behind gateway requests, with handlers that the test plays."""

from __future__ import annotations

import json

from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.gateway.exchanges import QUEUE_BYTES
from etcdtw.api.gateway.gateway import STREAMS_MAX, Gateway
from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.site import Site
from etcdtw.api.v3.absent import refuse_the_rest
from etcdtw.errors import NoLeader, Stopped
from etcdtw.pb.rpc_pb2 import (
    HashKVResponse,
    PutRequest,
    RangeResponse,
    SnapshotRequest,
    WatchRequest,
    WatchResponse,
)
from etcdtw.rpc import Flusher, Router, StreamCall, UnaryCall

ONE = WatchResponse(watch_id=1).SerializeToString()
MESSAGE_BYTES_MAX = 1000


class GatewayTestCase(SynchronousTestCase):
    streams_max = STREAMS_MAX

    def setUp(self) -> None:
        self.clock = Clock()
        self.flusher = Flusher(self.clock)
        self.unary: list[tuple[UnaryCall, bytes]] = []
        self.streams: list[StreamCall] = []
        self.messages: list[bytes] = []
        self.ended: list[str] = []
        router = Router()
        for path in ("KV/Put", "KV/Range", "Maintenance/HashKV"):
            router.add_unary(
                f"/etcdserverpb.{path}", lambda call, body: self.unary.append((call, body))
            )
        router.add_stream("/etcdserverpb.Watch/Watch", self.begin, lasting=True)
        router.add_stream("/etcdserverpb.Maintenance/Snapshot", self.begin, "server_stream")
        refuse_the_rest(router)
        self.gateway = Gateway(
            router, self.flusher, self.clock, MESSAGE_BYTES_MAX, self.streams_max
        )
        self.factory = HttpFactory(Site({}, {b"/v3/": self.gateway}), self.clock)
        self.connect()

    def connect(self) -> None:
        self.channel = self.factory.buildProtocol(None)
        self.transport = StringTransport()
        self.channel.makeConnection(self.transport)

    def begin(self, call: StreamCall) -> None:
        self.streams.append(call)
        call.on_message = self.messages.append
        call.on_half_close = lambda: self.ended.append("half close")
        call.on_cancel = lambda: self.ended.append("cancel")
        call.on_writable = lambda: self.ended.append("writable")

    def post(self, path: str, body: str, *headers: str) -> None:
        lines = [f"POST /v3/{path} HTTP/1.1", "host: a", f"content-length: {len(body)}", *headers]
        self.channel.dataReceived("\r\n".join((*lines, "", body)).encode())

    def said(self) -> tuple[str, bytes]:
        """Status line and the rest behind the headers, since the last call."""
        head, _, rest = self.transport.value().partition(b"\r\n\r\n")
        self.transport.clear()
        return head.split(b"\r\n")[0].decode(), rest


class FullTests(GatewayTestCase):
    streams_max = 1

    def test_requests_wait(self) -> None:
        """While as many streams are open as may be, requests wait; who leaves waits no more."""
        self.post("watch", "{}")
        self.post_elsewhere("kv/put", '{"key":"YQ=="}')
        left = self.post_elsewhere("kv/put", '{"key":"YQ=="}')
        self.assertEqual(self.unary, [])
        left.connectionLost(Failure(ConnectionLost()))
        self.channel.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(
            [body for _, body in self.unary], [PutRequest(key=b"a").SerializeToString()]
        )

    def post_elsewhere(self, path: str, body: str) -> Protocol:
        """The same from another client."""
        mine, self.channel = self.channel, self.factory.buildProtocol(None)
        self.channel.makeConnection(StringTransport())
        self.post(path, body)
        other, self.channel = self.channel, mine
        return other


class UnaryTests(GatewayTestCase):
    def test_request_and_answer(self) -> None:
        """The handler gets protobuf bytes and metadata; its answer is JSON, later too."""
        self.post(
            "kv/put", '{"key":"YQ=="}', "Grpc-Metadata-HasLeader: true", "Authorization: token"
        )
        call, body = self.unary.pop()
        self.assertEqual(PutRequest.FromString(body), PutRequest(key=b"a"))
        self.assertEqual(dict(call.metadata), {"hasleader": "true", "authorization": "token"})
        self.assertEqual(self.transport.value(), b"")
        call.reply(RangeResponse(count=3).SerializeToString())
        self.assertTrue(call.done)
        self.assertEqual(self.said()[0], "HTTP/1.1 200 OK")
        method = call.method
        self.assertEqual((method.started, method.handled[0]), (1, 1))

    def test_error(self) -> None:
        """An error has its HTTP status and says itself twice, as etcd's does."""
        self.post("kv/put", "{}")
        self.unary.pop()[0].fail(NoLeader())
        status, body = self.said()
        self.assertEqual(status, "HTTP/1.1 503 Service Unavailable")
        text = "etcdserver: no leader"
        self.assertEqual(json.loads(body), {"error": text, "code": 14, "message": text})

    def test_unimplemented(self) -> None:
        """A call that this build lacks says so."""
        self.post("auth/enable", "{}")
        self.assertEqual(self.said()[0], "HTTP/1.1 501 Not Implemented")

    def test_another_life(self) -> None:
        """What nobody will answer any more ends with an error when a life of the member ends."""
        self.post("kv/put", '{"key":"YQ=="}')
        call, _ = self.unary.pop()
        call.on_cancel = lambda: self.ended.append("cancel")
        self.gateway.end_calls(Stopped())
        status, content = self.said()
        self.assertEqual(status, "HTTP/1.1 503 Service Unavailable")
        self.assertIn(str(Stopped()).encode(), content)
        self.assertEqual(self.ended, ["cancel"])
        self.gateway.end_calls(Stopped())
        call.reply(b"")
        self.assertEqual(self.said(), ("", b""))

    def test_timeout(self) -> None:
        """``Grpc-Timeout`` ends a call that takes longer; its answer comes too late."""
        self.post("kv/put", "{}", "Grpc-Timeout: 50m")
        call = self.unary.pop()[0]
        cancelled: list[int] = []
        call.on_cancel = lambda: cancelled.append(1)
        self.clock.advance(0.05)
        status, body = self.said()
        self.assertEqual(status, "HTTP/1.1 504 Gateway Timeout")
        self.assertEqual(json.loads(body)["message"], "context deadline exceeded")
        self.assertEqual(cancelled, [1])
        call.reply(b"")
        self.assertEqual(self.transport.value(), b"")

    def test_timeout_not_reached(self) -> None:
        """An answer in time leaves no timer behind but the connection's."""
        self.post("kv/put", "{}", "Grpc-Timeout: 50m")
        self.unary.pop()[0].reply(b"")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_client_gone(self) -> None:
        """When the client leaves the call is cancelled and its answer goes nowhere."""
        self.post("kv/put", "{}")
        call = self.unary.pop()[0]
        cancelled: list[int] = []
        call.on_cancel = lambda: cancelled.append(1)
        self.channel.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(cancelled, [1])
        call.reply(b"")
        self.assertEqual(self.transport.value(), b"")

    def test_too_large(self) -> None:
        """The limit of gRPC messages holds for gateway requests."""
        self.post("kv/put", json.dumps({"key": "A" * 2000}))
        status, body = self.said()
        self.assertEqual(status, "HTTP/1.1 429 Too Many Requests")
        self.assertIn("received message larger than max", json.loads(body)["error"])
        self.assertEqual(self.unary, [])

    def test_hash_kv(self) -> None:
        """HashKV has the path of later releases."""
        self.post("maintenance/hashkv", "{}")
        self.unary.pop()[0].reply(HashKVResponse(hash=7).SerializeToString())
        self.assertEqual(self.said()[1], b'{"hash":7}')


class StreamTests(GatewayTestCase):
    def test_lines(self) -> None:
        """Messages of a turn leave together at its end, a line each."""
        self.post("watch", '{"create_request":{"key":"YQ=="}}{"progress_request":{}}')
        requests = map(WatchRequest.FromString, self.messages)
        kinds = [each.WhichOneof("request_union") for each in requests]
        self.assertEqual(kinds, ["create_request", "progress_request"])
        self.assertEqual(self.ended, ["half close"])
        call = self.streams.pop()
        self.flusher.hold()
        call.send(ONE)
        call.send(ONE)
        self.assertEqual(self.transport.value(), b"")
        self.flusher.release()
        line = b'{"result":{"watch_id":"1"}}\n'
        status, body = self.said()
        self.assertEqual(status, "HTTP/1.1 200 OK")
        self.assertEqual(body, b"%x\r\n%s\r\n" % (2 * len(line), 2 * line))
        call.finish()
        self.flusher.flush()
        self.assertEqual(self.transport.value(), b"0\r\n\r\n")

    def test_error_after_messages(self) -> None:
        """A stream that fails under way ends with a line that says why."""
        self.post("watch", "{}")
        call = self.streams.pop()
        call.send(ONE)
        call.finish(NoLeader())
        self.flusher.flush()
        last = self.said()[1].split(b"\r\n")[3]
        self.assertEqual(
            json.loads(last),
            {
                "error": {
                    "grpc_code": 14,
                    "http_code": 503,
                    "message": "etcdserver: no leader",
                    "http_status": "Service Unavailable",
                }
            },
        )

    def test_error_at_once(self) -> None:
        """A stream that fails before its first message is an error like a unary call's."""
        self.post("watch", "{}")
        self.streams.pop().finish(NoLeader())
        self.flusher.flush()
        self.assertEqual(self.said()[0], "HTTP/1.1 503 Service Unavailable")

    def test_server_stream(self) -> None:
        """A call that takes one message gets one, from an empty body too."""
        self.post("maintenance/snapshot", "")
        self.assertEqual(self.messages, [SnapshotRequest().SerializeToString()])

    def test_client_gone(self) -> None:
        """When the client leaves the call is cancelled; what waits is not written."""
        self.post("watch", "{}")
        call = self.streams.pop()
        call.send(ONE)
        self.channel.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.ended, ["half close", "cancel"])
        self.flusher.flush()
        self.assertEqual(self.transport.value(), b"")
        self.gateway.stop()

    def test_timeout(self) -> None:
        """``Grpc-Timeout`` ends a stream too."""
        self.post("watch", "{}", "Grpc-Timeout: 1S")
        self.clock.advance(1)
        self.clock.advance(0)
        self.assertEqual(self.ended, ["half close", "cancel"])
        self.assertEqual(self.said()[0], "HTTP/1.1 504 Gateway Timeout")

    def test_stop(self) -> None:
        """When the member stops, streams end with that reason."""
        self.post("watch", "{}")
        self.streams[0].send(ONE)
        self.gateway.stop()
        self.flusher.flush()
        self.assertIn(str(Stopped()).encode(), self.said()[1])
        self.assertTrue(self.streams[0].done)

    def test_another_life(self) -> None:
        """Streams of lasting methods go on when a life of the member ends, others do not."""
        for path, stays in (("watch", True), ("maintenance/snapshot", False)):
            self.connect()
            self.post(path, "{}")
            self.gateway.end_calls(Stopped())
            self.assertEqual(self.streams[-1].done, not stays)

    def test_back_pressure(self) -> None:
        """A stream is not writable while much waits for the end of the turn, nor while the
        connection is full, and is told when it is again."""
        self.post("watch", "{}")
        call = self.streams.pop()
        self.flusher.hold()
        self.assertTrue(call.writable)
        for _ in range(QUEUE_BYTES // 20):
            call.send(ONE)
        self.assertFalse(call.writable)
        self.flusher.release()
        self.assertEqual(self.ended, ["half close", "writable"])
        self.assertTrue(call.writable)
        producer = self.transport.producer
        assert producer is not None
        producer.pauseProducing()
        self.assertFalse(call.writable)
        producer.resumeProducing()
        self.assertEqual(self.ended, ["half close", "writable", "writable"])

    def test_second_request(self) -> None:
        """The connection serves the next request when the stream has ended."""
        self.post("watch", "{}")
        self.post("kv/put", "{}")
        self.assertEqual(self.unary, [])
        self.streams.pop().finish()
        self.flusher.flush()
        self.unary.pop()[0].reply(b"")
        self.assertIn(b"HTTP/1.1 200 OK\r\n", self.transport.value())
