"""Broken HTTP/1.1, and bytes of no protocol, on the client port."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing

from tests.process.attacks import Attack
from tests.process.raw_http2 import (
    PREFACE,
)


def first_bytes(octets: bytes) -> Callable[[int], str]:
    """Bytes instead of the connection preface; HTTP/1.1 answers by its status line.

    The sending side is closed if a second passes without an answer.
    """

    def run(port: int) -> str:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=1)) as connection:
            try:
                connection.sendall(octets)
                try:
                    answer = connection.recv(4096)
                except TimeoutError:
                    connection.shutdown(socket.SHUT_WR)
                    answer = connection.recv(4096)
            except TimeoutError:
                return "silence"
            except OSError:
                return "closed"
        if answer.startswith(b"HTTP/1."):
            return f"HTTP {answer.split()[1].decode()}"
        return "closed" if not answer else f"{answer[:40]!r}"

    return run


HTTP1 = [
    Attack(
        "noise", ("closed", "HTTP 400"), first_bytes(b"\x16\x03\x01 noise \xff\xfe\r\n\r\n" * 20)
    ),
    Attack("half a preface", ("closed", "HTTP 400"), first_bytes(PREFACE[:17])),
    Attack("almost a preface", ("closed", "HTTP"), first_bytes(PREFACE[:-4] + b"XX\r\n")),
    Attack(
        "request line without a version",
        ("closed", "HTTP 400"),
        first_bytes(b"GET /health\r\n\r\n"),
    ),
    Attack("unknown path", ("HTTP 404",), first_bytes(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")),
    Attack("unknown method", ("HTTP",), first_bytes(b"BREW /health HTTP/1.1\r\nHost: x\r\n\r\n")),
    Attack(
        "header line of 1 MB",
        ("closed", "HTTP 4"),
        first_bytes(b"GET /health HTTP/1.1\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\n"),
    ),
    Attack(
        "negative content length",
        ("closed", "HTTP 400"),
        first_bytes(b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
    ),
    Attack(
        "length and chunks at once",
        ("closed", "HTTP 4"),
        first_bytes(
            b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nzzzz\r\n\r\n"
        ),
    ),
]
