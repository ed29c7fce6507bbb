"""Much of what is allowed once: the limits of the HTTP/2 codec."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import closing

from etcdtw.pb.rpc_pb2 import PutRequest
from tests.process.attacks import Attack
from tests.process.raw_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    PREFACE,
    PUT,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    RawConnection,
    frame,
    message,
)

WINDOW_MAX = (1 << 31) - 1
CALM = ("GOAWAY ENHANCE_YOUR_CALM",)
PROTOCOL = ("GOAWAY PROTOCOL_ERROR",)
ONE_MORE_BYTE = frame(WINDOW_UPDATE, 0, 1, (1).to_bytes(4, "big"))
VALID_PUT = message(PutRequest(key=b"attack", value=b"x").SerializeToString())


def flood(piece: bytes, count: int, *, stream_open: bool = False) -> Callable[[int], str]:
    """The same frame very often, answers left unread until the end."""

    def run(port: int) -> str:
        with closing(RawConnection(port)) as connection:
            if stream_open:
                connection.request(1)
            connection.send_without_reading(piece * count, 2.0)
            return connection.outcome()

    return run


def continuation_flood(port: int) -> str:
    with closing(RawConnection(port)) as connection:
        octets = frame(HEADERS, 0, 1, connection.block())
        octets += frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b") * 2000
        connection.send_without_reading(octets, 2.0)
        return connection.outcome()


def huge_headers(port: int) -> str:
    with closing(RawConnection(port)) as connection:
        block = connection.block(PUT, *((f"x-{n}", "v" * 4000) for n in range(40)))
        first, rest = block[:16384], block[16384:]
        octets = frame(HEADERS, 0, 1, first)
        while rest:
            piece, rest = rest[:16384], rest[16384:]
            octets += frame(CONTINUATION, 0 if rest else END_HEADERS, 1, piece)
        connection.send(octets)
        return connection.outcome()


def rapid_reset(port: int) -> str:
    with closing(RawConnection(port)) as connection:
        first = connection.block()
        indexed = connection.block()
        for stream in range(1, 4001, 2):
            pair = frame(HEADERS, END_HEADERS, stream, indexed if stream > 1 else first)
            pair += frame(RST_STREAM, 0, stream, (8).to_bytes(4, "big"))
            if not connection.send(pair):
                break
        return connection.outcome(stream=0)


def greedy_reader(port: int, answers: int, request: bytes) -> RawConnection:
    """Asks for much, allows everything by its windows, and never reads; the caller closes."""
    wide = frame(SETTINGS, 0, 0, struct.pack("!HI", 4, WINDOW_MAX))
    wide += frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", WINDOW_MAX - 65535))
    connection = RawConnection(port, PREFACE + wide)
    for number in range(answers):
        stream = 2 * number + 1
        octets = frame(HEADERS, END_HEADERS, stream, connection.block("/etcdserverpb.KV/Range"))
        if not connection.send_without_reading(octets + connection.data(stream, request), 0.5):
            break
    return connection


def many_open_streams(port: int) -> str:
    """Streams that never send their body; the connection must still answer."""
    with closing(RawConnection(port)) as connection:
        for stream in range(1, 1001, 2):
            connection.request(stream)
        connection.request(1001, PUT, VALID_PUT)
        return connection.outcome(1001)


FLOODS = [
    Attack("CONTINUATION flood", (*CALM, "closed"), continuation_flood),
    Attack(
        "headers of 160 KB",
        (*CALM, *PROTOCOL, "GOAWAY COMPRESSION_ERROR", "RST", "HTTP 431"),
        huge_headers,
    ),
    Attack("rapid reset", CALM, rapid_reset),
    Attack("PING flood", CALM, flood(frame(PING, 0, 0, b"8 octets"), 200_000)),
    Attack("SETTINGS flood", CALM, flood(frame(SETTINGS, 0, 0), 200_000)),
    Attack("empty DATA flood", CALM, flood(frame(DATA, 0, 1), 200_000, stream_open=True)),
    Attack(
        "window update flood",
        (*CALM, "silence"),
        flood(ONE_MORE_BYTE, 200_000, stream_open=True),
    ),
    Attack(
        "PRIORITY flood",
        (*CALM, "silence", "pong"),
        flood(frame(2, 0, 1, b"\0\0\0\0\1"), 200_000, stream_open=True),
    ),
    Attack("500 streams without a body", ("status 0",), many_open_streams),
]
