"""What is fuzzed: each target takes bytes and raises when something is wrong with how they are
taken. ``SEEDS`` has good inputs for each, from which others are made."""

from __future__ import annotations

import json
from collections.abc import Callable

from google.protobuf.message import Message
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from etcdtw.api.gateway.gateway import Gateway
from etcdtw.api.gateway.gosyntax import after_top_level, syntax_error
from etcdtw.api.gateway.routes import find_routes
from etcdtw.api.http.access import Access
from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.site import Site
from etcdtw.errors import EtcdError, ProtocolError
from etcdtw.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    WINDOW_UPDATE,
    frame,
    settings_frame,
)
from etcdtw.http2.header_decoder import HeaderDecoder
from etcdtw.http2.header_encoder import HeaderEncoder
from etcdtw.http2.server import ServerConnection
from etcdtw.pb import rpc_pb2
from etcdtw.rpc import ClientPortFactory, Flusher, ServerSettings
from etcdtw.rpc.local import LocalStream, LocalUnary
from etcdtw.rpc.router import Method
from etcdtw.testing.disk import SimDisk
from tests.app.simulated_member import SimulatedMember
from tests.http2.recorder import OK_HEADERS, OK_TRAILERS, REQUEST, Recorder
from tests.rpc.wire import MemoryTransport

MESSAGE_BYTES_MAX = 1 << 16
OUTPUT_BYTES_MAX = 1 << 24
LIVES = 2_000
"""Inputs after which a member is replaced, so that what it holds stays small."""


class _Members:
    """A member for many inputs."""

    def __init__(self) -> None:
        self._member: SimulatedMember | None = None
        self._left = 0

    def get(self) -> SimulatedMember:
        if self._member is None or self._left == 0 or self._member.fatal:
            self._member = SimulatedMember(SimDisk())
            self._left = LIVES
            # Expiry of leases and snapshots work on their own clock; ours only settles.
            self._member.put(b"a", b"1")
            self._member.settle()
        self._left -= 1
        return self._member


_members = _Members()


def frames(data: bytes) -> None:
    """Bytes to the codec: no exception, no event after the end, bounded output."""
    recorder = Recorder()
    connection = ServerConnection(
        recorder,
        varying_field="grpc-timeout",
        ok_headers=OK_HEADERS,
        ok_trailers=OK_TRAILERS,
        concurrent_streams_max=100,
    )
    step = 1 + (data[0] if data else 0)
    stream = PREFACE + data[1:]
    for at in range(0, len(stream), step):
        connection.receive(stream[at : at + step], at / 1000)
        assert len(connection.take()) < OUTPUT_BYTES_MAX, "output without bound"
    if connection.failed:
        before = len(recorder.events)
        connection.receive(frame(PING, 0, 0, b"12345678"), 1e6)
        assert len(recorder.events) == before, "an event after the connection's end"


def hpack(data: bytes) -> None:
    """Header blocks, cut by their first byte: fields, or the error that HPACK has."""
    decoder = HeaderDecoder()
    step = 1 + (data[0] if data else 0)
    for at in range(1, len(data), step):
        try:
            fields = decoder.decode(data[at : at + step])
        except ProtocolError:
            return
        encoder = HeaderEncoder(lambda field: True)
        again = HeaderDecoder().decode(encoder.encode(fields))
        assert again == fields, "fields do not survive encoding"


def port(data: bytes) -> None:
    """Bytes to the whole client port, HTTP/1.1 or HTTP/2 as they begin."""
    member = _members.get()
    core, clock = member.core, member.clock
    flusher = Flusher(clock)
    gateway = Gateway(core.router, flusher, clock, MESSAGE_BYTES_MAX)
    site = Site({}, {b"/v3/": gateway}, Access(["*"], ["*"]))
    timers = len(clock.getDelayedCalls())
    factory = ClientPortFactory(
        core.router,
        HttpFactory(site, clock, MESSAGE_BYTES_MAX),
        ServerSettings(max_receive_bytes=MESSAGE_BYTES_MAX),
        clock,
        flusher,
    )
    transport = MemoryTransport()
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(transport)
    step = 16 + 16 * (data[0] if data else 0)
    for at in range(1, len(data), step):
        protocol.dataReceived(data[at : at + step])
        member.settle()
        if transport.disconnecting or transport.aborted:
            break
    assert len(transport.value()) < OUTPUT_BYTES_MAX, "output without bound"
    protocol.connectionLost(Failure(ConnectionLost()))
    member.settle()
    assert factory.connection_count == 0, "a connection is still counted"
    assert not core.watches.streams, "a watch stream was left behind"
    assert len(clock.getDelayedCalls()) <= timers + 1, "a timer was left behind"
    assert not member.fatal, f"the member ended: {member.fatal}"


