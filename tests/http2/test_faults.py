"""Peers that break the protocol (RFC 9113 sections 3 to 8), one sentence per rule."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.http2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITISED,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    Setting,
    frame,
    read_goaway,
    settings_frame,
    window_update_frame,
)
from etcdtw.http2.header_table import Field

from .recorder import OK_HEADERS, REQUEST, Peer


class ConnectionFaultTests(SynchronousTestCase):
    """Faults that end the connection."""

    def _fails(self, data: bytes, code: int, peer: Peer | None = None) -> None:
        peer = Peer() if peer is None else peer
        events = peer.feed(data)
        self.assertEqual(events[-1][:2], ("failed", code))
        self.assertEqual(peer.goaway_code(), code)
        self.assertEqual(peer.feed(peer.request(101)), [])

    def test_preface(self) -> None:
        """A connection begins with the preface, and SETTINGS as the first frame."""
        self._fails(b"PRI * HTTP/1.0\r\n", ErrorCode.PROTOCOL_ERROR, Peer(handshake=False))
        for first in (frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK, 0), frame(0x77, 0, 0)):
            self._fails(PREFACE + first, ErrorCode.PROTOCOL_ERROR, Peer(handshake=False))
        peer = Peer(handshake=False)
        self._fails(PREFACE + peer.request(1), ErrorCode.PROTOCOL_ERROR, peer)

    def test_frame_size(self) -> None:
        """A frame above our SETTINGS_MAX_FRAME_SIZE is refused when its header is read."""
        for kind in (DATA, HEADERS, SETTINGS, 0x42):
            self._fails(frame(kind, 0, 1, bytes(16385))[:9], ErrorCode.FRAME_SIZE_ERROR)
        self._fails(frame(0x42, 0, 1, bytes(1 << 16))[:9], ErrorCode.FRAME_SIZE_ERROR)
        # What looks like the body comes where the largest frame would have ended.
        larger = frame(HEADERS, END_HEADERS, 1, bytes(16385))[: 9 + 16384]
        self._fails(larger + frame(DATA, END_STREAM, 1, bytes(5)), ErrorCode.FRAME_SIZE_ERROR)

    def test_fixed_sizes(self) -> None:
        """SETTINGS, PING, RST_STREAM, WINDOW_UPDATE and GOAWAY have the sizes they have."""
        faults = [
            frame(SETTINGS, 0, 0, bytes(5)),
            frame(SETTINGS, ACK, 0, bytes(6)),
            frame(PING, 0, 0, bytes(7)),
            frame(RST_STREAM, 0, 1, bytes(3)),
            frame(WINDOW_UPDATE, 0, 0, bytes(5)),
            frame(GOAWAY, 0, 0, bytes(7)),
        ]
        for fault in faults:
            peer = Peer()
            peer.feed(peer.headers(1))
            self._fails(fault, ErrorCode.FRAME_SIZE_ERROR, peer)

    def test_stream_zero(self) -> None:
        """Frames of streams need one, frames of the connection have none."""
        faults = [
            frame(DATA, 0, 0, b"x"),
            frame(HEADERS, END_HEADERS, 0, b"\x82"),
            frame(PRIORITY, 0, 0, bytes(5)),
            frame(RST_STREAM, 0, 0, bytes(4)),
            frame(SETTINGS, 0, 1),
            frame(PING, 0, 1, bytes(8)),
            frame(GOAWAY, 0, 1, bytes(8)),
        ]
        for fault in faults:
            self._fails(fault, ErrorCode.PROTOCOL_ERROR)

    def test_even_streams(self) -> None:
        """Clients open odd streams."""
        peer = Peer()
        self._fails(peer.headers(2), ErrorCode.PROTOCOL_ERROR, peer)
        peer = Peer()
        self._fails(peer.request(2), ErrorCode.PROTOCOL_ERROR, peer)

    def test_stream_ids_rise(self) -> None:
        """A stream below the highest was closed by it (section 5.1.1)."""
        for request in (Peer.headers, Peer.request):
            peer = Peer()
            peer.feed(peer.request(5))
            self._fails(request(peer, 3), ErrorCode.STREAM_CLOSED, peer)

    def test_settings_values(self) -> None:
        """ENABLE_PUSH, INITIAL_WINDOW_SIZE and MAX_FRAME_SIZE have bounds (section 6.5.2)."""
        protocol, flow = ErrorCode.PROTOCOL_ERROR, ErrorCode.FLOW_CONTROL_ERROR
        self._fails(settings_frame({Setting.ENABLE_PUSH: 2}), protocol)
        self._fails(settings_frame({Setting.INITIAL_WINDOW_SIZE: 1 << 31}), flow)
        self._fails(settings_frame({Setting.MAX_FRAME_SIZE: 16383}), protocol)
        self._fails(settings_frame({Setting.MAX_FRAME_SIZE: 1 << 24}), protocol)
        peer = Peer()
        self.assertEqual(peer.feed(settings_frame({0x99: 1, Setting.MAX_FRAME_SIZE: 16384})), [])
        self.assertEqual(peer.taken(), [(SETTINGS, ACK, 0, b"")])

    def test_connection_window(self) -> None:
        """The connection's window neither grows by 0 nor over 2^31 - 1."""
        self._fails(window_update_frame(0, 0), ErrorCode.PROTOCOL_ERROR)
        self._fails(window_update_frame(0, (1 << 31) - 1), ErrorCode.FLOW_CONTROL_ERROR)

    def test_padding(self) -> None:
        """Padding as long as its frame is a fault."""
        peer = Peer()
        peer.feed(peer.headers(1))
        self._fails(frame(DATA, PADDED, 1, b"\x04abc"), ErrorCode.PROTOCOL_ERROR, peer)
        self._fails(frame(HEADERS, PADDED | END_HEADERS, 1, b"\2\x82"), ErrorCode.PROTOCOL_ERROR)
        peer = Peer()
        peer.feed(peer.headers(1))
        self._fails(frame(DATA, PADDED, 1), ErrorCode.FRAME_SIZE_ERROR, peer)

    def test_compression(self) -> None:
        """A header block that cannot be decoded ends the connection, on every stream."""
        bad = frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff")
        self._fails(bad, ErrorCode.COMPRESSION_ERROR)
        self._fails(bad + frame(DATA, END_STREAM, 1), ErrorCode.COMPRESSION_ERROR)
        peer = Peer()
        peer.feed(peer.headers(1))
        self._fails(frame(HEADERS, 5, 1, b"\xc8"), ErrorCode.COMPRESSION_ERROR, peer)

    def test_unfinished_block(self) -> None:
        """Nothing comes between HEADERS and its CONTINUATION, not even what ends a request that
        has just begun."""
        for between in (frame(DATA, END_STREAM, 1, bytes(5)), frame(PING, 0, 0, bytes(8))):
            peer = Peer()
            begun = peer.headers(1) + frame(HEADERS, 0, 3, b"\x82")
            self._fails(begun + between, ErrorCode.PROTOCOL_ERROR, peer)

    def test_last_stream(self) -> None:
        """A GOAWAY says no greater stream than the one before (section 6.8)."""
        peer = Peer()
        peer.feed(peer.request(1))
        peer.server.drain()
        peer.server.take()
        self.assertEqual(peer.feed(peer.request(3)), [])
        peer.feed(frame(PING, 0, 1, bytes(8)))
        [(kind, _, _, payload)] = peer.taken()
        self.assertEqual((kind, read_goaway(payload)[0]), (GOAWAY, 1))

    def test_connection_receive_window(self) -> None:
        """A client that overruns the connection's window is cut off."""
        peer = Peer()
        self.assertGreater(peer.server._receive_left, 0)
        peer.feed(peer.headers(1))
        peer.server._receive_left = 10
        self._fails(frame(DATA, 0, 1, bytes(11)), ErrorCode.FLOW_CONTROL_ERROR, peer)
        peer = Peer()
        peer.server._receive_left = 10
        self._fails(peer.request(1, bytes(11)), ErrorCode.FLOW_CONTROL_ERROR, peer)


