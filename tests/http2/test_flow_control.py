"""Windows in both directions (RFC 9113 sections 5.2 and 6.9)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.http2 import limits
from etcdtw.http2.frames import (
    ACK,
    DATA,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Setting,
    frame,
    settings_frame,
    window_update_frame,
)

from .recorder import OK_HEADERS, OK_TRAILERS, REQUEST, Peer, path_of


def _data_bytes(frames: list[tuple[int, int, int, bytes]], stream_id: int) -> int:
    return sum(len(f[3]) for f in frames if f[0] == DATA and f[2] == stream_id)


class SendingTests(SynchronousTestCase):
    """What the peer's windows hold back."""

    def _peer(self, window: int) -> Peer:
        peer = Peer()
        peer.feed(settings_frame({Setting.INITIAL_WINDOW_SIZE: window}))
        peer.feed(peer.request(1))
        peer.server.take()
        return peer

    def test_short_answer_waits(self) -> None:
        """A unary answer larger than the stream's window comes in parts, trailers last."""
        peer = self._peer(10)
        peer.server.send_answer(1, b"0123456789")
        frames = peer.taken()
        self.assertEqual([f[0] for f in frames], [HEADERS, DATA])
        self.assertEqual(frames[1][3], b"\0\0\0\0\x0a01234")
        self.assertEqual(peer.server.blocked_bytes, 5)
        self.assertEqual(peer.server.queued_bytes(1), 5)
        peer.feed(window_update_frame(1, 3))
        self.assertEqual([f[3] for f in peer.taken()], [b"567"])
        peer.feed(window_update_frame(1, 3))
        last, trailers = peer.taken()
        self.assertEqual(last[3], b"89")
        self.assertEqual(trailers[:2], (HEADERS, 5))
        self.assertEqual(peer.server.blocked_bytes, 0)
        self.assertFalse(peer.server.is_open(1))

    def test_connection_window(self) -> None:
        """All streams together stay within the connection's window and take turns."""
        peer = self._peer(1 << 20)
        peer.feed(peer.request(3))
        for stream_id in (1, 3):
            peer.server.send_headers(stream_id, OK_HEADERS)
            peer.server.send_data(stream_id, (bytes(100_000),), 100_000)
        frames = peer.taken()
        self.assertEqual(_data_bytes(frames, 1) + _data_bytes(frames, 3), 65_535)
        peer.feed(window_update_frame(0, 65_536))
        frames = peer.taken()
        self.assertEqual(_data_bytes(frames, 1) + _data_bytes(frames, 3), 65_536)
        self.assertGreater(_data_bytes(frames, 1), 30_000)
        self.assertGreater(_data_bytes(frames, 3), 30_000)
        self.assertLessEqual(max(len(f[3]) for f in frames), 16_384)
        events = peer.feed(window_update_frame(0, 1 << 20))
        self.assertEqual({event[0] for event in events}, {"drained"})

    def test_turns_outlast_a_shut_window(self) -> None:
        """A connection window that always opens by one frame serves all streams alike."""
        peer = self._peer(1 << 20)
        peer.feed(peer.request(3))
        for stream_id in (1, 3):
            peer.server.send_headers(stream_id, OK_HEADERS)
            peer.server.send_data(stream_id, (bytes(300_000),), 300_000)
        peer.server.take()
        frames = []
        for _ in range(10):
            peer.feed(window_update_frame(0, 16_384))
            frames += peer.taken()
        self.assertEqual(_data_bytes(frames, 1), 5 * 16_384)
        self.assertEqual(_data_bytes(frames, 3), 5 * 16_384)

    def test_short_answers_keep_to_the_connection_window(self) -> None:
        """Once the connection's window is used up, even small answers wait."""
        peer = self._peer(1 << 20)
        peer.server.send_answer(1, b"")
        left = 65_535 - 5
        stream_id = 3
        while left:
            size = min(left, 10_000)
            peer.feed(peer.request(stream_id))
            peer.server.send_answer(stream_id, bytes(size - 5))
            left -= size
            stream_id += 2
        peer.feed(peer.request(stream_id))
        peer.server.take()
        peer.server.send_answer(stream_id, b"x")
        self.assertEqual([f[0] for f in peer.taken()], [HEADERS])
        peer.feed(window_update_frame(0, 100))
        self.assertEqual([f[0] for f in peer.taken()], [DATA, HEADERS])

    def test_shrinking_window(self) -> None:
        """A smaller INITIAL_WINDOW_SIZE may make windows negative (section 6.9.2)."""
        peer = self._peer(100)
        peer.server.send_headers(1, OK_HEADERS)
        peer.server.send_data(1, (bytes(90),), 90)
        peer.feed(settings_frame({Setting.INITIAL_WINDOW_SIZE: 50}))
        peer.server.take()
        peer.server.send_data(1, (b"0123456789",), 10)
        self.assertEqual(peer.taken(), [])
        peer.feed(window_update_frame(1, 40))
        self.assertEqual(peer.taken(), [])
        peer.feed(window_update_frame(1, 5))
        self.assertEqual(_data_bytes(peer.taken(), 1), 5)
        peer.feed(settings_frame({Setting.INITIAL_WINDOW_SIZE: 55}))
        self.assertEqual(_data_bytes(peer.taken(), 1), 5)

    def test_wider_windows_are_acknowledged_first(self) -> None:
        """Data that new settings set free follows their acknowledgement: from there on the peer
        counts by them."""
        peer = self._peer(10)
        peer.server.send_headers(1, OK_HEADERS)
        peer.server.send_data(1, (bytes(30),), 30)
        peer.server.take()
        peer.feed(settings_frame({Setting.INITIAL_WINDOW_SIZE: 40}))
        frames = peer.taken()
        self.assertEqual([f[:2] for f in frames], [(SETTINGS, ACK), (DATA, 0)])
        self.assertEqual(_data_bytes(frames, 1), 20)

    def test_zero_window_lets_empty_data_pass(self) -> None:
        """An empty last frame needs no window, also behind a negative one."""
        peer = self._peer(0)
        peer.server.send_headers(1, OK_HEADERS)
        peer.server.send_data(1, (), 0, end=True)
        self.assertEqual(peer.taken()[1], (DATA, END_STREAM, 1, b""))
        self.assertFalse(peer.server.is_open(1))

    def test_large_unary_answer(self) -> None:
        """A large body is cut at the frame size and arrives whole."""
        peer = self._peer(1 << 24)
        peer.feed(window_update_frame(0, 1 << 24))
        body = bytes(range(256)) * 4000
        peer.server.send_answer(1, body)
        frames = peer.taken()
        data = b"".join(f[3] for f in frames if f[0] == DATA)
        self.assertEqual(data, b"\0" + len(body).to_bytes(4, "big") + body)
        self.assertLessEqual(max(len(f[3]) for f in frames), 16_384)

    def test_reset_drops_what_waits(self) -> None:
        """A reset by the client frees the bytes that waited for it."""
        peer = self._peer(10)
        peer.server.send_answer(1, bytes(1000))
        events = peer.feed(frame(RST_STREAM, 0, 1, bytes(4)))
        self.assertEqual(events, [("reset", 1, 0)])
        self.assertEqual(peer.server.blocked_bytes, 0)
        peer.server.take()
        peer.feed(window_update_frame(0, 1000))
        self.assertEqual(peer.taken(), [])

    def test_stuck_streams_cost_nothing(self) -> None:
        """Streams without window of their own are not looked at when the connection's grows."""
        peer = self._peer(0)
        peer.server.send_answer(1, bytes(10))
        self.assertEqual(peer.server._sendable, {})
        peer.feed(window_update_frame(0, 5) + peer.request(3))
        self.assertEqual(peer.server._sendable, {})
        peer.feed(window_update_frame(1, 100))
        self.assertFalse(peer.server.is_open(1))

    def test_early_end_resets_the_request(self) -> None:
        """A whole answer before the request's end asks the client to stop (section 8.1)."""
        peer = Peer()
        peer.feed(peer.headers(1))
        peer.server.take()
        peer.server.send_headers(1, OK_HEADERS + OK_TRAILERS, end=True)
        self.assertEqual([f[0] for f in peer.taken()], [HEADERS, RST_STREAM])
        self.assertEqual(peer.feed(frame(DATA, 0, 1, b"late")), [])


