"""Every frame in every state of a stream (RFC 9113 section 5.1)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
)

from .recorder import OK_HEADERS, REQUEST, Peer

U32_1 = (1).to_bytes(4, "big")
PRIORITY_PAYLOAD = (0).to_bytes(4, "big") + b"\0"


def _idle(peer: Peer) -> None:
    """Nothing was sent yet."""


def _open(peer: Peer) -> None:
    peer.feed(peer.headers(1))


def _half_closed_remote(peer: Peer) -> None:
    peer.feed(peer.request(1))


def _half_closed_remote_by_headers(peer: Peer) -> None:
    peer.feed(peer.headers(1, end=True))


def _closed_by_answer(peer: Peer) -> None:
    peer.feed(peer.request(1))
    peer.server.send_answer(1, b"")


def _closed_by_client_reset(peer: Peer) -> None:
    peer.feed(peer.headers(1) + frame(RST_STREAM, 0, 1, U32_1))


def _closed_by_our_reset(peer: Peer) -> None:
    peer.feed(peer.headers(1))
    peer.server.reset(1)


def _closed_by_early_answer(peer: Peer) -> None:
    peer.feed(peer.headers(1))
    peer.server.send_headers(1, OK_HEADERS, end=True)


STATES = {
    "idle": _idle,
    "open": _open,
    "half-closed (remote)": _half_closed_remote,
    "half-closed (remote) without body": _half_closed_remote_by_headers,
    "closed by answer": _closed_by_answer,
    "closed by client reset": _closed_by_client_reset,
    "closed by our reset": _closed_by_our_reset,
    "closed by early answer": _closed_by_early_answer,
}

IGNORED = "nothing"
PROTOCOL = ("goaway", ErrorCode.PROTOCOL_ERROR)
CLOSED = ("goaway", ErrorCode.STREAM_CLOSED)
STREAM_CLOSED = ("reset", ErrorCode.STREAM_CLOSED)
STREAM_PROTOCOL = ("reset", ErrorCode.PROTOCOL_ERROR)

# What each frame leads to in the order of STATES: the name of an event, nothing, RST_STREAM with
# a code or GOAWAY with a code.
EXPECTED: dict[str, tuple[object, ...]] = {
    "DATA": (
        PROTOCOL, "data", STREAM_CLOSED, STREAM_CLOSED,
        STREAM_CLOSED, STREAM_CLOSED, IGNORED, IGNORED,
    ),
    "last DATA": (
        PROTOCOL, "data", STREAM_CLOSED, STREAM_CLOSED,
        STREAM_CLOSED, STREAM_CLOSED, IGNORED, IGNORED,
    ),
    "HEADERS": (
        "headers", STREAM_PROTOCOL, STREAM_CLOSED, STREAM_CLOSED, CLOSED, CLOSED, IGNORED, IGNORED,
    ),
    "last HEADERS": (
        "headers", STREAM_PROTOCOL, STREAM_CLOSED, STREAM_CLOSED, CLOSED, CLOSED, IGNORED, IGNORED,
    ),
    "trailers": (
        STREAM_PROTOCOL, "trailers", STREAM_CLOSED, STREAM_CLOSED, CLOSED, CLOSED, IGNORED, IGNORED,
    ),
    "PRIORITY": (IGNORED,) * 8,
    "RST_STREAM": (
        PROTOCOL, "reset", "reset", "reset", IGNORED, IGNORED, IGNORED, IGNORED,
    ),
    "WINDOW_UPDATE": (PROTOCOL, *(IGNORED,) * 7),
    "PUSH_PROMISE": (PROTOCOL,) * 8,
    "CONTINUATION": (PROTOCOL,) * 8,
    "PING on a stream": (PROTOCOL,) * 8,
    "unknown": (IGNORED,) * 8,
}  # fmt: skip


def _frame(peer: Peer, name: str) -> bytes:
    match name:
        case "DATA":
            return frame(DATA, 0, 1, b"x")
        case "last DATA":
            return frame(DATA, END_STREAM, 1, b"x")
        case "HEADERS":
            return peer.headers(1)
        case "last HEADERS":
            return peer.headers(1, end=True)
        case "trailers":
            return peer.headers(1, end=True, fields=(("checksum", "1"),))
        case "PRIORITY":
            return frame(PRIORITY, 0, 1, PRIORITY_PAYLOAD)
        case "RST_STREAM":
            return frame(RST_STREAM, 0, 1, U32_1)
        case "WINDOW_UPDATE":
            return frame(WINDOW_UPDATE, 0, 1, U32_1)
        case "PUSH_PROMISE":
            return frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2")
        case "CONTINUATION":
            return frame(CONTINUATION, END_HEADERS, 1)
        case "PING on a stream":
            return frame(PING, 0, 1, bytes(8))
    return frame(0x42, 0xFF, 1, b"whatever")


class StateTests(SynchronousTestCase):
    """The table above, pair by pair."""

    def test_every_pair(self) -> None:
        """A frame is taken, ignored, or ends the stream or the connection as the table says."""
        for name, row in EXPECTED.items():
            for state, expected in zip(STATES, row, strict=True):
                peer = Peer()
                STATES[state](peer)
                peer.server.take()
                events = peer.feed(_frame(peer, name))
                got = self._lead_to(peer, events)
                self.assertEqual(got, expected, f"{name} in state {state}")
                self._check_alive(peer, expected)

    def _lead_to(self, peer: Peer, events: list[tuple[object, ...]]) -> object:
        frames = peer.taken()
        for kind, outcome in ((7, "goaway"), (3, "reset")):
            for each, _, _, payload in frames:
                if each == kind:
                    return outcome, int.from_bytes(
                        payload[-4:] if kind == 3 else payload[4:8], "big"
                    )
        self.assertEqual(frames, [])
        return events[0][0] if events else IGNORED

    def _check_alive(self, peer: Peer, expected: object) -> None:
        """Unless the connection ended, the next request is served: header tables agree."""
        failed = isinstance(expected, tuple) and expected[0] == "goaway"
        self.assertEqual(peer.server.failed, failed)
        events = peer.feed(peer.request(3))
        self.assertEqual([event[0] for event in events], [] if failed else ["request"])

    def test_header_block_is_not_interrupted(self) -> None:
        """Between HEADERS and its last CONTINUATION no other frame may come (section 6.10)."""
        block = Peer().encoder.encode(REQUEST)
        others = [
            frame(DATA, 0, 1, b"x"),
            frame(HEADERS, END_HEADERS, 1, block),
            frame(HEADERS, END_HEADERS, 3, block) + frame(DATA, END_STREAM, 3, b"\0\0\0\0\0"),
            frame(PRIORITY, 0, 1, PRIORITY_PAYLOAD),
            frame(PING, 0, 0, bytes(8)),
            frame(4, 0, 0),
            frame(0x42, 0, 1),
            frame(CONTINUATION, END_HEADERS, 3, block[5:]),
        ]
        for other in others:
            peer = Peer()
            self.assertEqual(peer.feed(frame(HEADERS, 0, 1, block[:5])), [])
            peer.feed(other)
            self.assertEqual(peer.goaway_code(), ErrorCode.PROTOCOL_ERROR)

    def test_continuation(self) -> None:
        """A header block in pieces is one request, on the short way's stream too."""
        peer = Peer()
        block = peer.encoder.encode(REQUEST)
        parts = frame(HEADERS, END_STREAM, 1, block[:5]) + frame(CONTINUATION, 0, 1, block[5:9])
        self.assertEqual(peer.feed(parts), [])
        events = peer.feed(frame(CONTINUATION, END_HEADERS, 1, block[9:]))
        self.assertEqual(events[0][0], "headers")
        self.assertEqual(peer.feed(peer.request(3))[0][0], "request")
