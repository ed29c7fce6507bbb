"""One put, many watchers: how long until the last of them has seen it."""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import replace
from itertools import repeat
from typing import Protocol

import hpack

from benchmarks.h2load import LoadFailed
from benchmarks.samples import Sample
from benchmarks.varying import START, TIMEOUT_SECONDS, PreparedConnection, encoded, frames_of
from etcdtw.pb.rpc_pb2 import PutRequest, WatchRequest
from tests.process.raw_http2 import (
    ACK,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    frame,
    message,
    request_fields,
)

WATCHED = b"watched"
_DATA_BYTES_MAX = 16384


class _WatchConnection:
    """One connection with one watch stream, which counts the messages that arrive."""

    def __init__(self, port: int, watchers: int) -> None:
        self._frames = b""
        self._messages = b""
        self.received = 0
        block = hpack.Encoder().encode(request_fields("/etcdserverpb.Watch/Watch"))
        create = message(WatchRequest(create_request={"key": WATCHED}).SerializeToString())
        creates = create * watchers
        pieces = [
            frame(DATA, 0, 1, creates[first : first + _DATA_BYTES_MAX])
            for first in range(0, len(creates), _DATA_BYTES_MAX)
        ]
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(START + frame(HEADERS, END_HEADERS, 1, block) + b"".join(pieces))

    def receive(self) -> None:
        octets = self.socket.recv(262144)
        if not octets:
            raise LoadFailed("the server closed a watch connection")
        found, self._frames = frames_of(self._frames + octets)
        for kind, flags, _, payload in found:
            if kind == DATA:
                self._messages += payload
            elif kind == PING and not flags & ACK:
                self.socket.sendall(frame(PING, ACK, 0, payload))
            elif kind in (GOAWAY, RST_STREAM):
                raise LoadFailed(f"frame {kind} on a watch connection: {payload!r}")
        position = 0
        while len(self._messages) - position >= 5:
            end = position + 5 + int.from_bytes(self._messages[position + 1 : position + 5], "big")
            if end > len(self._messages):
                break
            self.received += 1
            position = end
        self._messages = self._messages[position:]


class Watched(Protocol):
    """What is measured: a member, or a proxy in front of one."""

    client_port: int

    def cpu_seconds(self) -> float: ...


def run(member: Watched, *, streams: int, watchers: int, puts: int) -> Sample:
    """``watchers`` of one key spread over ``streams`` connections; then ``puts`` one by one."""
    body = PutRequest(key=WATCHED, value=b"x" * 256).SerializeToString()
    put_requests = encoded("/etcdserverpb.KV/Put", repeat(body), puts)
    writer = PreparedConnection(member.client_port, put_requests, refill=False)
    watches = [_WatchConnection(member.client_port, watchers // streams) for _ in range(streams)]
    connections: tuple[PreparedConnection | _WatchConnection, ...] = (writer, *watches)
    everyone = watchers // streams * streams
    try:
        with selectors.DefaultSelector() as selector:
            for connection in connections:
                selector.register(connection.socket, selectors.EVENT_READ, connection)

            def read_until(messages: int) -> None:
                while sum(watch.received for watch in watches) < messages:
                    ready = selector.select(TIMEOUT_SECONDS)
                    if not ready:
                        raise LoadFailed(f"no watch message for {TIMEOUT_SECONDS} s")
                    for key, _ in ready:
                        key.data.receive()

            read_until(everyone)  # "created", from each
            latencies, cpu_before = [], member.cpu_seconds()
            for number in range(1, puts + 1):
                begin = time.perf_counter()
                writer.send(1)
                read_until(everyone * (number + 1))
                latencies.append((time.perf_counter() - begin) * 1e6)
            cpu_seconds = member.cpu_seconds() - cpu_before
    finally:
        for connection in connections:
            connection.socket.close()
    sample = Sample.of_latencies(1.0, latencies, cpu_seconds)
    assert sample.p50_us is not None
    return replace(
        sample,
        value=sample.p50_us / 1000,
        requests=puts * everyone,
        cpu_us_per_request=cpu_seconds / (puts * everyone) * 1e6,
    )
