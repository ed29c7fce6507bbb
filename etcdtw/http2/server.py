"""The server's side of a connection, with the short way for whole unary requests and answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from struct import Struct
from typing import Any, Protocol

from etcdtw.errors import ProtocolError

from . import limits
from .connection import Connection, ConnectionEvents
from .frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER_BYTES,
    HEADERS,
    PREFACE,
    STREAM_ID_MAX,
    ErrorCode,
    Setting,
    StreamError,
    frame_header,
    goaway_frame,
    settings_frame,
    window_update_frame,
)
from .header_table import Field
from .limits import CONNECTION_WINDOW_BYTES, FRAME_BYTES
from .message import Headers, trailers
from .request_blocks import Known, RequestBlocks
from .sending import Stream

_NO_STREAM = STREAM_ID_MAX + 1
_LENGTH_PREFIX = Struct(">BI")  # of a message inside DATA: a flag and a 32-bit length
_LENGTH_PREFIX_BYTES = _LENGTH_PREFIX.size
_NO_PREFIX = (1, 0)
# As FRAME_HEADER, with kind and flags in one number: those of a request that comes whole.
_FRAME_HEADER = Struct(">BHHI")
_WHOLE_HEADERS = HEADERS << 8 | END_HEADERS
_WHOLE_BODY = DATA << 8 | END_STREAM
_FRAME_START_BYTES = 5  # size, kind and flags
_FRAME_BYTES_MAX = FRAME_BYTES.to_bytes(3, "big")
_WHOLE_HEADERS_BYTES = bytes((HEADERS, END_HEADERS))
_SHORT_ANSWER_BYTES_MAX = 0xFFFF  # what the short way's length field holds


@lru_cache(maxsize=256)
def _pair_with(block_bytes: int) -> tuple[int, Callable[[bytes, int], tuple[Any, ...]]]:
    """HEADERS and DATA of one request whose header block has so many bytes: bytes up to its
    message, and what reads them: start, stream and block of HEADERS; size and kind, flags and
    stream of DATA; flag and length of the message."""
    shape = Struct(f">5sI{block_bytes}sIBIBI")
    return shape.size, shape.unpack_from


class ServerEvents(ConnectionEvents, Protocol):
    """What a server's connection tells its shell."""

    def request_received(
        self, stream_id: int, headers: Headers, varying: str | None, message: bytes
    ) -> None:
        """A request that came whole: one HEADERS frame, and one DATA frame with one
        length-prefixed message, uncompressed, which is given without its prefix.

        ``varying`` is the value of the field that was named as varying, if it was there."""

    def headers_received(
        self, stream_id: int, headers: Headers, varying: str | None, ended: bool
    ) -> None:
        """A request begins; ``ended`` if it has no body."""


