"""Broken gRPC on sound HTTP/2: the texts and codes are those of etcd 3.5."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from etcdtw.pb.rpc_pb2 import PutRequest
from tests.process.attacks import Attack
from tests.process.raw_http2 import (
    END_HEADERS,
    HEADERS,
    PUT,
    RawConnection,
    frame,
    message,
)

PROTOCOL = ("GOAWAY PROTOCOL_ERROR",)
# Unknown in the gRPC library of early 3.5 releases, Internal in later ones.
CUT = ("status 2: unexpected EOF", "status 13: unexpected EOF")
PLAIN_PUT = PutRequest(key=b"attack", value=b"x").SerializeToString()
VALID_PUT = message(PLAIN_PUT)


def unary(body: bytes, path: str = PUT, **headers: str | None) -> Callable[[int], str]:
    """One finished request whose body holds these bytes."""

    def run(port: int) -> str:
        with closing(RawConnection(port)) as connection:
            block = connection.block(path, **headers)
            connection.send(frame(HEADERS, END_HEADERS, 1, block) + connection.data(1, body))
            return connection.outcome()

    return run


def with_header(name: str, value: str) -> Callable[[int], str]:
    """A valid Put with one more header."""

    def run(port: int) -> str:
        with closing(RawConnection(port)) as connection:
            block = connection.block(PUT, (name, value))
            octets = connection.data(1, VALID_PUT)
            connection.send(frame(HEADERS, END_HEADERS, 1, block) + octets)
            return connection.outcome()

    return run


def unary_encoded(port: int) -> str:
    with closing(RawConnection(port)) as connection:
        block = connection.block(PUT, ("grpc-encoding", "snappy"))
        octets = connection.data(1, message(PLAIN_PUT, flag=1))
        connection.send(frame(HEADERS, END_HEADERS, 1, block) + octets)
        return connection.outcome()


GRPC = [
    Attack(
        "unknown method",
        ("status 12: unknown method Nope for service etcdserverpb.KV",),
        unary(message(b""), "/etcdserverpb.KV/Nope"),
    ),
    Attack(
        "unknown service",
        ("status 12: unknown service no.Such",),
        unary(message(b""), "/no.Such/Method"),
    ),
    Attack(
        "path without a method",
        ('status 8: malformed method name: "nope"', 'status 12: malformed method name: "nope"'),
        unary(message(b""), "nope"),
    ),
    Attack("truncated protobuf", ("status 13: grpc: ",), unary(message(b"\x0a\xff"))),
    Attack("endless varint", ("status 13: grpc: ",), unary(message(b"\x18" + b"\xff" * 12))),
    Attack("field number 0", ("status 13: grpc: ",), unary(message(b"\x02\x01x"))),
    Attack("key with a number's wire type", ("status 13: grpc: ",), unary(message(b"\x08\x01"))),
    Attack(
        "lease with a text's wire type",
        ("status 13: grpc: ",),
        unary(message(b"\x0a\x01k\x1a\x01x")),
    ),
    Attack("unbalanced group", ("status 13: grpc: ",), unary(message(b"\x0a\x01k\x7b"))),
    Attack(
        "message of 3 MiB",
        ("status 8: grpc: received message larger than max (3145728 vs. 2097152)",),
        unary(message(b"x", length=3 << 20)),
    ),
    Attack(
        "message length of 4 GiB",
        ("status 8: grpc: received message larger than max (4294967295 vs. 2097152)",),
        unary(message(b"x", length=0xFFFFFFFF)),
    ),
    Attack(
        "compressed flag without an encoding",
        ("status 13: grpc: compressed flag set",),
        unary(message(PLAIN_PUT, flag=1)),
    ),
    Attack("unknown compression", ("status 12: ",), unary_encoded),
    Attack(
        "message flag 2",
        ("status 13: grpc: received unexpected payload format 2",),
        unary(message(PLAIN_PUT, flag=2)),
    ),
    Attack("no message at all", ("status 2: EOF", "status 13: EOF"), unary(b"")),
    Attack("message cut in its prefix", CUT, unary(b"\0\0")),
    Attack("message cut in its body", CUT, unary(message(b"x", length=9))),
    Attack("two messages in a unary call", ("status 0", "status 13"), unary(VALID_PUT * 2)),
    Attack(
        "another content type",
        ("HTTP 415", "RST"),
        unary(VALID_PUT, content_type="text/html"),
    ),
    Attack("no content type", ("HTTP 415", "RST"), unary(VALID_PUT, content_type=None)),
    Attack("method GET", ("HTTP 405", "RST"), unary(VALID_PUT, method="GET")),
    Attack("no method", ("RST PROTOCOL_ERROR", *PROTOCOL), unary(VALID_PUT, method=None)),
    Attack("header in capitals", ("RST PROTOCOL_ERROR", *PROTOCOL), with_header("X-Capital", "1")),
    Attack(
        "grpc-timeout that is no number",
        ("status 13: malformed grpc-timeout", "RST", "HTTP 400"),
        with_header("grpc-timeout", "soon"),
    ),
    Attack(
        "grpc-timeout of 0",
        ("status 4", "status 2: context deadline exceeded", "RST CANCEL"),
        with_header("grpc-timeout", "0n"),
    ),
    Attack(
        "token that nobody issued",
        ("status 16: etcdserver: invalid auth token", "status 0"),
        with_header("token", "x" * 4000),
    ),
]