class ReceivingTests(SynchronousTestCase):
    """What we let the peer send."""

    def test_windows_are_given_back(self) -> None:
        """Half used, a window is filled again: the stream's and the connection's."""
        peer = Peer()
        peer.feed(peer.headers(1))
        updates: dict[int, int] = {0: 0, 1: 0}
        sent = 0
        for _ in range(1000):
            peer.feed(frame(DATA, 0, 1, bytes(16_384)))
            sent += 16_384
            for kind, _, stream_id, payload in peer.taken():
                self.assertEqual(kind, WINDOW_UPDATE)
                updates[stream_id] += int.from_bytes(payload, "big")
        self.assertGreater(limits.STREAM_WINDOW_BYTES + updates[1] - sent, 16_384)
        self.assertGreater(limits.CONNECTION_WINDOW_BYTES + updates[0] - sent, 16_384)
        self.assertLessEqual(updates[1], sent)

    def test_short_way_gives_back(self) -> None:
        """Whole requests are counted against the connection's window too."""
        peer = Peer()
        given = 0
        for number in range(400):
            stream_id = 1 + 2 * number
            body = b"\0\0\0\x3f\xfb" + bytes(16_379)
            self.assertEqual(peer.feed(peer.request(stream_id, body))[0][0], "request")
            peer.server.send_answer(stream_id, b"")
            updates = [f for f in peer.taken() if f[0] == WINDOW_UPDATE]
            given += sum(int.from_bytes(f[3], "big") for f in updates)
        self.assertGreater(given, 400 * 16_384 - limits.CONNECTION_WINDOW_BYTES)

    def test_ignored_data_is_counted(self) -> None:
        """DATA for a stream we reset still uses the connection's window, which is given back."""
        peer = Peer()
        peer.feed(peer.headers(1))
        peer.server.reset(1)
        peer.server.take()
        for _ in range(200):
            peer.feed(frame(DATA, 0, 1, bytes(16_384)))
        self.assertEqual([f[:3] for f in peer.taken()], [(WINDOW_UPDATE, 0, 0)])


