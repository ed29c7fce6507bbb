"""The server against the h2 library as client: random requests, cuts, answers and windows."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.events
import h2.settings
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import ProtocolError
from etcdtw.http2.header_table import Field
from etcdtw.http2.message import Headers
from etcdtw.http2.server import ServerConnection

from .recorder import OK_HEADERS, OK_TRAILERS, REQUEST, Peer, Recorder

_names = st.sampled_from(["x-a", "x-b", "grpc-timeout", "user-agent", "token", "x-bin"])
_values = st.text("abcdefghijklmnop0123456789/;=+ ü\x80", max_size=30).map(str.strip)
_request = st.tuples(
    st.lists(st.tuples(_names, _values), max_size=4, unique_by=lambda field: field[0]),
    st.binary(max_size=300),
    st.integers(1, 3),  # DATA frames
)


class EchoServer(Recorder):
    """Answers every request with its body, and remembers what it was asked."""

    def __init__(self, answer_in_one: bool) -> None:
        super().__init__()
        self.asked: dict[int, tuple[list[Field], bytes]] = {}
        self._answer_in_one = answer_in_one
        self.connection = ServerConnection(
            self,
            varying_field="grpc-timeout",
            ok_headers=OK_HEADERS,
            ok_trailers=OK_TRAILERS,
        )

    def request_received(
        self, stream_id: int, headers: Headers, varying: str | None, message: bytes
    ) -> None:
        self.headers_received(stream_id, headers, varying, False)
        self.data_received(stream_id, b"\0" + len(message).to_bytes(4, "big") + message, True)

    def headers_received(
        self, stream_id: int, headers: Headers, varying: str | None, ended: bool
    ) -> None:
        fields = list(headers.fields)
        if varying is not None:
            fields.append(("grpc-timeout", varying))
        self.asked[stream_id] = (fields, b"")
        if ended:
            self.data_received(stream_id, b"", True)

    def data_received(self, stream_id: int, data: bytes, ended: bool) -> None:
        fields, body = self.asked[stream_id]
        body += data
        self.asked[stream_id] = (fields, body)
        if not ended:
            return
        if self._answer_in_one:
            self.connection.send_answer(stream_id, body)
            return
        self.connection.send_headers(stream_id, OK_HEADERS)
        prefix = b"\0" + len(body).to_bytes(4, "big")
        self.connection.send_data(stream_id, (prefix, body), len(body) + 5)
        self.connection.send_trailers(stream_id, OK_TRAILERS)


class Client:
    """h2's client, with everything it was told about each stream."""

    def __init__(self, window: int, table_bytes: int) -> None:
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        codes = h2.settings.SettingCodes
        self.h2.update_settings(
            {codes.INITIAL_WINDOW_SIZE: window, codes.HEADER_TABLE_SIZE: table_bytes}
        )
        self.answers: dict[int, list[object]] = {}
        self.ended: set[int] = set()

    def receive(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                self.answers.setdefault(event.stream_id, []).append(dict(event.headers))
            elif isinstance(event, h2.events.DataReceived):
                self.answers[event.stream_id].append(event.data)
                size = event.flow_controlled_length
                self.h2.acknowledge_received_data(size, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)

    def body(self, stream_id: int) -> bytes:
        return b"".join(part for part in self.answers[stream_id] if isinstance(part, bytes))


class OracleTests(SynchronousTestCase):
    """Requests and answers survive, whatever their shape and however the bytes are cut."""

    @settings(max_examples=120, deadline=None, derandomize=True)
    @given(
        st.lists(_request, min_size=1, max_size=6),
        st.lists(st.integers(1, 200), min_size=1, max_size=5),
        st.booleans(),
        st.sampled_from([7, 100, 65_535]),
        st.sampled_from([0, 60, 4096]),
    )
    def test_echo(
        self,
        requests: list[tuple[list[Field], bytes, int]],
        cuts: list[int],
        answer_in_one: bool,
        window: int,
        table_bytes: int,
    ) -> None:
        """Every request arrives as sent and every answer as given, on all streams at once."""
        server = EchoServer(answer_in_one)
        client = Client(window, table_bytes)
        self._talk(server, client, cuts)
        expected: dict[int, tuple[list[Field], bytes]] = {}
        for number, (fields, body, frames) in enumerate(requests):
            stream_id = 1 + 2 * number
            raw = [(name.encode(), value.encode("latin-1")) for name, value in fields]
            start = [(name.encode(), value.encode()) for name, value in REQUEST]
            client.h2.send_headers(stream_id, start + raw)
            step = len(body) // frames + 1
            for at in range(0, len(body), step):
                client.h2.send_data(stream_id, body[at : at + step])
            client.h2.end_stream(stream_id)
            expected[stream_id] = (fields, body)
        self._talk(server, client, cuts)
        for stream_id, (fields, body) in expected.items():
            asked, asked_body = server.asked[stream_id]
            self.assertEqual(sorted(asked), sorted([*REQUEST[4:], *fields]))
            self.assertEqual(asked_body, body)
            self.assertIn(stream_id, client.ended)
            framed = b"\0" + len(body).to_bytes(4, "big") + body
            self.assertEqual(client.body(stream_id), framed)
            self.assertEqual(client.answers[stream_id][0], _raw(OK_HEADERS))
            self.assertEqual(client.answers[stream_id][-1], _raw(OK_TRAILERS))
        self.assertEqual(server.connection.open_streams, 0)
        self.assertEqual(server.connection.blocked_bytes, 0)

    def _talk(self, server: EchoServer, client: Client, cuts: list[int]) -> None:
        """Carry bytes both ways until both are silent."""
        for _ in range(2000):
            to_server = client.h2.data_to_send()
            at = 0
            while at < len(to_server):
                size = cuts[at % len(cuts)]
                server.connection.receive(to_server[at : at + size], 0.0)
                at += size
            to_client = server.connection.take()
            client.receive(to_client)
            if not to_server and not to_client:
                return
        self.fail("client and server talk without end")

    def test_byte_at_a_time(self) -> None:
        """One byte per read makes the same events as one read, data joined."""
        peer = Peer(handshake=False)
        whole = Peer(handshake=False)
        client = Client(65_535, 4096)
        raw = [(name.encode(), value.encode()) for name, value in REQUEST]
        for stream_id in (1, 3, 5):
            client.h2.send_headers(stream_id, raw)
            client.h2.send_data(stream_id, b"\0\0\0\0\x05hello", end_stream=True)
        data = client.h2.data_to_send()
        bodies = [event[4] for event in whole.feed(data)]
        self.assertEqual(bodies, [b"hello"] * 3)
        apart = [event for byte in data for event in peer.feed(bytes((byte,)))]
        self.assertEqual([event[0] for event in apart], ["headers", "data"] * 3)
        self.assertEqual([event[2] for event in apart[1::2]], [b"\0\0\0\0\x05hello"] * 3)

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.lists(st.binary(max_size=60), max_size=8), st.randoms(use_true_random=False))
    def test_noise(self, pieces: list[bytes], dice: object) -> None:
        """Random bytes end in GOAWAY or are waited for; nothing else comes out of receive."""
        peer = Peer()
        data = peer.request(1) + peer.headers(3)
        for piece in pieces:
            at = dice.randrange(len(data) + 1)  # type: ignore[attr-defined]
            data = data[:at] + piece + data[at:]
        try:
            peer.feed(data)
        except ProtocolError as error:
            self.fail(f"raised {error!r}")
        peer.taken()


def _raw(fields: tuple[Field, ...]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in fields}