class ServerConnection(Connection):
    """The server's end. ``varying_field`` names the one request field whose value changes from
    request to request: it is kept out of ``Headers``, so that those can be shared.

    ``ok_headers`` and ``ok_trailers`` frame every answer made by ``send_answer``."""

    __slots__ = (
        "_answer_start", "_blocks", "_draining", "_ended_before_second", "_events",
        "_headers_rest", "_headers_start", "_ok_headers", "_ok_trailers", "_opened", "_pair_bytes",
        "_pair_start", "_pending", "_preface_left", "_reset_total", "_resets_this_second",
        "_short_answer_bytes", "_short_way_above", "_streams_max", "_trailers_block",
        "_trailers_frame", "_trailers_start", "_unpack_pair",
    )  # fmt: skip

    def __init__(
        self,
        events: ServerEvents,
        *,
        varying_field: str,
        ok_headers: tuple[Field, ...],
        ok_trailers: tuple[Field, ...],
        concurrent_streams_max: int = limits.OPEN_STREAMS_MAX,
    ) -> None:
        indexed = frozenset(ok_headers + ok_trailers)
        super().__init__(events, indexed.__contains__)
        self._events = events
        self._ok_headers = ok_headers
        self._ok_trailers = ok_trailers
        self._streams_max = min(concurrent_streams_max, limits.OPEN_STREAMS_MAX)
        self._preface_left = PREFACE
        self._draining = False
        # Requests come the short way from streams above this one; _NO_STREAM shuts it.
        self._short_way_above = _NO_STREAM
        # Requests of the current read whose body has not come yet.
        self._pending: dict[int, Known] = {}
        self._blocks = RequestBlocks(self._decoder, varying_field)
        # Of requests that come as pairs of frames, as the last one came.
        self._pair_start = b""
        self._pair_bytes, self._unpack_pair = _pair_with(FRAME_BYTES)
        # The short way of answers: largest DATA that may take it (-1: shut), and its constants.
        self._short_answer_bytes = -1
        self._answer_start = Struct("")
        self._headers_start = self._headers_rest = b""
        self._trailers_frame = Struct("")
        self._trailers_start = self._trailers_block = b""
        self._opened = 0
        self._resets_this_second = 0
        self._ended_before_second = 0
        self._reset_total = 0
        self.out.append(
            settings_frame(
                {
                    Setting.MAX_CONCURRENT_STREAMS: self._streams_max,
                    Setting.INITIAL_WINDOW_SIZE: limits.STREAM_WINDOW_BYTES,
                    Setting.MAX_HEADER_LIST_SIZE: limits.HEADER_LIST_BYTES_MAX,
                }
            )
        )
        self.out.append(window_update_frame(0, CONNECTION_WINDOW_BYTES - 65_535))

    # --- What the shell calls -----------------------------------------------------------------

    def send_answer(self, stream_id: int, body: bytes) -> None:
        """A whole successful answer: headers, ``body`` as one length-prefixed message, trailers."""
        size = len(body) + _LENGTH_PREFIX_BYTES
        if (
            size <= self._short_answer_bytes
            and size <= self._send_window
            and self._streams.get(stream_id, self) is None
        ):
            del self._streams[stream_id]
            self._send_window -= size
            self.out += (
                self._answer_start.pack(
                    self._headers_start,
                    stream_id,
                    self._headers_rest,
                    size,
                    0,
                    stream_id,
                    0,
                    size - _LENGTH_PREFIX_BYTES,
                ),
                body,
                self._trailers_frame.pack(self._trailers_start, stream_id, self._trailers_block),
            )
            self.sent_content = True
            return
        self.send_headers(stream_id, self._ok_headers)
        prefix = b"\0" + len(body).to_bytes(4, "big")
        self.send_data(stream_id, (prefix, body), size)
        self.send_trailers(stream_id, self._ok_trailers)
        if self._short_answer_bytes < 0 and stream_id not in self._streams:
            self._open_short_answers()

    def announce_drain(self) -> None:
        """Ask the peer to open no more streams; those under way are still taken."""
        if not self._draining and not self.failed:
            self.out.append(goaway_frame(STREAM_ID_MAX, ErrorCode.NO_ERROR, b""))

    def drain(self, debug: bytes = b"") -> None:
        """Take no new streams: GOAWAY with the last one that is served. Later ones are ignored,
        which tells the peer that they were not processed."""
        if not self._draining and not self.failed:
            self._draining = True
            self._short_way_above = _NO_STREAM
            self._served_max = self._highest_stream
            self.out.append(goaway_frame(self._served_max, ErrorCode.NO_ERROR, debug))

    # --- Reading ------------------------------------------------------------------------------

    def _read(self, data: bytes) -> int:
        at = 0
        end = len(data)
        if self._preface_left:
            at = min(len(self._preface_left), end)
            if data[:at] != self._preface_left[:at]:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "connection preface is wrong")
            self._preface_left = self._preface_left[at:]
        at = self._read_pairs(data, at)
        if at == end:
            return at
        unpack = _FRAME_HEADER.unpack_from
        unpack_prefix = _LENGTH_PREFIX.unpack_from
        known_blocks = self._blocks.unchanging
        pending = self._pending
        streams = self._streams
        request_received = self._events.request_received
        streams_max = self._streams_max
        received = 0
        while end - at >= HEADER_BYTES:
            high, size, kind_and_flags, stream_id = unpack(data, at)
            start = at + HEADER_BYTES
            stop = start + size
            if high or size > FRAME_BYTES:
                raise ProtocolError(
                    ErrorCode.FRAME_SIZE_ERROR, f"frame of {high << 16 | size} bytes"
                )
            if stop > end:
                break
            at = stop
            if kind_and_flags == _WHOLE_BODY and stream_id in pending:
                headers, varying = pending.pop(stream_id)
                received += size
                if headers.content_length >= 0 and headers.content_length != size:
                    self._refuse(stream_id, ErrorCode.PROTOCOL_ERROR)
                    continue
                if len(streams) >= streams_max:
                    self._refuse_for_now(stream_id)
                    continue
                streams[stream_id] = None
                flag, length = (
                    unpack_prefix(data, start) if size >= _LENGTH_PREFIX_BYTES else _NO_PREFIX
                )
                if flag or length != size - _LENGTH_PREFIX_BYTES:
                    self._events.headers_received(stream_id, headers, varying, False)
                    self._events.data_received(stream_id, data[start:stop], True)
                    continue
                message = data[start + _LENGTH_PREFIX_BYTES : stop]
                request_received(stream_id, headers, varying, message)
                continue
            stream_id &= STREAM_ID_MAX
            if (
                kind_and_flags == _WHOLE_HEADERS
                and stream_id > self._short_way_above
                and stream_id & 1
            ):
                block = data[start:stop]
                known = known_blocks.get(block) or self._short_headers(stream_id, block)
                self._short_way_above = self._highest_stream = stream_id
                self._opened += 1
                if known is not None:
                    pending[stream_id] = known
                continue
            if stream_id in pending:
                self._announce(stream_id)
            self._frame(kind_and_flags >> 8, kind_and_flags & 0xFF, stream_id, data[start:stop])
            if self.failed:
                return end
        if received:
            self._receive_left -= received
            if self._receive_left < CONNECTION_WINDOW_BYTES // 2:
                self._count_received(0)
        if pending:
            self._announce_pending()
        return at

    def _read_pairs(self, data: bytes, at: int) -> int:
        """Requests at the beginning that come as most do, one after the other, HEADERS and DATA
        each; where they end."""
        end = len(data)
        start = data[at : at + _FRAME_START_BYTES]
        if (
            start != self._pair_start
            and start[3:] == _WHOLE_HEADERS_BYTES
            and start[:3] <= _FRAME_BYTES_MAX
        ):
            self._pair_start = start
            self._pair_bytes, self._unpack_pair = _pair_with(int.from_bytes(start[:3], "big"))
        pair_start = self._pair_start
        pair_bytes = self._pair_bytes
        unpack_pair = self._unpack_pair
        known_blocks = self._blocks.unchanging
        streams = self._streams
        received = 0
        while end - at >= pair_bytes:
            start, stream_id, block, body, flags, same, flag, length = unpack_pair(data, at)
            size = length + _LENGTH_PREFIX_BYTES
            stop = at + pair_bytes + length
            if (
                start != pair_start
                or body != size << 8
                or flags != END_STREAM
                or flag
                or stream_id != same
                or not self._short_way_above < stream_id <= STREAM_ID_MAX
                or not stream_id & 1
                or size > FRAME_BYTES
                or stop > end
                or len(streams) >= self._streams_max
            ):
                break
            at = stop
            received += size
            known = known_blocks.get(block) or self._short_headers(stream_id, block)
            self._short_way_above = self._highest_stream = stream_id
            self._opened += 1
            if known is None:
                continue
            headers, varying = known
            if headers.content_length >= 0 and headers.content_length != size:
                self._refuse(stream_id, ErrorCode.PROTOCOL_ERROR)
                continue
            streams[stream_id] = None
            message = data[stop - length : stop]
            self._events.request_received(stream_id, headers, varying, message)
        if received:
            self._receive_left -= received
            if self._receive_left < CONNECTION_WINDOW_BYTES // 2:
                self._count_received(0)
        return at

    def _announce_pending(self) -> None:
        while self._pending:
            self._announce(next(iter(self._pending)))

    def _announce(self, stream_id: int) -> None:
        """A request does not come whole in this read: it begins as a stream."""
        headers, varying = self._pending.pop(stream_id)
        if len(self._streams) + len(self._pending) >= self._streams_max:
            self._refuse_for_now(stream_id)
            return
        self._streams[stream_id] = Stream(
            self._peer_window, remote_open=True, content_length=headers.content_length
        )
        self._events.headers_received(stream_id, headers, varying, False)

    def _refuse_for_now(self, stream_id: int) -> None:
        """Reset a request that is one too many; the client may try again."""
        self._count_idle()
        self._reset_total += 1
        self._queue_reset(stream_id, ErrorCode.REFUSED_STREAM)
        self._owe_ack()

    def _refuse(self, stream_id: int, code: int) -> None:
        """Reset a request that never began."""
        self._queue_reset(stream_id, code)
        self._owe_ack()
        self._count_reset()

    def _short_headers(self, stream_id: int, block: bytes) -> Known | None:
        """The headers of a block that the cache does not know; None if they end the stream."""
        try:
            return self._blocks.read(block)
        except StreamError as error:
            self._refuse(stream_id, error.wire_code)
            return None

    def _header_block(
        self, stream_id: int, block: bytes, ended: bool, self_dependent: bool
    ) -> None:
        if stream_id & 1 and stream_id > self._highest_stream:
            self._request_begins(stream_id, block, ended, self_dependent)
            return
        if stream_id in self._streams:
            fields = self._blocks.read_apart(block)
            stream = self._streams[stream_id]
            if stream is None or not stream.remote_open:
                raise StreamError(ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM")
            if not ended:
                raise StreamError(ErrorCode.PROTOCOL_ERROR, "trailers do not end the stream")
            checked = trailers(fields)
            self._remote_end(stream_id, stream)
            self._events.trailers_received(stream_id, checked)
        elif stream_id in self._own_resets:
            self._count_idle()
            self._blocks.read_apart(block)
        elif stream_id & 1:
            raise ProtocolError(ErrorCode.STREAM_CLOSED, f"HEADERS on closed stream {stream_id}")
        else:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"client opens stream {stream_id}")

    def _request_begins(
        self, stream_id: int, block: bytes, ended: bool, self_dependent: bool
    ) -> None:
        self._highest_stream = stream_id
        if self._draining:
            self._count_idle()
            self._blocks.read_apart(block)
            self._remember_reset(stream_id)
            return
        self._short_way_above = stream_id
        self._opened += 1
        known = self._blocks.unchanging.get(block) or self._blocks.read(block)
        headers, varying = known
        if len(self._streams) >= self._streams_max:
            self._refuse_for_now(stream_id)
            return
        if self_dependent:
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "stream depends on itself")
        if ended and headers.content_length > 0:
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "content-length without content")
        self._streams[stream_id] = (
            None
            if ended
            else Stream(self._peer_window, remote_open=True, content_length=headers.content_length)
        )
        self._events.headers_received(stream_id, headers, varying, ended)

    # --- Bounds -------------------------------------------------------------------------------

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not flags & END_HEADERS:
            self._short_way_above = _NO_STREAM  # until the block is complete
            self._announce_pending()  # their bodies may not come before that
        super()._headers(flags, stream_id, payload)

    def _end_block(self) -> None:
        if not self._draining:
            self._short_way_above = self._highest_stream
        super()._end_block()

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        first = not self.settings_received
        super()._settings(flags, stream_id, payload)
        if first and not self._draining:
            self._short_way_above = self._highest_stream

    def _begin_second(self) -> None:
        self._resets_this_second = 0
        self._ended_before_second = self._ended_streams()

    def _ended_streams(self) -> int:
        """How many streams ended by an answer so far."""
        return self._opened - len(self._streams) - len(self._pending) - self._reset_total

    def _answered_this_second(self) -> int:
        return self._ended_streams() - self._ended_before_second

    def _excused_frames(self) -> int:
        return limits.FRAMES_PER_ANSWER * self._answered_this_second()

    def _count_reset(self) -> None:
        self._reset_total += 1
        self._new_second()
        self._resets_this_second += 1
        if (
            self._resets_this_second - self._answered_this_second()
            > limits.CLIENT_RESETS_PER_SECOND_MAX
        ):
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many streams are reset")

    # --- Sending ------------------------------------------------------------------------------

    def _local_end(self, stream_id: int, stream: Stream) -> None:
        """A complete answer ends the stream, whether or not the request did (RFC 9113 8.1)."""
        self._forget(stream_id)
        if stream.remote_open:
            self._queue_reset(stream_id, ErrorCode.NO_ERROR)

    def _peer_limits_changed(self) -> None:
        self._short_answer_bytes = -1

    def _open_short_answers(self) -> None:
        """After one answer went the long way its header fields are in the peer's table, if ever:
        from now on the blocks are constants."""
        head = self._encoder.encode(self._ok_headers)
        tail = self._encoder.encode(self._ok_trailers)
        # Struct: HEADERS' header around the stream id, its block with the high byte of DATA's
        # length, then the rest of DATA's header and the message's prefix.
        self._headers_start = frame_header(len(head), HEADERS, END_HEADERS, 0)[:5]
        self._headers_rest = head + b"\0"
        self._answer_start = Struct(f">5sI{len(head) + 1}sHHIBI")
        self._trailers_start = frame_header(len(tail), HEADERS, END_HEADERS | END_STREAM, 0)[:5]
        self._trailers_block = tail
        self._trailers_frame = Struct(f">5sI{len(tail)}s")
        self._short_answer_bytes = min(
            self._peer_window, self._peer_frame_bytes, _SHORT_ANSWER_BYTES_MAX
        )