class StreamFaultTests(SynchronousTestCase):
    """Faults that end one stream and leave the others alone."""

    def _resets(self, peer: Peer, data: bytes, code: int, stream_id: int = 1) -> None:
        peer.server.take()
        peer.feed(data)
        self.assertEqual(peer.resets(), [(stream_id, code)])
        self.assertFalse(peer.server.failed)
        self.assertFalse(peer.server.is_open(stream_id))
        self.assertEqual(peer.feed(peer.request(stream_id + 2))[0][0], "request")

    def test_malformed_requests(self) -> None:
        """A request has its pseudo-header fields once, first, and no field HTTP/2 forbids."""
        regular = REQUEST[4:]
        faults: list[tuple[Field, ...]] = [
            REQUEST[1:],
            (REQUEST[0], *REQUEST[2:]),
            (*REQUEST[:2], *REQUEST[3:]),
            (*REQUEST[:2], (":path", ""), *REQUEST[3:]),
            (*REQUEST, (":method", "POST")),
            (REQUEST[0], *REQUEST),
            ((":status", "200"), *REQUEST),
            ((":unknown", "x"), *REQUEST),
            (*regular, *REQUEST),
            (*REQUEST, ("Upper", "x")),
            (*REQUEST, ("", "x")),
            (*REQUEST, ("sp ace", "x")),
            (*REQUEST, ("connection", "close")),
            (*REQUEST, ("keep-alive", "x")),
            (*REQUEST, ("proxy-connection", "x")),
            (*REQUEST, ("transfer-encoding", "chunked")),
            (*REQUEST, ("upgrade", "h2c")),
            (*REQUEST, ("te", "gzip")),
            (*REQUEST, ("a", "line\nbreak")),
            (*REQUEST, ("a", "nul\0")),
            (*REQUEST, ("a", " space")),
            (*REQUEST, ("a", "tab\t")),
            (*REQUEST, ("content-length", "x")),
            (*REQUEST, ("content-length", "-1")),
            (*REQUEST, ("content-length", "6"), ("content-length", "7")),
            ((":method", "CONNECT"), (":path", "/"), (":authority", "x")),
        ]
        for fields in faults:
            for whole in (False, True):
                peer = Peer()
                data = peer.headers(1, fields=fields)
                if whole:
                    data += frame(DATA, END_STREAM, 1, b"\0\0\0\0\1x")
                    # The DATA frame arrives behind our reset where it is read apart.
                self._resets(peer, data, ErrorCode.PROTOCOL_ERROR)

    def test_content_length(self) -> None:
        """The body is as long as declared, however it comes."""
        fields = (*REQUEST, ("content-length", "6"))
        peer = Peer()
        short = peer.headers(1, fields=fields) + frame(DATA, END_STREAM, 1, b"short")
        self._resets(peer, short, ErrorCode.PROTOCOL_ERROR)
        peer = Peer()
        peer.feed(peer.headers(1, fields=fields))
        self._resets(peer, frame(DATA, 0, 1, b"too long"), ErrorCode.PROTOCOL_ERROR)
        peer = Peer()
        peer.feed(peer.headers(1, fields=fields) + frame(DATA, 0, 1, b"two"))
        self._resets(peer, frame(DATA, END_STREAM, 1, b"2"), ErrorCode.PROTOCOL_ERROR)
        peer = Peer()
        nothing = peer.headers(1, fields=fields, end=True)
        self._resets(peer, nothing, ErrorCode.PROTOCOL_ERROR)
        peer = Peer()
        endless = (*REQUEST, ("content-length", "1" * 5000))
        self._resets(peer, peer.headers(1, fields=endless), ErrorCode.PROTOCOL_ERROR)
        twice = (*fields, ("content-length", "7"))
        peer = Peer()
        self._resets(peer, peer.headers(1, fields=twice), ErrorCode.PROTOCOL_ERROR)
        peer = Peer()
        right = peer.headers(1, fields=fields) + frame(DATA, END_STREAM, 1, b"\0\0\0\0\1x")
        self.assertEqual(peer.feed(right)[0][0], "request")

    def test_stream_window(self) -> None:
        """A stream's window neither grows by 0 nor over 2^31 - 1."""
        for increment, code in ((0, 1), ((1 << 31) - 1, 3)):
            peer = Peer()
            peer.feed(peer.request(1))
            self._resets(peer, window_update_frame(1, increment), code)

    def test_stream_receive_window(self) -> None:
        """A stream that overruns its own window is reset."""
        peer = Peer()
        peer.feed(peer.headers(1))
        stream = peer.server._streams[1]
        assert stream is not None
        stream.receive_left = 10
        self._resets(peer, frame(DATA, 0, 1, bytes(11)), ErrorCode.FLOW_CONTROL_ERROR)

    def test_priority(self) -> None:
        """PRIORITY has five bytes and no stream depends on itself; HEADERS' priority as well."""
        peer = Peer()
        peer.feed(peer.headers(1))
        self._resets(peer, frame(PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR)
        peer = Peer()
        peer.feed(peer.headers(1))
        itself = frame(PRIORITY, 0, 1, b"\0\0\0\1\0")
        self._resets(peer, itself, ErrorCode.PROTOCOL_ERROR)
        peer = Peer()
        block = peer.encoder.encode(REQUEST)
        itself = frame(HEADERS, END_HEADERS | PRIORITISED, 1, b"\0\0\0\1\0" + block)
        self._resets(peer, itself, ErrorCode.PROTOCOL_ERROR)

    def test_trailers(self) -> None:
        """Trailers hold no pseudo-header field."""
        peer = Peer()
        peer.feed(peer.headers(1))
        trailers = peer.headers(1, end=True, fields=((":path", "/"),))
        self._resets(peer, trailers, ErrorCode.PROTOCOL_ERROR)

    def test_too_many_streams(self) -> None:
        """Streams above MAX_CONCURRENT_STREAMS are refused, which a client may retry."""
        peer = Peer(streams_max=2)
        peer.feed(peer.request(1) + peer.headers(3))
        for stream_id in (5, 7):
            peer.server.take()
            self.assertEqual(peer.feed(peer.request(stream_id)), [])
            self.assertEqual(peer.resets(), [(stream_id, ErrorCode.REFUSED_STREAM)])
        peer.server.send_headers(1, OK_HEADERS, end=True)
        self.assertEqual(peer.feed(peer.request(9))[0][0], "request")


class ToleranceTests(SynchronousTestCase):
    """What must be accepted."""

    def test_padding_and_priority(self) -> None:
        """Padding and priority are stripped from DATA and HEADERS."""
        peer = Peer()
        block = peer.encoder.encode(REQUEST)
        flags = END_HEADERS | PADDED | PRIORITISED
        data = frame(HEADERS, flags, 1, b"\3" + b"\0\0\0\0\x10" + block + b"pad")
        self.assertEqual(peer.feed(data)[0][0], "headers")
        events = peer.feed(frame(DATA, PADDED | END_STREAM, 1, b"\2body\0\0"))
        self.assertEqual(events, [("data", 1, b"body", True)])

    def test_reserved_bits(self) -> None:
        """The reserved bit of a stream id and unknown flags mean nothing."""
        peer = Peer()
        data = peer.headers(1 | 1 << 31) + frame(DATA, END_STREAM | 0xF0, 1 | 1 << 31, b"x")
        self.assertEqual([event[0] for event in peer.feed(data)], ["headers", "data"])

    def test_ping(self) -> None:
        """A PING comes back with its payload; an answer does not."""
        peer = Peer()
        peer.feed(frame(PING, 0, 0, b"12345678"))
        self.assertEqual(peer.taken(), [(PING, ACK, 0, b"12345678")])
        self.assertEqual(peer.feed(frame(PING, ACK, 0, bytes(8))), [("ping", True, bytes(8))])
        self.assertEqual(peer.taken(), [])

    def test_goaway(self) -> None:
        """A client's GOAWAY is told with its debug data, and its requests go on."""
        peer = Peer()
        events = peer.feed(frame(GOAWAY, 0, 0, bytes(7) + b"\2bye"))
        self.assertEqual(events, [("goaway", 0, 2, b"bye")])
        self.assertEqual(peer.feed(peer.request(1))[0][0], "request")