def grpc(data: bytes) -> None:
    """The body of a call, chosen by the first byte: answered, refused, or waiting for more."""
    member = _members.get()
    core = member.core
    methods = [each for each in _methods(member) if each.name != "Snapshot"]  # a child process
    method = methods[data[0] % len(methods)] if data else methods[0]
    body = data[1:]
    if method.unary_handler is not None:
        answers: list[bytes | EtcdError] = []
        call = LocalUnary(method, {}, "fuzz", answers.append)
        call.start(body, MESSAGE_BYTES_MAX)
        member.settle()
        assert len(answers) <= 1, "two answers to one call"
        if not call.done:
            call.cancelled()
    else:
        sink = _Sink()
        stream = LocalStream(method, {}, "fuzz", sink)
        stream.start()
        step = 8 + body[0] if body else 1
        for at in range(1, len(body), step):
            stream.receive(body[at : at + step])
            member.settle()
        stream.half_close()
        member.settle()
        stream.cancelled()
        assert sink.ends <= 1, "a stream ended twice"
    member.settle()
    assert not core.watches.streams, "a watch stream was left behind"
    assert not member.fatal, f"the member ended: {member.fatal}"


class _Sink:
    def __init__(self) -> None:
        self.ends = 0

    def message(self, body: bytes) -> None:
        assert not self.ends, "a message behind the end"

    def ended(self, error: EtcdError | None) -> None:
        self.ends += 1

    def is_writable(self) -> bool:
        return True


def gateway(data: bytes) -> None:
    """A JSON body for a path, chosen by the first byte."""
    member = _members.get()
    routes = sorted(each for each in find_routes(member.core.router) if b"snapshot" not in each)
    path = routes[data[0] % len(routes)] if data else routes[0]
    body = data[1:]
    head = b"POST %s HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (path, len(body))
    port(b"\xff" + head + body)
    syntax_error(body)
    after_top_level(body)


def _requests() -> list[bytes]:
    encoder = HeaderEncoder(lambda field: True)
    found = []
    for path, message in _calls():
        block = encoder.encode(
            tuple((name, path if name == ":path" else value) for name, value in REQUEST)
        )
        body = message.SerializeToString()
        data = b"\0" + len(body).to_bytes(4, "big") + body
        found.append(frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, data))
    return found


def _calls() -> list[tuple[str, Message]]:
    op = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"a", value=b"2"))
    compare = rpc_pb2.Compare(key=b"a", target="VERSION", result="GREATER", version=0)
    kv = "/etcdserverpb.KV/"
    lease = "/etcdserverpb.Lease/"
    return [
        (kv + "Put", rpc_pb2.PutRequest(key=b"a", value=b"2", lease=5, prev_kv=True)),
        (kv + "Range", rpc_pb2.RangeRequest(key=b"a", range_end=b"z", limit=2, revision=1)),
        (kv + "DeleteRange", rpc_pb2.DeleteRangeRequest(key=b"a", range_end=b"\0")),
        (kv + "Txn", rpc_pb2.TxnRequest(compare=[compare], success=[op], failure=[op])),
        (kv + "Compact", rpc_pb2.CompactionRequest(revision=2)),
        (lease + "LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=5, ID=7)),
        (lease + "LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest(ID=7, keys=True)),
        (
            "/etcdserverpb.Watch/Watch",
            rpc_pb2.WatchRequest(
                create_request=rpc_pb2.WatchCreateRequest(key=b"a", start_revision=1)
            ),
        ),
    ]


def _method_index(path: str) -> int:
    methods = [each for each in _methods(_members.get()) if each.name != "Snapshot"]
    return [each.path for each in methods].index(path)


def _methods(member: SimulatedMember) -> list[Method]:
    return sorted(member.core.router.methods(), key=lambda each: each.path)


def _grpc_seeds() -> list[bytes]:
    return [
        bytes((_method_index(path),))
        + (b"\x10" if "Watch" in path else b"")
        + each.SerializeToString()
        for path, each in _calls()
    ]


def _gateway_seeds() -> list[bytes]:
    bodies = [
        {"key": "YQ==", "value": "Yg=="},
        {"key": "YQ==", "range_end": "eg==", "limit": "2", "sort_order": "DESCEND"},
        {"compare": [{"target": "VERSION", "key": "YQ==", "version": 0}], "success": []},
        {"create_request": {"key": "YQ==", "start_revision": "2"}},
        {"ID": "7", "TTL": 5.5, "x": [None, True, {"y": "\u00e9\n"}]},
    ]
    return [bytes((at * 7,)) + json.dumps(each).encode() for at, each in enumerate(bodies)]


def _port_seeds() -> list[bytes]:
    start = PREFACE + settings_frame({4: 1 << 20})
    ends = frame(RST_STREAM, 0, 1, b"\0\0\0\x08") + frame(WINDOW_UPDATE, 0, 0, b"\0\0\1\0")
    web = b"GET /v3/kv/range HTTP/1.1\r\nhost: a\r\n\r\n"
    chunked = b"POST /v3/kv/put HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    chunked += b"2\r\n{}\r\n0\r\n\r\n"
    return [b"\xff" + each for each in (*(start + one + ends for one in _requests()), web, chunked)]


def _hpack_seeds() -> list[bytes]:
    encoder = HeaderEncoder(lambda field: field[0] != ":path")
    blocks = [encoder.encode(REQUEST) for _ in range(2)]
    return [
        bytes((len(each) - 1,)) + each for each in (*blocks, b"\x3f\xe1\x1f", b"\x40\x01a\x01b")
    ]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frames": frames,
    "hpack": hpack,
    "port": port,
    "grpc": grpc,
    "gateway": gateway,
}

SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "frames": lambda: [b"\x40" + each for each in _requests()],
    "hpack": _hpack_seeds,
    "port": _port_seeds,
    "grpc": _grpc_seeds,
    "gateway": _gateway_seeds,
}
