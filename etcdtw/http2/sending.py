"""The sending half of a connection: streams, flow control, and frames that wait to be taken."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from etcdtw.errors import ProtocolError

from .frames import (
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW_BYTES,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    HEADERS,
    PING,
    WINDOW_MAX,
    ErrorCode,
    Setting,
    frame,
    frame_header,
    reset_frame,
)
from .header_encoder import HeaderEncoder
from .header_table import Field
from .limits import FRAME_BYTES, RESET_MEMORY_STREAMS, STREAM_WINDOW_BYTES


class Stream:
    """One open stream. A server keeps none for a request that came whole in one read, until
    something about it becomes special.

    ``send_window`` may be negative (a peer can shrink it under us); ``receive_left`` is how many
    bytes the peer may still send; ``received`` counts DATA against a declared content length.
    """

    __slots__ = (
        "answered",
        "content_length",
        "ending",
        "headers_seen",
        "local_open",
        "queue",
        "queued_bytes",
        "receive_left",
        "received",
        "remote_open",
        "send_window",
        "trailers",
    )

    def __init__(self, send_window: int, *, remote_open: bool, content_length: int = -1) -> None:
        self.send_window = send_window
        self.remote_open = remote_open
        self.local_open = True
        self.headers_seen = False
        self.answered = False  # response headers have been sent
        self.receive_left = STREAM_WINDOW_BYTES
        self.received = 0
        self.content_length = content_length
        # What the windows do not let out yet, and how the stream ends once it is out.
        self.queue: deque[bytes | memoryview] = deque()
        self.queued_bytes = 0
        self.ending = False
        self.trailers: Iterable[Field] | None = None


class SendingHalf:
    """What a connection sends. Every method queues; ``take`` hands out all that is queued, which
    is in ``out`` until then."""

    __slots__ = (
        "_encoder", "_own_resets", "_peer_frame_bytes", "_peer_window", "_send_window",
        "_sendable", "_streams", "_unsent_acks", "blocked_bytes", "is_large", "out",
        "sent_content",
    )  # fmt: skip

    def __init__(self, worth_indexing: Callable[[Field], bool]) -> None:
        self.out: list[bytes | memoryview] = []
        self.is_large = False  # what is queued: better not copied
        # None stands for a request read to its end with nothing answered yet.
        self._streams: dict[int, Stream | None] = {}
        # Streams with queued bytes and room in their own window, in turn. The first of a dict is
        # looked for behind the places of all that were before it.
        self._sendable: OrderedDict[int, Stream] = OrderedDict()
        self._encoder = HeaderEncoder(worth_indexing)
        self._send_window = DEFAULT_WINDOW_BYTES
        self._peer_window = DEFAULT_WINDOW_BYTES
        self._peer_frame_bytes = FRAME_BYTES
        self._own_resets: dict[int, None] = {}
        self._unsent_acks = 0
        # DATA bytes that wait for the peer's windows, over all streams.
        self.blocked_bytes = 0
        # Whether headers or data were queued since the shell last set it to False.
        self.sent_content = False

    # --- What the shell calls -----------------------------------------------------------------

    def take(self) -> bytes:
        """All queued frames, b"" if there are none."""
        out = self.out
        if not out:
            return b""
        self.out = []
        self.is_large = False
        self._unsent_acks = 0
        return b"".join(out)

    def take_pieces(self) -> list[bytes | memoryview]:
        """The same, as it is queued."""
        out, self.out = self.out, []
        self.is_large = False
        self._unsent_acks = 0
        return out

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    def is_open(self, stream_id: int) -> bool:
        """Whether the stream still exists (its answer is not complete and nobody reset it)."""
        return stream_id in self._streams

    def queued_bytes(self, stream_id: int) -> int:
        """DATA bytes of this stream that wait for the peer's windows."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.queued_bytes

    def send_headers(self, stream_id: int, fields: Iterable[Field], *, end: bool = False) -> None:
        """A header section; ``end`` makes it the last frame of the stream (after data: the
        trailers). Must not overtake queued data: use ``send_trailers`` for the end."""
        stream = self._stream(stream_id)
        stream.answered = True
        self._queue_headers(stream_id, fields, end)
        if end:
            self._local_end(stream_id, stream)

    def send_trailers(self, stream_id: int, fields: Iterable[Field]) -> None:
        """End the stream with this trailer section, behind whatever data still waits."""
        stream = self._stream(stream_id)
        if stream.queue:
            stream.trailers = fields
        else:
            self._queue_headers(stream_id, fields, True)
            self._local_end(stream_id, stream)

    def send_data(
        self, stream_id: int, chunks: tuple[bytes, ...], size: int, *, end: bool = False
    ) -> None:
        """DATA of ``size`` bytes in all, cut into frames as the peer's windows allow; the chunks
        themselves are kept, not copied."""
        stream = self._stream(stream_id)
        if (
            size <= self._send_window
            and size <= stream.send_window
            and size <= self._peer_frame_bytes
            and not stream.queue
        ):
            self._send_window -= size
            stream.send_window -= size
            out = self.out
            out.append(FRAME_HEADER.pack(size >> 16, size & 0xFFFF, DATA, int(end), stream_id))
            out += chunks
            self.sent_content = True
            if end:
                self._local_end(stream_id, stream)
            return
        stream.queue += [chunk for chunk in chunks if chunk]
        stream.queued_bytes += size
        self.blocked_bytes += size
        stream.ending = end
        self._sendable[stream_id] = stream
        self._pump()

    def reset(self, stream_id: int, code: int = ErrorCode.CANCEL) -> None:
        """End a stream at once; what is queued for it is dropped. Unknown streams: nothing."""
        if stream_id in self._streams:
            self._forget(stream_id)
            self._queue_reset(stream_id, code)

    def ping(self, payload: bytes) -> None:
        """A PING of eight bytes, which the peer sends back."""
        assert len(payload) == 8, "a PING carries eight bytes"
        self.out.append(frame(PING, 0, 0, payload))

    # --- For subclasses -----------------------------------------------------------------------

    def _drained(self, stream_id: int) -> None:
        """Nothing of this stream waits for windows any more."""

    def _peer_limits_changed(self) -> None:
        """The peer's settings changed; what was derived from them is stale."""

    def _stream(self, stream_id: int) -> Stream:
        stream = self._streams.get(stream_id)
        if stream is None:
            assert stream_id in self._streams, f"stream {stream_id} is not open"
            stream = self._streams[stream_id] = Stream(self._peer_window, remote_open=False)
        return stream

    def _queue_headers(self, stream_id: int, fields: Iterable[Field], end: bool) -> None:
        block = self._encoder.encode(fields)
        flags = END_STREAM if end else 0
        limit = self._peer_frame_bytes
        self.sent_content = True
        if len(block) <= limit:
            self.out.append(frame(HEADERS, flags | END_HEADERS, stream_id, block))
            return
        self.out.append(frame(HEADERS, flags, stream_id, block[:limit]))
        for at in range(limit, len(block), limit):
            last = END_HEADERS if at + limit >= len(block) else 0
            self.out.append(frame(CONTINUATION, last, stream_id, block[at : at + limit]))

    def _queue_reset(self, stream_id: int, code: int) -> None:
        self.out.append(reset_frame(stream_id, code))
        self._remember_reset(stream_id)

    def _remember_reset(self, stream_id: int) -> None:
        """Frames of this stream may still be on their way and are no fault."""
        self._own_resets[stream_id] = None
        if len(self._own_resets) > RESET_MEMORY_STREAMS:
            del self._own_resets[next(iter(self._own_resets))]

    def _local_end(self, stream_id: int, stream: Stream) -> None:
        """We sent END_STREAM."""
        stream.local_open = False
        if not stream.remote_open:
            self._forget(stream_id)

    def _forget(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id)
        if stream is not None and stream.queued_bytes:
            self.blocked_bytes -= stream.queued_bytes
            self._sendable.pop(stream_id, None)

    # --- Flow control -------------------------------------------------------------------------

    def _grow_connection_window(self, increment: int) -> None:
        self._send_window += increment
        if self._send_window > WINDOW_MAX:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "connection window over 2^31 - 1")
        if self._sendable:
            self._pump()

    def _grow_stream_window(self, stream_id: int, increment: int) -> bool:
        """False if that takes the window over its bound."""
        stream = self._stream(stream_id)
        stream.send_window += increment
        if stream.send_window > WINDOW_MAX:
            return False
        if stream.queue:
            self._sendable[stream_id] = stream
            self._pump()
        return True

    def _apply_peer_settings(self, values: list[tuple[int, int]]) -> None:
        """Take the peer's settings over. Data that they set free is not sent yet: the peer counts
        by its new settings from our acknowledgement on."""
        window = self._peer_window
        for name, value in values:
            if name == Setting.INITIAL_WINDOW_SIZE:
                if value > WINDOW_MAX:
                    raise ProtocolError(
                        ErrorCode.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE {value}"
                    )
                window = value
            elif name == Setting.MAX_FRAME_SIZE:
                if not FRAME_BYTES <= value < 1 << 24:
                    raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"MAX_FRAME_SIZE {value}")
                # Larger frames than our own bound would only make others on the line wait.
                self._peer_frame_bytes = FRAME_BYTES
            elif name == Setting.HEADER_TABLE_SIZE:
                self._encoder.set_peer_table(value)
            elif name == Setting.ENABLE_PUSH and value > 1:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH {value}")
        if window != self._peer_window:
            # Once, for it takes a look at every stream: one frame may say it 2730 times.
            self._set_peer_window(window)
        self._peer_limits_changed()

    def _set_peer_window(self, value: int) -> None:
        change = value - self._peer_window
        self._peer_window = value
        for stream_id, stream in self._streams.items():
            if stream is None:
                continue
            stream.send_window += change
            if stream.send_window > WINDOW_MAX:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "stream window over 2^31 - 1")
            if stream.queue:
                self._sendable[stream_id] = stream

    def _pump(self) -> None:
        """Send what waits as far as the windows allow, one frame per stream in turn."""
        sendable = self._sendable
        while sendable:
            stream_id, stream = next(iter(sendable.items()))
            room = min(self._send_window, stream.send_window, self._peer_frame_bytes)
            if stream.queue and room <= 0 < stream.send_window:
                return  # the connection's window is shut: it is this stream's turn next time
            del sendable[stream_id]
            if stream.queue and room <= 0:
                continue  # comes back with the stream's own window
            self._send_queued(stream_id, stream, room)

    def _send_queued(self, stream_id: int, stream: Stream, room: int) -> None:
        """One DATA frame of at most ``room`` bytes from the queue, and what follows the last."""
        queue = stream.queue
        chunks: list[bytes | memoryview] = []
        size = 0
        while queue and size < room:
            chunk = queue.popleft()
            left = room - size
            if len(chunk) > left:
                self.is_large = True
                view = memoryview(chunk)
                queue.appendleft(view[left:])
                chunk = view[:left]
            chunks.append(chunk)
            size += len(chunk)
        stream.queued_bytes -= size
        self.blocked_bytes -= size
        self._send_window -= size
        stream.send_window -= size
        ended = stream.ending and not queue
        self.out.append(frame_header(size, DATA, END_STREAM if ended else 0, stream_id))
        self.out += chunks
        self.sent_content = True
        if queue:
            self._sendable[stream_id] = stream
            return
        if stream.trailers is not None:
            self._queue_headers(stream_id, stream.trailers, True)
        if ended or stream.trailers is not None:
            self._local_end(stream_id, stream)
        self._drained(stream_id)
