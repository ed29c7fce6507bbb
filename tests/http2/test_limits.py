"""The bounds on peers that keep to the letter of the protocol and still do harm."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.http2 import limits
from etcdtw.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    ErrorCode,
    Setting,
    frame,
    settings_frame,
    window_update_frame,
)
from etcdtw.http2.sending import Stream

from .recorder import OK_HEADERS, REQUEST, Peer


class _Counted(dict[int, Stream | None]):
    """Streams that know how often somebody has looked at all of them."""

    looks = 0

    def items(self) -> Any:
        self.looks += 1
        return super().items()


RESET = (8).to_bytes(4, "big")
CALM = ErrorCode.ENHANCE_YOUR_CALM


class LimitTests(SynchronousTestCase):
    """Each bound just kept, and just broken."""

    def test_values(self) -> None:
        """The bounds are the documented ones."""
        self.assertEqual(limits.HEADER_BLOCK_BYTES_MAX, 65536)
        self.assertEqual(limits.CONTINUATION_FRAMES_MAX, 16)
        self.assertEqual(limits.CLIENT_RESETS_PER_SECOND_MAX, 100)

    def _block(self, peer: Peer, pieces: list[bytes]) -> int | None:
        data = frame(HEADERS, 0, 1, pieces[0])
        for piece in pieces[1:-1]:
            data += frame(CONTINUATION, 0, 1, piece)
        peer.feed(data + frame(CONTINUATION, END_HEADERS, 1, pieces[-1]))
        return peer.goaway_code()

    def test_continuation_frames(self) -> None:
        """A header block has at most 16 CONTINUATION frames, empty ones included."""
        peer = Peer()
        block = peer.encoder.encode(REQUEST)
        self.assertIsNone(self._block(peer, [block, *[b""] * 16]))
        self.assertEqual(self._block(Peer(), [block, *[b""] * 17]), CALM)

    def test_header_block_bytes(self) -> None:
        """A header block has at most 64 KiB, and a list of fields at most 128 KiB."""
        peer = Peer()
        fields = (*REQUEST, *[("a", "v" * 8000)] * 8)
        peer.encoder.set_peer_table(0)
        block = peer.encoder.encode(fields)
        self.assertLess(len(block), limits.HEADER_BLOCK_BYTES_MAX)
        pieces = [block[at : at + 16384] for at in range(0, len(block), 16384)]
        self.assertIsNone(self._block(peer, pieces))
        self.assertEqual(self._block(Peer(), [bytes(16384)] * 4 + [b"\0"]), CALM)
        bomb = Peer()
        entry = b"\x40\x01a\x7f\x81\x1e" + b"v" * (127 + 0xF01)
        large = bomb.encoder.encode(REQUEST) + entry
        self.assertIsNone(self._block(bomb, [large, b"\xbe" * 20]))
        self.assertEqual(self._block(Peer(), [large, b"\xbe" * 40]), CALM)

    def test_client_resets(self) -> None:
        """A client may reset 100 streams in a second beyond those that were answered."""
        peer = Peer()
        stream_id = 1
        for second in range(3):
            peer.now = second * 1.5
            for _ in range(100):
                peer.feed(peer.headers(stream_id) + frame(RST_STREAM, 0, stream_id, RESET))
                stream_id += 2
        self.assertFalse(peer.server.failed)
        peer.feed(peer.headers(stream_id) + frame(RST_STREAM, 0, stream_id, RESET))
        self.assertEqual(peer.goaway_code(), CALM)

    def test_answers_excuse_resets(self) -> None:
        """Every answered stream of that second allows one more reset."""
        peer = Peer()
        stream_id = 1
        for _ in range(300):
            peer.feed(peer.request(stream_id))
            peer.server.send_answer(stream_id, b"")
            peer.feed(peer.request(stream_id + 2) + frame(RST_STREAM, 0, stream_id + 2, RESET))
            stream_id += 4
        self.assertFalse(peer.server.failed)

    def test_leaving_answered_streams_is_no_reset(self) -> None:
        """A client that stops many watches at once ends streams that have been answered."""
        peer = Peer()
        for first in (1, 101, 201, 301):
            stream_ids = range(first, first + 100, 2)
            for stream_id in stream_ids:
                peer.feed(peer.headers(stream_id))
                peer.server.send_headers(stream_id, ((":status", "200"),))
            for stream_id in stream_ids:
                peer.feed(frame(RST_STREAM, 0, stream_id, RESET))
        self.assertFalse(peer.server.failed)

    def test_skipped_stream_ids_excuse_nothing(self) -> None:
        """Stream ids that were never used are no answered streams."""
        peer = Peer()
        for number in range(101):
            stream_id = 1 + 1000 * number
            peer.feed(peer.headers(stream_id) + frame(RST_STREAM, 0, stream_id, RESET))
        self.assertEqual(peer.goaway_code(), CALM)

    def test_faults_count_as_resets(self) -> None:
        """Making us reset streams is no way around the bound."""
        peer = Peer()
        for number in range(101):
            stream_id = 1 + 2 * number
            peer.feed(peer.request(stream_id) + window_update_frame(stream_id, 0))
        self.assertEqual(peer.goaway_code(), CALM)
        peer = Peer()
        for number in range(101):
            peer.feed(peer.headers(1 + 2 * number, fields=REQUEST[1:]))
        self.assertEqual(peer.goaway_code(), CALM)

    def test_requests_of_one_read_excuse_nothing(self) -> None:
        """Streams whose bodies have not come yet are not answered ones."""
        peer = Peer(streams_max=1000)
        peer.feed(settings_frame({}))  # the second of counting begins
        stream_ids = range(1, 601, 2)
        begun = b"".join(peer.headers(each) for each in stream_ids)
        resets = [frame(RST_STREAM, 0, each, RESET) for each in stream_ids]
        peer.feed(begun + b"".join(resets[:101]))
        self.assertEqual(peer.goaway_code(), CALM)

    def test_settings_with_many_streams(self) -> None:
        """A new window size is looked up in every stream: once for a frame, and few times a second
        where there are many."""
        peer = Peer(streams_max=limits.OPEN_STREAMS_MAX)
        count = 100 * limits.SETTINGS_STREAMS
        for number in range(count):
            peer.feed(peer.headers(1 + 2 * number))
        streams = _Counted(peer.server._streams)
        peer.server._streams = streams
        for size in (60_000, 50_000):
            many = settings_frame({Setting.INITIAL_WINDOW_SIZE: 70_000})[9:] * 1000
            last = settings_frame({Setting.INITIAL_WINDOW_SIZE: size})[9:]
            peer.feed(frame(SETTINGS, 0, 0, many + last))
            self.assertEqual({each.send_window for each in streams.values() if each}, {size})
        self.assertEqual(streams.looks, 2)
        for size in range(20):
            peer.feed(settings_frame({Setting.INITIAL_WINDOW_SIZE: size}))
        self.assertEqual(peer.goaway_code(), CALM)
        self.assertLess(streams.looks, 10)

    def test_unread_acknowledgements(self) -> None:
        """Answers to PING and SETTINGS do not pile up without bound."""
        for data in (frame(PING, 0, 0, bytes(8)), settings_frame({})):
            peer = Peer()
            peer.now = 1.0
            for _ in range(limits.UNSENT_ACKS_MAX):
                peer.feed(data)
            self.assertFalse(peer.server.failed)
            peer.feed(data)
            self.assertEqual(peer.goaway_code(), CALM)

    def test_read_acknowledgements(self) -> None:
        """A peer that takes its answers may go on."""
        peer = Peer()
        for number in range(3 * limits.UNSENT_ACKS_MAX):
            peer.feed(frame(PING, 0, 0, bytes(8)))
            if number % 100 == 0:
                peer.server.take()
        self.assertFalse(peer.server.failed)

    def test_idle_frames(self) -> None:
        """Frames that carry nothing are bounded per second."""
        peer = Peer()
        peer.feed(peer.headers(1) + peer.request(3))
        peer.server.send_headers(3, OK_HEADERS, end=True)
        idle = [
            frame(DATA, 0, 1),
            frame(PRIORITY, 0, 1, bytes(5)),
            frame(0x42, 0, 1),
            window_update_frame(3, 1),
            frame(RST_STREAM, 0, 3, RESET),
        ]
        for second in range(2):
            peer.now = 10.0 + second
            for _ in range(limits.IDLE_FRAMES_PER_SECOND_MAX // len(idle)):
                peer.feed(b"".join(idle))
        self.assertFalse(peer.server.failed)
        for data in idle:
            peer = Peer()
            peer.now = 10.0
            peer.feed(peer.headers(1) + peer.request(3))
            peer.server.send_headers(3, OK_HEADERS, end=True)
            peer.feed(data * limits.IDLE_FRAMES_PER_SECOND_MAX)
            self.assertFalse(peer.server.failed)
            peer.feed(data)
            self.assertEqual(peer.goaway_code(), CALM)

    def test_windows_of_answered_streams(self) -> None:
        """grpc-go gives windows back as its caller reads, also those of streams whose answer has
        come whole; many large answers in a second are no flood."""
        peer = Peer()
        for stream_id in range(1, limits.IDLE_FRAMES_PER_SECOND_MAX, 2):
            peer.feed(peer.request(stream_id))
            peer.server.send_answer(stream_id, bytes(20))
            peer.feed(window_update_frame(stream_id, 16384) * limits.FRAMES_PER_ANSWER)
        self.assertFalse(peer.server.failed)
        peer.feed(window_update_frame(1, 1) * (limits.IDLE_FRAMES_PER_SECOND_MAX + 1))
        self.assertEqual(peer.goaway_code(), CALM)

    def test_content_on_its_way(self) -> None:
        """What was sent before a refusal arrived is no flood of empty frames."""
        peer = Peer()
        peer.feed(peer.headers(1))
        peer.server.send_headers(1, OK_HEADERS, end=True)
        peer.feed(frame(DATA, 0, 1, bytes(1000)) * (2 * limits.IDLE_FRAMES_PER_SECOND_MAX))
        self.assertFalse(peer.server.failed)
        peer.feed(frame(DATA, PADDED, 1, bytes(1)) * (limits.IDLE_FRAMES_PER_SECOND_MAX + 9))
        self.assertEqual(peer.goaway_code(), CALM)

    def test_acknowledged_pings_are_free(self) -> None:
        """Answers to our PINGs make us queue nothing."""
        peer = Peer()
        peer.feed(frame(PING, ACK, 0, bytes(8)) * (limits.UNSENT_ACKS_MAX + 1))
        self.assertFalse(peer.server.failed)

    def test_caches_are_bounded(self) -> None:
        """Neither remembered blocks nor remembered header sections grow without bound."""
        peer = Peer()
        peer.encoder.set_peer_table(0)
        for number in range(1000):
            fields = (*REQUEST, ("x", str(number)))
            peer.feed(peer.headers(1 + 2 * number, fields=fields))
            peer.server.reset(1 + 2 * number)
        self.assertLessEqual(len(peer.server._blocks.unchanging), limits.BLOCK_CACHE_ENTRIES)
        self.assertLessEqual(len(peer.server._blocks._shapes), limits.SHAPE_CACHE_ENTRIES)
        self.assertLessEqual(len(peer.server._own_resets), limits.RESET_MEMORY_STREAMS)

    def test_large_headers_are_not_kept(self) -> None:
        """Header sections of megabytes in all are nothing to remember."""
        peer = Peer()
        for number in range(limits.SHAPE_CACHE_ENTRIES):
            fields = (*REQUEST, *((f"x{each}", f"{number:04}" * 1100) for each in range(3)))
            peer.feed(peer.headers(1 + 2 * number, fields=fields))
            peer.server.reset(1 + 2 * number)
        kept = [value for shape in peer.server._blocks._shapes for _, value in shape]
        self.assertLess(sum(map(len, kept)), 64 * 1024)
        self.assertFalse(peer.server.failed)
