"""The client's end against our server and against the h2 library."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.events
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.http2.client import ClientConnection
from etcdtw.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    ErrorCode,
    Setting,
    frame,
    goaway_frame,
    settings_frame,
)
from etcdtw.http2.header_encoder import HeaderEncoder
from etcdtw.http2.header_table import Field
from etcdtw.http2.message import Headers

from .recorder import OK_HEADERS, OK_TRAILERS, REQUEST, Recorder, cut, octets_of
from .test_oracle import EchoServer


class ResponseRecorder(Recorder):
    """Also writes down responses."""

    def response_received(self, stream_id: int, headers: Headers, ended: bool) -> None:
        self.events.append(("response", stream_id, headers.status, headers.fields, ended))


def client() -> tuple[ResponseRecorder, ClientConnection]:
    recorder = ResponseRecorder()
    return recorder, ClientConnection(recorder, frozenset({"grpc-timeout", "token"}))


class ClientTests(SynchronousTestCase):
    """What a client sends and understands."""

    def setUp(self) -> None:
        self.recorder, self.client = client()
        self.encoder = HeaderEncoder(lambda field: True)
        self.client.receive(settings_frame({}), 0.0)
        self.client.take()

    def _headers(self, stream_id: int, fields: tuple[Field, ...], end: bool = False) -> bytes:
        flags = END_HEADERS | (END_STREAM if end else 0)
        return frame(HEADERS, flags, stream_id, self.encoder.encode(fields))

    def _feed(self, data: bytes) -> list[tuple[object, ...]]:
        self.recorder.events.clear()
        self.client.receive(data, 0.0)
        return list(self.recorder.events)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        st.lists(st.binary(max_size=400), min_size=1, max_size=5),
        st.lists(st.integers(1, 300), min_size=1, max_size=4),
    )
    def test_against_our_server(self, bodies: list[bytes], cuts: list[int]) -> None:
        """Requests and answers between our two ends survive any cut."""
        recorder, ours = client()
        server = EchoServer(answer_in_one=True)
        for number, body in enumerate(bodies):
            stream_id = ours.open((*REQUEST, ("grpc-timeout", f"{number}S")))
            ours.send_data(stream_id, (body,), len(body), end=True)
        while (out := ours.take()) or (back := server.connection.take()):
            at = 0
            while at < len(out):
                size = cuts[at % len(cuts)]
                server.connection.receive(out[at : at + size], 0.0)
                at += size
            if not out:
                ours.receive(back, 0.0)
        self.assertEqual([event for event in recorder.events if event[0] == "failed"], [])
        for number, body in enumerate(bodies):
            stream_id = 1 + 2 * number
            mine = [event for event in recorder.events if event[1] == stream_id]
            self.assertEqual(mine[0][0], "response")
            data = octets_of(mine)
            self.assertEqual(data[5:], body)
            self.assertEqual(mine[-1], ("trailers", stream_id, OK_TRAILERS))
        self.assertEqual((ours.open_streams, server.connection.open_streams), (0, 0))

    def test_against_h2(self) -> None:
        """The h2 library as server understands our requests, and we its answers."""
        recorder, ours = client()
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        theirs = h2.connection.H2Connection(config)
        theirs.initiate_connection()
        for _ in range(3):
            stream_id = ours.open((*REQUEST, ("token", "secret")))
            ours.send_data(stream_id, (b"body",), 4, end=True)
        asked = []
        for event in theirs.receive_data(ours.take()):
            if isinstance(event, h2.events.RequestReceived):
                asked.append(dict(event.headers))
            elif isinstance(event, h2.events.StreamEnded):
                theirs.send_headers(event.stream_id, list(OK_HEADERS))
                theirs.send_data(event.stream_id, b"answer")
                theirs.send_headers(event.stream_id, list(OK_TRAILERS), end_stream=True)
        ours.receive(theirs.data_to_send(), 0.0)
        self.assertEqual(asked, [dict((*REQUEST, ("token", "secret")))] * 3)
        names = [event[0] for event in recorder.events]
        self.assertEqual(names, ["response", "data", "trailers"] * 3)
        theirs.receive_data(ours.take())

    def test_interim_response(self) -> None:
        """1xx answers are passed over."""
        stream_id = self.client.open(REQUEST, end=True)
        self.assertEqual(self._feed(self._headers(stream_id, ((":status", "103"),))), [])
        events = self._feed(self._headers(stream_id, OK_HEADERS, end=True))
        self.assertEqual(events, [("response", 1, 200, OK_HEADERS[1:], True)])
        self.assertEqual(self.client.open_streams, 0)

    def test_faults(self) -> None:
        """DATA first, a bad status, endless trailers and pseudo-headers end the stream."""
        ok = OK_HEADERS
        cases = [
            lambda s: frame(DATA, 0, s, b"x"),
            lambda s: self._headers(s, ((":status", "2x0"),)),
            lambda s: self._headers(s, (("x", "y"),)),
            lambda s: self._headers(s, (*ok, (":path", "/"))),
            lambda s: self._headers(s, ((":status", "100"),), end=True),
            lambda s: self._headers(s, ok) + self._headers(s, OK_TRAILERS),
            lambda s: self._headers(s, ok) + self._headers(s, ok, end=True),
            lambda s: (
                self._headers(s, (*ok, ("content-length", "3")))
                + frame(DATA, END_STREAM, s, b"four")
            ),
        ]
        for case in cases:
            stream_id = self.client.open(REQUEST)
            events = self._feed(case(stream_id))
            self.assertEqual(events[-1], ("reset", stream_id, ErrorCode.PROTOCOL_ERROR))
            self.assertFalse(self.client.failed)

    def test_server_opens_nothing(self) -> None:
        """Streams that we did not open end the connection."""
        for stream_id in (2, 7):
            self.setUp()
            self._feed(self._headers(stream_id, OK_HEADERS))
            self.assertTrue(self.client.failed)

    def test_goaway(self) -> None:
        """Streams above the last one served are given back; no new ones are opened."""
        for _ in range(3):
            self.client.open(REQUEST, end=True)
        events = self._feed(goaway_frame(3, 0, b"bye"))
        self.assertEqual(events, [("goaway", 3, 0, b"bye"), ("reset", 5, ErrorCode.REFUSED_STREAM)])
        self.assertTrue(self.client.finished)
        self.assertEqual(self._feed(self._headers(3, OK_HEADERS, end=True))[0][0], "response")

    def test_concurrent_streams(self) -> None:
        """The server's bound on open streams shows in can_open."""
        self._feed(settings_frame({Setting.MAX_CONCURRENT_STREAMS: 1}))
        self.assertTrue(self.client.can_open)
        self.client.open(REQUEST, end=True)
        self.assertFalse(self.client.can_open)
        self._feed(self._headers(1, OK_HEADERS, end=True))
        self.assertTrue(self.client.can_open)

    def test_no_push(self) -> None:
        """A server may not enable pushes to itself."""
        self._feed(settings_frame({Setting.ENABLE_PUSH: 1}))
        self.assertTrue(self.client.failed)

    def test_literal_names(self) -> None:
        """Secrets stay out of the header table, the rest becomes one byte per field."""
        for _ in range(2):
            self.client.open((*REQUEST, ("token", "secret")), end=True)
        first, second = cut(self.client.take())
        self.assertIn(b"secret", first[3])
        self.assertIn(b"secret", second[3])
        self.assertLess(len(second[3]), 25)
