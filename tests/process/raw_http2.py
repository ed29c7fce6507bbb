"""HTTP/2 by hand on a blocking socket: nothing stops it from sending what no client would."""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
ERROR_NAMES = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
)
PUT = "/etcdserverpb.KV/Put"
OUTCOME_SECONDS = 5.0


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def message(body: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """A gRPC message with its prefix; ``length`` may lie."""
    return struct.pack("!BI", flag, len(body) if length is None else length) + body


def error_name(code: int) -> str:
    return ERROR_NAMES[code] if code < len(ERROR_NAMES) else str(code)


def request_fields(path: str) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]


class RawConnection:
    """One connection; sending never raises, since a server under attack may hang up at any time.

    ``outcome`` tells in a few words what the server did: ``GOAWAY <name>``, ``RST <name>``,
    ``status <grpc-status>: <message>``, ``HTTP <status>``, ``closed`` or ``silence``.
    """

    def __init__(self, port: int, first: bytes = PREFACE + frame(SETTINGS, 0, 0)) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=OUTCOME_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self._ended = False
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self.send(first)

    def close(self) -> None:
        self.socket.close()

    def send(self, octets: bytes) -> bool:
        """False once the server has hung up. Reads meanwhile, so that neither side blocks."""
        view = memoryview(octets)
        deadline = time.monotonic() + OUTCOME_SECONDS
        while view and not self._ended:
            left = deadline - time.monotonic()
            readable, writable, _ = select.select([self.socket], [self.socket], [], max(left, 0))
            if left <= 0:
                return False
            if readable:
                self._receive()
            try:
                if writable:
                    view = view[self.socket.send(view, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                continue
            except OSError:
                # What the server said before it hung up may still be there to read.
                while not self._ended:
                    self._receive()
        return not self._ended

    def send_without_reading(self, octets: bytes, seconds: float) -> bool:
        """Push until the server takes no more, hangs up, or the time is over; True if all went."""
        self.socket.settimeout(seconds)
        try:
            self.socket.sendall(octets)
        except OSError:
            return False
        finally:
            self.socket.settimeout(OUTCOME_SECONDS)
        return True

    def block(self, path: str = PUT, *more: tuple[str, str], **replaced: str | None) -> bytes:
        """A header block of a gRPC request; ``method=``, ``content_type=`` replace or drop."""
        fields = dict(request_fields(path)) | {
            f":{name}" if name == "method" else name.replace("_", "-"): value
            for name, value in replaced.items()
        }
        present = [(name, value) for name, value in fields.items() if value is not None]
        return self._encoder.encode([*present, *more])

    def request(self, stream: int, path: str = PUT, body: bytes | None = None) -> None:
        """A finished unary request; without a body only its open HEADERS."""
        octets = frame(HEADERS, END_HEADERS, stream, self.block(path))
        if body is not None:
            octets += self.data(stream, body)
        self.send(octets)

    @staticmethod
    def data(stream: int, body: bytes, end: bool = True) -> bytes:
        pieces = [body[i : i + 16384] for i in range(0, len(body), 16384)] or [b""]
        last = len(pieces) - 1
        return b"".join(
            frame(DATA, END_STREAM if end and number == last else 0, stream, piece)
            for number, piece in enumerate(pieces)
        )

    def _receive(self) -> None:
        try:
            octets = self.socket.recv(65536)
        except OSError:
            octets = b""
        self._received += octets
        if not octets:
            self._ended = True

    def next_frame(self, deadline: float) -> Frame | None:
        """The next frame; None at the end of the connection; TimeoutError after the deadline."""
        while True:
            if len(self._received) >= 9:
                length = int.from_bytes(self._received[:3], "big")
                if len(self._received) >= 9 + length:
                    kind, flags, stream = struct.unpack("!BBI", self._received[3:9])
                    payload = self._received[9 : 9 + length]
                    self._received = self._received[9 + length :]
                    return Frame(kind, flags, stream, payload)
            if self._ended:
                return None
            ready, _, _ = select.select([self.socket], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise TimeoutError
            self._receive()

    def outcome(
        self, stream: int = 1, seconds: float = OUTCOME_SECONDS, *, pong: bool = False
    ) -> str:
        """What the server answers to the stream or the connection, as a text."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = self.next_frame(deadline)
            except TimeoutError:
                return "silence"
            if found is None:
                return "closed"
            if found.kind == GOAWAY:
                code = int.from_bytes(found.payload[4:8], "big")
                return f"GOAWAY {error_name(code)}"
            if pong and found.kind == PING and found.flags & ACK:
                return "pong"
            if found.kind == HEADERS:
                fields = self._decoder.decode(found.payload, raw=True)
                headers = {name.decode(): value.decode() for name, value in fields}
                if found.stream != stream:
                    continue
                http_status = headers.get(":status", "200")
                if http_status != "200":
                    return f"HTTP {http_status}"
                if "grpc-status" in headers:
                    text = headers.get("grpc-message", "")
                    return f"status {headers['grpc-status']}: {text}"
            if found.kind == RST_STREAM and found.stream == stream:
                return f"RST {error_name(int.from_bytes(found.payload, 'big'))}"

    def ping(self) -> str:
        """``pong`` if the connection still works."""
        self.send(frame(PING, 0, 0, b"\0" * 8))
        return self.outcome(stream=0, pong=True)
