"""Closed-loop load whose every request differs: key, value and ``grpc-timeout``.

All requests of a connection are encoded before the clock starts, timeouts with incremental
indexing as grpc-go writes them, so that the client only copies bytes and counts answers.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterator

import hpack

from benchmarks.h2load import Loaded, LoadFailed
from benchmarks.samples import Sample
from tests.process.raw_http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    message,
    request_fields,
)

TIMEOUT_SECONDS = 60.0
_HEADER = struct.Struct("!HBBBI")
_ANSWER_WINDOW = (1 << 31) - 1
START = (
    PREFACE
    + frame(SETTINGS, 0, 0, struct.pack("!HI", 4, _ANSWER_WINDOW))
    + frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", _ANSWER_WINDOW - 65535))
)


def frames_of(received: bytes) -> tuple[list[tuple[int, int, int, bytes]], bytes]:
    """All whole frames as (kind, flags, stream, payload), and the bytes that are left."""
    frames, position, end = [], 0, len(received)
    while end - position >= 9:
        high, low, kind, flags, stream = _HEADER.unpack_from(received, position)
        after = position + 9 + (high << 8 | low)
        if after > end:
            break
        frames.append((kind, flags, stream, received[position + 9 : after]))
        position = after
    return frames, received[position:]


class PreparedConnection:
    """One connection; with ``refill`` every answered request is replaced by the next one."""

    def __init__(self, port: int, requests: list[bytes], *, refill: bool = True) -> None:
        self._requests = requests
        self._refill = refill
        self._sent = 0
        self._received = b""
        self._begin: dict[int, float] = {}
        self.latencies_us: list[float] = []
        self.answer_bytes = 0
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(START)

    @property
    def finished(self) -> bool:
        return len(self.latencies_us) == len(self._requests)

    def send(self, count: int, control: bytes = b"") -> None:
        """Open up to ``count`` more streams in one write."""
        first, self._sent = self._sent, min(self._sent + count, len(self._requests))
        octets = control + b"".join(self._requests[first : self._sent])
        now = time.perf_counter()
        for number in range(first, self._sent):
            self._begin[2 * number + 1] = now
        if octets:
            self.socket.sendall(octets)

    def receive(self) -> None:
        """Take what has come, and replace every finished stream by a new one."""
        received = self._received + self.socket.recv(262144)
        if len(received) == len(self._received):
            raise LoadFailed("the server closed the connection")
        now = time.perf_counter()
        done, control = 0, b""
        frames, self._received = frames_of(received)
        for kind, flags, stream, payload in frames:
            if kind == DATA:
                self.answer_bytes += len(payload)
            elif kind == PING and not flags & ACK:
                control += frame(PING, ACK, 0, payload)
            elif kind == SETTINGS and not flags & ACK:
                control += frame(SETTINGS, ACK, 0)
            elif kind in (GOAWAY, RST_STREAM):
                raise LoadFailed(f"frame {kind}: {payload!r}")
            if flags & END_STREAM and kind in (HEADERS, DATA):
                self.latencies_us.append((now - self._begin.pop(stream)) * 1e6)
                done += 1
        self.send(done if self._refill else 0, control)


def encoded(path: str, bodies: Iterator[bytes], count: int) -> list[bytes]:
    """``count`` requests of one connection as they go on the wire."""
    encoder = hpack.Encoder()
    fixed = [*request_fields(path), ("user-agent", "varying-load/1")]
    requests = []
    for number in range(count):
        # Microseconds that are left of five seconds, never twice the same.
        block = encoder.encode([*fixed, ("grpc-timeout", f"{4_999_999 - number}u")])
        stream = 2 * number + 1
        requests.append(
            frame(HEADERS, END_HEADERS, stream, block)
            + frame(DATA, END_STREAM, stream, message(next(bodies)))
        )
    return requests


def run(
    member: Loaded,
    path: str,
    bodies: Callable[[int], Iterator[bytes]],
    *,
    connections: int,
    streams: int,
    requests: int,
    answer_bytes_min: int = 0,
) -> Sample:
    """Send ``requests`` different requests; ``bodies`` gives those of a connection's number."""
    each = requests // connections
    prepared = [encoded(path, bodies(number), each) for number in range(connections)]
    load = [PreparedConnection(member.client_port, encoded_ones) for encoded_ones in prepared]
    try:
        cpu_before, begin = member.cpu_seconds(), time.perf_counter()
        with selectors.DefaultSelector() as selector:
            for connection in load:
                selector.register(connection.socket, selectors.EVENT_READ, connection)
                connection.send(streams)
            running = len(load)
            while running:
                ready = selector.select(TIMEOUT_SECONDS)
                if not ready:
                    raise LoadFailed(f"no answer for {TIMEOUT_SECONDS} s")
                for key, _ in ready:
                    key.data.receive()
                    if key.data.finished:
                        selector.unregister(key.fileobj)
                        running -= 1
        seconds = time.perf_counter() - begin
        cpu_seconds = member.cpu_seconds() - cpu_before
    finally:
        for connection in load:
            connection.socket.close()
    answer_bytes = sum(connection.answer_bytes for connection in load)
    if answer_bytes < answer_bytes_min * each * connections:
        raise LoadFailed(f"{answer_bytes} bytes of answers, too few for {requests} requests")
    latencies = [latency for connection in load for latency in connection.latencies_us]
    return Sample.of_latencies(seconds, latencies, cpu_seconds)
