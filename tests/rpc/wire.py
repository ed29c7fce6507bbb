"""A client made of frames in front of a client port on a memory transport."""

from __future__ import annotations

from dataclasses import dataclass, field

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.server import Site

from etcdtw.http2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    frame,
    read_goaway,
    settings_frame,
    window_update_frame,
)
from etcdtw.http2.header_decoder import HeaderDecoder
from etcdtw.http2.header_encoder import HeaderEncoder
from etcdtw.http2.header_table import Field
from etcdtw.http2.message import Headers
from etcdtw.rpc.pages import PageReceiver, PageStream
from etcdtw.rpc.port import ClientPortFactory, ISiteFactory
from etcdtw.rpc.router import Router
from etcdtw.rpc.settings import ServerSettings
from tests.http2.recorder import cut


class MemoryTransport(StringTransport):
    """Remembers how the connection was ended, and can be full."""

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "10.0.0.9", 4242))
        self.aborted = False
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)

    def abortConnection(self) -> None:
        self.aborted = True

    def fill(self) -> None:
        """The client does not read."""
        assert self.producer is not None, "nobody writes"
        self.producer.pauseProducing()

    def drain(self) -> None:
        """It reads again."""
        assert self.producer is not None, "nobody writes"
        self.producer.resumeProducing()


class Pages(Site):
    """Twisted's own site; none of its pages is asked for by HTTP/2."""

    def open_page(self, stream: PageStream, headers: Headers) -> PageReceiver:
        raise AssertionError(f"{headers.path} by HTTP/2")


@dataclass
class Answer:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    messages: list[bytes] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> tuple[int, str]:
        """gRPC code and text."""
        source = self.trailers or self.headers
        return int(source.get("grpc-status", "-1")), source.get("grpc-message", "")


class Wire:
    """One client connection; the server's side is real from ``ClientPortFactory`` down."""

    def __init__(
        self,
        router: Router,
        settings: ServerSettings | None = None,
        *,
        site: ISiteFactory | None = None,
        clock: Clock | None = None,
        factory: ClientPortFactory | None = None,
        handshake: bool = True,
        window: int = 1 << 20,
    ) -> None:
        self.clock = Clock() if clock is None else clock
        self.factory = factory or ClientPortFactory(
            router, site, settings or ServerSettings(), self.clock
        )
        self.transport = MemoryTransport()
        self.protocol = self.factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self._encoder = HeaderEncoder(lambda each: True)
        self._decoder = HeaderDecoder()
        self._bodies: dict[int, bytearray] = {}
        self._next_stream = 1
        self.answers: dict[int, Answer] = {}
        self.goaways: list[tuple[int, int, bytes]] = []
        self.pings: list[bytes] = []
        if handshake:
            self.send(PREFACE + settings_frame({4: window}) + window_update_frame(0, 1 << 24))

    def send(self, data: bytes) -> None:
        """Bytes to the server."""
        self.protocol.dataReceived(data)

    def lose(self) -> None:
        """The connection is gone."""
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def begin(self, path: str, *extra: Field, end: bool = False) -> int:
        """Open a stream; its id."""
        stream_id = self._next_stream
        self.send(self.headers(path, *extra, end=end))
        return stream_id

    def headers(self, path: str, *extra: Field, end: bool = False) -> bytes:
        """A HEADERS frame for the next stream."""
        stream_id = self._next_stream
        self._next_stream += 2
        fields: tuple[Field, ...] = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "here"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *extra,
        )
        flags = END_HEADERS | (END_STREAM if end else 0)
        return frame(HEADERS, flags, stream_id, self._encoder.encode(fields))

    def request(self, path: str, body: bytes, *extra: Field) -> bytes:
        """The bytes of a whole request for the next stream."""
        stream_id = self._next_stream
        return self.headers(path, *extra) + frame(DATA, END_STREAM, stream_id, message(body))

    def call(self, path: str, body: bytes = b"", *extra: Field) -> int:
        """Send a unary request in one piece; its stream id."""
        stream_id = self._next_stream
        self.send(self.request(path, body, *extra))
        return stream_id

    def answer(self, stream_id: int) -> Answer:
        """What has come back on a stream so far."""
        self.read()
        return self.answers.setdefault(stream_id, Answer())

    def read(self) -> None:
        """Take in what the server wrote."""
        data = self.transport.value()
        self.transport.clear()
        for kind, flags, stream_id, payload in cut(data):
            answer = self.answers.setdefault(stream_id, Answer())
            if kind == HEADERS:
                fields = dict(self._decoder.decode(payload))
                if answer.headers:
                    answer.trailers = fields
                else:
                    answer.headers = fields
            elif kind == DATA:
                body = self._bodies.setdefault(stream_id, bytearray())
                body += payload
                while len(body) >= 5 and len(body) - 5 >= (
                    size := int.from_bytes(body[1:5], "big")
                ):
                    answer.messages.append(bytes(body[5 : 5 + size]))
                    del body[: 5 + size]
            elif kind == RST_STREAM:
                answer.reset = int.from_bytes(payload, "big")
            elif kind == GOAWAY:
                self.goaways.append(read_goaway(payload))
            elif kind == PING and not flags & ACK:
                self.pings.append(payload)
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                answer.ended = True


def message(body: bytes) -> bytes:
    """A body with gRPC's prefix."""
    return b"\0" + len(body).to_bytes(4, "big") + body
