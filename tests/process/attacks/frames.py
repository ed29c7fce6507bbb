"""Broken HTTP/2: each frame error has its code in RFC 9113."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing

from etcdtw.pb.rpc_pb2 import PutRequest
from tests.process.attacks import Attack
from tests.process.raw_http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PUSH_PROMISE,
    PUT,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    RawConnection,
    frame,
    message,
)

PROTOCOL = ("GOAWAY PROTOCOL_ERROR",)
SIZE = ("GOAWAY FRAME_SIZE_ERROR",)
COMPRESSION = ("GOAWAY COMPRESSION_ERROR",)
# A server that gives the window back while it reads is never overrun.
TOO_LARGE = "status 3: etcdserver: request is too large"
VALID_PUT = message(PutRequest(key=b"attack", value=b"x").SerializeToString())


def frames(*octets: bytes, stream: int = 1) -> Callable[[int], str]:
    """Frames that need no header compression, right after the connection's start."""

    def run(port: int) -> str:
        with closing(RawConnection(port)) as connection:
            connection.send(b"".join(octets))
            return connection.outcome(stream)

    return run


def opened(*octets: bytes) -> Callable[[int], str]:
    """Frames that follow an open, unfinished Put on stream 1."""

    def run(port: int) -> str:
        with closing(RawConnection(port)) as connection:
            connection.request(1)
            connection.send(b"".join(octets))
            return connection.outcome()

    return run


def _without_settings(octets: bytes) -> Callable[[int], str]:
    def run(port: int) -> str:
        with closing(RawConnection(port, PREFACE + octets)) as connection:
            return connection.outcome()

    return run


def _bad_block(octets: bytes) -> Callable[[int], str]:
    return frames(frame(HEADERS, END_HEADERS | END_STREAM, 1, octets))


def _window(increment: int, stream: int = 0) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def _setting(identifier: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, identifier.to_bytes(2, "big") + value.to_bytes(4, "big"))


def used_stream_again(port: int) -> str:
    with closing(RawConnection(port)) as connection:
        connection.request(5, PUT, VALID_PUT)
        connection.outcome(5)
        connection.request(3, PUT, VALID_PUT)
        return connection.outcome(3)


def data_after_end(port: int) -> str:
    with closing(RawConnection(port)) as connection:
        watch = "/etcdserverpb.Watch/Watch"
        connection.request(1, watch, message(b""))
        connection.send(frame(DATA, END_STREAM, 1, b"x"))
        return connection.outcome()


def overrun_window(port: int) -> str:
    """Everything at once, whatever the windows say; a message that would be accepted."""
    with closing(RawConnection(port)) as connection:
        body = message(b"\x0a\x01k\x12" + b"\x80\x80\x60" + b"v" * (3 << 19))
        connection.request(1, PUT, body)
        return connection.outcome()


def unknown_frame(port: int) -> str:
    with closing(RawConnection(port)) as connection:
        connection.send(frame(0xFA, 0xFF, 0, b"what is this"))
        return connection.ping()


def half_closed_socket(port: int) -> str:
    """The client closes its sending side in the middle of a frame."""
    with closing(RawConnection(port)) as connection:
        connection.send(frame(HEADERS, END_HEADERS, 1, connection.block())[:-3])
        connection.socket.shutdown(socket.SHUT_WR)
        return connection.outcome()


