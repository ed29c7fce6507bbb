"""What a client sends means the same however it is cut into reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    RST_STREAM,
    frame,
    window_update_frame,
)
from etcdtw.http2.message import Headers

from .recorder import REQUEST, Peer

HELLO = b"\0\0\0\0\5hello"
_body = st.sampled_from([HELLO, HELLO, b"", b"\0\0", b"\1" + HELLO[1:], HELLO + b"x", HELLO * 2])
_kind = st.sampled_from(
    ["whole"] * 4 + ["begun", "in pieces", "padded", "without body", "in parts"]
)
_between = st.sampled_from([b""] * 4 + [frame(PING, 0, 0, bytes(8)), window_update_frame(1, 1)])
_request = st.tuples(_kind, _body, st.integers(0, 2), _between)


def _frames(peer: Peer, requests: list[tuple[str, bytes, int, bytes]]) -> bytes:
    """The bodies of those that are only begun come behind a later request, last first."""
    data = b""
    begun: list[bytes] = []
    for number, (kind, body, value, between) in enumerate(requests):
        stream_id = 2 * number + 1
        fields = (*REQUEST, ("x", str(value)), ("grpc-timeout", f"{number}S"))
        last = frame(DATA, END_STREAM, stream_id, body)
        if kind == "in pieces":
            last = frame(DATA, 0, stream_id, body[:3]) + frame(
                DATA, END_STREAM, stream_id, body[3:]
            )
        elif kind == "padded":
            last = frame(DATA, END_STREAM | PADDED, stream_id, b"\2" + body + b"\0\0")
        elif kind == "without body":
            last = b""
        elif kind == "begun":
            begun.append(last)
            last = b""
        if kind == "in parts":
            if value == 0 and begun:
                between = begun.pop()
            block = peer.encoder.encode(fields)
            data += frame(HEADERS, 0, stream_id, block[:5]) + between
            data += frame(CONTINUATION, END_HEADERS, stream_id, block[5:]) + last
        else:
            data += peer.headers(stream_id, fields=fields, end=kind == "without body")
            data += between + last
        if value == 0 and kind == "whole" and begun:
            data += begun.pop()
    return data + frame(RST_STREAM, 0, 1, bytes(4))


def _said(events: Iterable[tuple[object, ...]]) -> dict[object, list[object]]:
    """What was told of each stream, data joined; where the connection fails, only of those that
    had ended before."""
    told: dict[object, list[object]] = {}
    octets: dict[object, bytes] = {}
    ended: list[object] = []
    failed: list[object] = []
    for name, *rest in events:
        match name, *rest:
            case "request", stream_id, Headers() as headers, varying, bytes(message):
                told[stream_id] = [headers.path, headers.fields, varying]
                octets[stream_id] = b"\0" + len(message).to_bytes(4, "big") + message
                ended.append(stream_id)
            case "headers", stream_id, Headers() as headers, varying, is_ended:
                told[stream_id] = [headers.path, headers.fields, varying]
                ended += [stream_id] * bool(is_ended)
            case "data", stream_id, bytes(data), is_ended:
                octets[stream_id] = octets.get(stream_id, b"") + data
                ended += [stream_id] * bool(is_ended)
            case "failed", *failed:
                pass
            case _, stream_id, *what:
                told.setdefault(stream_id, []).extend((name, *what))
    for stream_id, data in octets.items():
        told[stream_id].append(data)
    return {each: told[each] for each in ended} | {"failed": failed} if failed else told


class CutTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(
        st.lists(_request, min_size=1, max_size=12),
        st.lists(st.integers(1, 200), min_size=1, max_size=5),
        st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), max_size=1),
    )
    def test_same_events(
        self,
        requests: list[tuple[str, bytes, int, bytes]],
        sizes: list[int],
        faults: list[tuple[int, int]],
    ) -> None:
        """One read, some, or one for each byte; perhaps with a byte that is wrong."""
        data = _frames(Peer(), requests)
        for at, byte in faults:
            at %= len(data)
            data = data[:at] + bytes((byte,)) + data[at + 1 :]
        cuts = sorted({0, *accumulate(sizes), len(data)})
        expected = self._told(data, range(len(data) + 1))
        self.assertEqual(self._told(data, cuts), expected)
        self.assertEqual(self._told(data, (0, len(data))), expected)

    def _told(self, data: bytes, cuts: Sequence[int]) -> dict[object, list[object]]:
        peer = Peer()
        pieces = [data[start:stop] for start, stop in pairwise(cuts)]
        return _said(event for piece in pieces for event in peer.feed(piece))
