"""One HTTP/2 connection without its socket: bytes and the time in, events and bytes out.

Server and client share this core (RFC 9113): framing, settings, flow control of what comes in,
and the bounds on a peer that misbehaves. A fault of the peer never raises out of ``receive``: it
queues RST_STREAM or GOAWAY and is told as an event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from etcdtw.errors import ProtocolError

from . import limits
from .frames import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    HEADER_BYTES,
    PADDED,
    PING,
    PRIORITISED,
    SETTINGS,
    STREAM_ID_MAX,
    ErrorCode,
    StreamError,
    frame,
    goaway_frame,
    read_goaway,
    read_settings,
    read_u32,
    window_update_frame,
    without_padding,
)
from .header_decoder import HeaderDecoder
from .header_table import Field
from .sending import SendingHalf, Stream


class ConnectionEvents(Protocol):
    """What a connection tells its shell, from within ``receive``. Every method may send."""

    def data_received(self, stream_id: int, data: bytes, ended: bool) -> None:
        """DATA of an open stream, padding removed; ``ended`` with its last frame."""

    def trailers_received(self, stream_id: int, fields: tuple[Field, ...]) -> None:
        """The trailer section, which ends what the peer sends on this stream."""

    def stream_reset(self, stream_id: int, code: int) -> None:
        """The stream is gone: the peer reset it, or we did for a fault of the peer."""

    def stream_drained(self, stream_id: int) -> None:
        """All data sent on this stream has passed flow control."""

    def ping_received(self, acknowledged: bool, payload: bytes) -> None:
        """A PING of the peer (already answered), or the answer to one of ours."""

    def goaway_received(self, last_stream_id: int, code: int, debug: bytes) -> None:
        """The peer will serve no stream above ``last_stream_id``."""

    def connection_failed(self, error: ProtocolError) -> None:
        """GOAWAY with the error's wire code is queued; the connection must be closed."""


