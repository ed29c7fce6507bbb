"""A server connection whose events are written down, and frames to feed it."""

from __future__ import annotations

from collections.abc import Iterable

from etcdtw.errors import ProtocolError
from etcdtw.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    frame,
    read_goaway,
    settings_frame,
)
from etcdtw.http2.header_encoder import HeaderEncoder
from etcdtw.http2.header_table import Field
from etcdtw.http2.message import Headers
from etcdtw.http2.server import ServerConnection

REQUEST: tuple[Field, ...] = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.B/C"),
    (":authority", "here"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)
OK_HEADERS: tuple[Field, ...] = ((":status", "200"), ("content-type", "application/grpc"))
OK_TRAILERS: tuple[Field, ...] = (("grpc-status", "0"),)


class Recorder:
    """Every event as a tuple that starts with its name."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def request_received(
        self, stream_id: int, headers: Headers, varying: str | None, message: bytes
    ) -> None:
        self.events.append(("request", stream_id, headers, varying, message))

    def headers_received(
        self, stream_id: int, headers: Headers, varying: str | None, ended: bool
    ) -> None:
        self.events.append(("headers", stream_id, headers, varying, ended))

    def data_received(self, stream_id: int, data: bytes, ended: bool) -> None:
        self.events.append(("data", stream_id, data, ended))

    def trailers_received(self, stream_id: int, fields: tuple[Field, ...]) -> None:
        self.events.append(("trailers", stream_id, fields))

    def stream_reset(self, stream_id: int, code: int) -> None:
        self.events.append(("reset", stream_id, code))

    def stream_drained(self, stream_id: int) -> None:
        self.events.append(("drained", stream_id))

    def ping_received(self, acknowledged: bool, payload: bytes) -> None:
        self.events.append(("ping", acknowledged, payload))

    def goaway_received(self, last_stream_id: int, code: int, debug: bytes) -> None:
        self.events.append(("goaway", last_stream_id, code, debug))

    def connection_failed(self, error: ProtocolError) -> None:
        self.events.append(("failed", error.wire_code, str(error)))


def octets_of(events: Iterable[tuple[object, ...]]) -> bytes:
    """All the data among these events."""
    octets = b""
    for event in events:
        if event[0] == "data":
            assert isinstance(event[2], bytes), event
            octets += event[2]
    return octets


def path_of(event: tuple[object, ...]) -> str:
    """What this event of a request asks for."""
    headers = event[2]
    assert isinstance(headers, Headers), event
    return headers.path


class Peer:
    """A client made of frames, legal or not, in front of a server connection."""

    def __init__(self, *, handshake: bool = True, streams_max: int = 100) -> None:
        self.recorder = Recorder()
        self.server = ServerConnection(
            self.recorder,
            varying_field="grpc-timeout",
            ok_headers=OK_HEADERS,
            ok_trailers=OK_TRAILERS,
            concurrent_streams_max=streams_max,
        )
        self.encoder = HeaderEncoder(lambda field: True)
        self.now = 0.0
        if handshake:
            self.feed(PREFACE + settings_frame({}))
            self.server.take()

    def feed(self, data: bytes) -> list[tuple[object, ...]]:
        """Give bytes to the server; the events they caused."""
        self.recorder.events.clear()
        self.server.receive(data, self.now)
        return list(self.recorder.events)

    def headers(
        self, stream_id: int, *, end: bool = False, fields: tuple[Field, ...] = REQUEST
    ) -> bytes:
        """A HEADERS frame."""
        flags = END_HEADERS | (END_STREAM if end else 0)
        return frame(HEADERS, flags, stream_id, self.encoder.encode(fields))

    def request(self, stream_id: int, body: bytes = b"\0\0\0\0\1x") -> bytes:
        """A whole request."""
        return self.headers(stream_id) + frame(DATA, END_STREAM, stream_id, body)

    def taken(self) -> list[tuple[int, int, int, bytes]]:
        """The frames the server sent since, as (kind, flags, stream id, payload)."""
        return cut(self.server.take())

    def resets(self) -> list[tuple[int, int]]:
        """The (stream id, code) of each RST_STREAM the server sent since."""
        return [
            (stream_id, int.from_bytes(payload, "big"))
            for kind, _, stream_id, payload in self.taken()
            if kind == RST_STREAM
        ]

    def goaway_code(self) -> int | None:
        """The code of the GOAWAY the server sent since."""
        for kind, _, _, payload in self.taken():
            if kind == GOAWAY:
                return read_goaway(payload)[1]
        return None


def cut(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Frames as (kind, flags, stream id, payload)."""
    frames = []
    at = 0
    while at < len(data):
        high, low, kind, flags, stream_id = FRAME_HEADER.unpack_from(data, at)
        stop = at + 9 + (high << 16 | low)
        frames.append((kind, flags, stream_id, data[at + 9 : stop]))
        at = stop
    return frames