FRAMES = [
    Attack(
        "no SETTINGS first",
        (*PROTOCOL, "closed"),
        _without_settings(frame(PING, 0, 0, b"8 octets")),
    ),
    # No server announces the largest length that a frame header can hold.
    Attack("frame of 16 MiB", SIZE, opened(b"\xff\xff\xff" + frame(DATA, 0, 1)[3:])),
    Attack("DATA on stream 0", PROTOCOL, frames(frame(DATA, 0, 0, b"x"))),
    Attack("HEADERS on stream 0", PROTOCOL, frames(frame(HEADERS, END_HEADERS, 0, b"\x82"))),
    Attack("HEADERS on an even stream", PROTOCOL, frames(frame(HEADERS, END_HEADERS, 2, b"\x82"))),
    Attack("DATA on an idle stream", PROTOCOL, frames(frame(DATA, 0, 7, b"x"), stream=7)),
    Attack("RST_STREAM on an idle stream", PROTOCOL, frames(frame(RST_STREAM, 0, 7, b"\0" * 4))),
    Attack("RST_STREAM of 3 bytes", SIZE, opened(frame(RST_STREAM, 0, 1, b"\0" * 3))),
    Attack("stream number below the last", (*PROTOCOL, "GOAWAY STREAM_CLOSED"), used_stream_again),
    Attack("DATA after END_STREAM", ("RST STREAM_CLOSED", "GOAWAY STREAM_CLOSED"), data_after_end),
    Attack("padding longer than the frame", PROTOCOL, opened(frame(DATA, PADDED, 1, b"\xff12"))),
    Attack("header index 0", COMPRESSION, _bad_block(b"\x80")),
    Attack(
        "header index out of the table",
        COMPRESSION,
        _bad_block(b"\xff\xff\xff\x07"),
    ),
    Attack("truncated header block", COMPRESSION, _bad_block(b"\x00\x7f")),
    Attack("table size over the limit", COMPRESSION, _bad_block(b"\x3f\xff\xff\x7f")),
    Attack(
        "CONTINUATION without HEADERS",
        PROTOCOL,
        frames(frame(CONTINUATION, END_HEADERS, 1, b"\x82")),
    ),
    Attack(
        "PING inside a header block",
        PROTOCOL,
        frames(frame(HEADERS, 0, 1, b"\x82"), frame(PING, 0, 0, b"8 octets")),
    ),
    Attack(
        "PUSH_PROMISE from a client",
        PROTOCOL,
        frames(frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2\x82")),
    ),
    Attack("connection window update of 0", PROTOCOL, frames(_window(0))),
    Attack(
        "connection window overflow", ("GOAWAY FLOW_CONTROL_ERROR",), frames(_window(0x7FFFFFFF))
    ),
    Attack("stream window update of 0", ("RST PROTOCOL_ERROR", *PROTOCOL), opened(_window(0, 1))),
    Attack(
        "stream window overflow",
        ("RST FLOW_CONTROL_ERROR", "GOAWAY FLOW_CONTROL_ERROR"),
        opened(_window(0x7FFFFFFF, 1)),
    ),
    Attack("WINDOW_UPDATE of 3 bytes", SIZE, frames(frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"))),
    Attack("SETTINGS of 5 bytes", SIZE, frames(frame(SETTINGS, 0, 0, b"\0" * 5))),
    Attack("SETTINGS on a stream", PROTOCOL, frames(frame(SETTINGS, 0, 1))),
    Attack(
        "SETTINGS acknowledgement with a body", SIZE, frames(frame(SETTINGS, ACK, 0, b"\0" * 6))
    ),
    Attack(
        "initial window over 2^31-1", ("GOAWAY FLOW_CONTROL_ERROR",), frames(_setting(4, 1 << 31))
    ),
    Attack("frame size limit of 1", PROTOCOL, frames(_setting(5, 1))),
    Attack("ENABLE_PUSH of 2", PROTOCOL, frames(_setting(2, 2))),
    Attack("PING of 7 bytes", SIZE, frames(frame(PING, 0, 0, b"7 bytes"))),
    Attack("PING on a stream", PROTOCOL, frames(frame(PING, 0, 1, b"8 octets"))),
    Attack(
        "more DATA than the window",
        ("RST FLOW_CONTROL_ERROR", "GOAWAY FLOW_CONTROL_ERROR", TOO_LARGE),
        overrun_window,
    ),
    Attack("unknown frame type is ignored", ("pong",), unknown_frame),
    Attack("end of the socket inside a frame", ("closed", "GOAWAY"), half_closed_socket),
]