class Connection(SendingHalf):
    """The core. Subclasses say what a header section means."""

    __slots__ = (
        "_block", "_block_bytes", "_core_events", "_decoder", "_frame_methods", "_highest_stream",
        "_idle_frames", "_now", "_peer_resets", "_receive_left", "_rest", "_second_began",
        "_served_max", "failed", "settings_received",
    )  # fmt: skip

    def __init__(self, events: ConnectionEvents, worth_indexing: Callable[[Field], bool]) -> None:
        super().__init__(worth_indexing)
        self._core_events = events
        self._decoder = HeaderDecoder()
        self._now = 0.0
        self._rest = b""
        self._highest_stream = 0  # of those the peer opened
        self._served_max = STREAM_ID_MAX  # those above are ignored
        self._receive_left = limits.CONNECTION_WINDOW_BYTES
        self._second_began = -1.0
        self._idle_frames = 0
        self._peer_resets = 0
        # The open header block: stream id, flags of its HEADERS frame, pieces.
        self._block: tuple[int, int, list[bytes]] | None = None
        self._block_bytes = 0
        self.settings_received = False
        self.failed = False
        self._frame_methods: tuple[Callable[[int, int, bytes], None], ...] = (
            self._data,
            self._headers,
            self._priority,
            self._rst_stream,
            self._settings,
            self._push_promise,
            self._ping,
            self._goaway,
            self._window_update,
            self._continuation,
        )

    # --- Bytes in -----------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Read what the peer sent; ``now`` is in seconds on any clock that does not go back."""
        if self.failed:
            return
        self._now = now
        if self._rest:
            data = self._rest + data
        try:
            self._rest = data[self._read(data) :]
        except ProtocolError as error:
            self._rest = b""
            self.fail(error)

    def fail(self, error: ProtocolError) -> None:
        """End the connection with GOAWAY; the error's text goes along as debug data."""
        if self.failed:
            return
        self.failed = True
        debug = str(error).encode("utf-8", "replace")
        last = min(self._highest_stream, self._served_max)
        self.out.append(goaway_frame(last, error.wire_code, debug))
        self._core_events.connection_failed(error)

    def _read(self, data: bytes) -> int:
        """Handle the whole frames in ``data``; how many bytes they took."""
        at = 0
        end = len(data)
        unpack = FRAME_HEADER.unpack_from
        while end - at >= HEADER_BYTES and not self.failed:
            high, low, kind, flags, stream_id = unpack(data, at)
            stop = at + HEADER_BYTES + low
            if high or low > limits.FRAME_BYTES:
                raise ProtocolError(
                    ErrorCode.FRAME_SIZE_ERROR, f"frame of {high << 16 | low} bytes"
                )
            if stop > end:
                break
            self._frame(kind, flags, stream_id & STREAM_ID_MAX, data[at + HEADER_BYTES : stop])
            at = stop
        return at

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and kind != CONTINUATION:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "header block is not finished")
        if not self.settings_received and kind != SETTINGS:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "first frame is not SETTINGS")
        if kind >= len(self._frame_methods):
            self._count_idle()  # RFC 9113 section 5.5: unknown kinds are ignored
            return
        try:
            self._frame_methods[kind](flags, stream_id, payload)
        except StreamError as error:
            self._stream_fault(stream_id, error)

    def _stream_fault(self, stream_id: int, error: StreamError) -> None:
        """A fault of the peer that costs it one stream; as costly for us as a reset by the peer,
        and counted like one."""
        if self._is_idle(stream_id):
            raise ProtocolError(error.wire_code, str(error))
        known = stream_id in self._streams
        if known:
            self._forget(stream_id)
        self._queue_reset(stream_id, error.wire_code)
        self._owe_ack()
        self._count_reset()
        if known:
            self._core_events.stream_reset(stream_id, error.wire_code)

    # --- Bounds -------------------------------------------------------------------------------

    def _new_second(self) -> None:
        if not 0 <= self._now - self._second_began < 1.0:
            self._second_began = self._now
            self._idle_frames = 0
            self._begin_second()

    def _begin_second(self) -> None:
        """A new second of counting begins."""

    def _excused_frames(self) -> int:
        """How many idle frames of this second have a good reason."""
        return 0

    def _count_idle(self, weight: int = 1) -> None:
        """One more frame that carries nothing, or one that costs as much as several."""
        self._new_second()
        self._idle_frames += weight
        if self._idle_frames > limits.IDLE_FRAMES_PER_SECOND_MAX + self._excused_frames():
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many frames without content")

    def _owe_ack(self) -> None:
        """One more small answer that the peer makes us queue."""
        self._unsent_acks += 1
        if self._unsent_acks > limits.UNSENT_ACKS_MAX:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many answers are not read")

    # --- Frames -------------------------------------------------------------------------------

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "DATA on stream 0")
        length = len(payload)
        self._count_received(length)
        data = without_padding(flags, payload) if flags & PADDED else payload
        stream = self._streams.get(stream_id)
        if stream is None or not stream.remote_open:
            self._refuse_closed(stream_id, "DATA", is_idle=not data)
            return
        ended = bool(flags & END_STREAM)
        if not data and not ended:
            self._count_idle()
        stream.receive_left -= length
        if stream.receive_left < 0:
            raise StreamError(ErrorCode.FLOW_CONTROL_ERROR, "stream window is overrun")
        if stream.receive_left < limits.STREAM_WINDOW_BYTES // 2 and not ended:
            increment = limits.STREAM_WINDOW_BYTES - stream.receive_left
            stream.receive_left += increment
            self.out.append(window_update_frame(stream_id, increment))
        stream.received += len(data)
        if ended:
            self._remote_end(stream_id, stream)
        elif 0 <= stream.content_length < stream.received:
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "more data than content-length says")
        self._core_events.data_received(stream_id, data, ended)

    def _count_received(self, length: int) -> None:
        """Flow control of the whole connection."""
        self._receive_left -= length
        if self._receive_left < limits.CONNECTION_WINDOW_BYTES // 2:
            if self._receive_left < 0:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "connection window is overrun")
            increment = limits.CONNECTION_WINDOW_BYTES - self._receive_left
            self._receive_left += increment
            self.out.append(window_update_frame(0, increment))

    def _remote_end(self, stream_id: int, stream: Stream) -> None:
        """The peer sent END_STREAM."""
        if stream.content_length not in (-1, stream.received):
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "less data than content-length says")
        stream.remote_open = False
        if not stream.local_open:
            self._forget(stream_id)

    def _is_idle(self, stream_id: int) -> bool:
        """Whether this stream never existed."""
        return stream_id > self._highest_stream or not stream_id & 1

    def _refuse_closed(self, stream_id: int, name: str, *, is_idle: bool = True) -> None:
        """DATA or HEADERS where the peer may send none. Content may have been on its way."""
        if self._is_idle(stream_id):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"{name} on idle stream {stream_id}")
        if is_idle:
            self._count_idle()
        if stream_id not in self._own_resets:
            raise StreamError(ErrorCode.STREAM_CLOSED, f"{name} on a closed stream")

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        piece = without_padding(flags, payload)
        if flags & PRIORITISED:
            if len(piece) < 5:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without its priority")
            depends_on_itself = int.from_bytes(piece[:4], "big") & STREAM_ID_MAX == stream_id
            piece = piece[5:]
            if depends_on_itself:
                # RFC 7540 section 5.3.1 makes it a stream error, but the block must be decoded.
                flags |= _SELF_DEPENDENT
        self._block = (stream_id, flags, [piece])
        self._block_bytes = len(piece)
        if flags & END_HEADERS:
            self._end_block()

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        if block is None or block[0] != stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without its HEADERS")
        pieces = block[2]
        pieces.append(payload)
        self._block_bytes += len(payload)
        if (
            len(pieces) > 1 + limits.CONTINUATION_FRAMES_MAX
            or self._block_bytes > limits.HEADER_BLOCK_BYTES_MAX
        ):
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "header block is too large")
        if flags & END_HEADERS:
            self._end_block()

    def _end_block(self) -> None:
        assert self._block is not None, "no header block is open"
        stream_id, flags, pieces = self._block
        self._block = None
        self._header_block(
            stream_id, b"".join(pieces), bool(flags & END_STREAM), bool(flags & _SELF_DEPENDENT)
        )

    def _header_block(
        self, stream_id: int, block: bytes, ended: bool, self_dependent: bool
    ) -> None:
        raise NotImplementedError

    def _priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        self._count_idle()
        if len(payload) != 5:
            raise StreamError(ErrorCode.FRAME_SIZE_ERROR, f"PRIORITY of {len(payload)} bytes")
        if int.from_bytes(payload[:4], "big") & STREAM_ID_MAX == stream_id:
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "stream depends on itself")

    def _rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        code = read_u32(payload, "RST_STREAM")
        if stream_id in self._streams:
            stream = self._streams[stream_id]
            self._forget(stream_id)
            if stream is None or not stream.answered:
                self._count_reset()
            self._core_events.stream_reset(stream_id, code)
        elif not stream_id or self._is_idle(stream_id):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"RST_STREAM on stream {stream_id}")
        else:
            self._count_idle()

    def _count_reset(self) -> None:
        """The peer reset an open stream that had no answer yet."""

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS ack with a payload")
            if not self.settings_received:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "first frame is not SETTINGS")
            return
        # A new window size is looked up in every stream.
        self._count_idle(1 + len(self._streams) // limits.SETTINGS_STREAMS)
        self._apply_peer_settings(read_settings(payload))
        self.settings_received = True
        self.out.append(frame(SETTINGS, ACK, 0))
        self._owe_ack()
        self._pump()

    def _push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE is not allowed")

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"PING of {len(payload)} bytes")
        if not flags & ACK:
            self.out.append(frame(PING, ACK, 0, payload))
            self._owe_ack()
        self._core_events.ping_received(bool(flags & ACK), payload)

    def _goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        self._count_idle()
        self._core_events.goaway_received(*read_goaway(payload))

    def _window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        increment = read_u32(payload, "WINDOW_UPDATE") & STREAM_ID_MAX
        if not stream_id:
            if not increment:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "connection window grows by 0")
            self._grow_connection_window(increment)
        elif stream_id in self._streams:
            if not increment:
                raise StreamError(ErrorCode.PROTOCOL_ERROR, "stream window grows by 0")
            if not self._grow_stream_window(stream_id, increment):
                raise StreamError(ErrorCode.FLOW_CONTROL_ERROR, "stream window over 2^31 - 1")
        elif self._is_idle(stream_id):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
        else:
            self._count_idle()

    def _drained(self, stream_id: int) -> None:
        self._core_events.stream_drained(stream_id)


# Kept in the flags of an open header block; no bit of the wire's eight.
_SELF_DEPENDENT = 0x100