class SharedHeadersTests(SynchronousTestCase):
    """What is remembered of header blocks."""

    def test_same_block_same_headers(self) -> None:
        """Equal header sections share one object, found by block or by fields."""
        peer = Peer()
        first = peer.feed(peer.request(1))[0][2]
        second = peer.feed(peer.request(3))[0][2]
        third = peer.feed(peer.request(5))[0][2]
        self.assertIs(first, second)
        self.assertIs(second, third)

    def test_varying_field(self) -> None:
        """The varying field is told apart and does not split what is shared."""
        peer = Peer()
        seen = []
        for number in range(100):
            fields = (*REQUEST, ("grpc-timeout", f"{number}u"))
            data = peer.headers(1 + 2 * number, fields=fields)
            seen.append(peer.feed(data + frame(DATA, END_STREAM, 1 + 2 * number, b"x"))[0])
        self.assertEqual([event[3] for event in seen], [f"{number}u" for number in range(100)])
        self.assertEqual(len({id(event[2]) for event in seen}), 1)

    def test_table_change_forgets_blocks(self) -> None:
        """A block means something else once the table has moved."""
        peer = Peer()
        peer.feed(peer.request(1))
        block_before = peer.encoder.encode(REQUEST)
        peer.feed(peer.request(3))
        other = (*REQUEST[:2], (":path", "/other"), *REQUEST[3:])
        self.assertEqual(path_of(peer.feed(peer.headers(5, end=True, fields=other))[0]), "/other")
        self.assertEqual(path_of(peer.feed(peer.request(7))[0]), "/a.B/C")
        self.assertNotEqual(peer.encoder.encode(REQUEST), block_before)

    def test_malformed_block_forgets_too(self) -> None:
        """Also a request that is refused, or trailers, may have moved the table."""
        for spoil in ("refused", "trailers"):
            peer = Peer()
            peer.feed(peer.request(1) + peer.request(3) + peer.headers(5))
            extra = (("x-new", "1"),)
            if spoil == "refused":
                peer.feed(peer.headers(7, fields=REQUEST[1:] + extra))
            else:
                peer.feed(peer.headers(5, end=True, fields=extra))
            self.assertEqual(path_of(peer.feed(peer.request(9))[0]), "/a.B/C")
            self.assertEqual(path_of(peer.feed(peer.request(11))[0]), "/a.B/C")
