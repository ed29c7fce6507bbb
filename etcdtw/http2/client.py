"""The client's side of a connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from etcdtw.errors import ProtocolError

from . import limits
from .connection import Connection, ConnectionEvents
from .frames import (
    DEFAULT_WINDOW_BYTES,
    PREFACE,
    STREAM_ID_MAX,
    ErrorCode,
    Setting,
    StreamError,
    settings_frame,
    window_update_frame,
)
from .header_table import Field
from .message import Headers, response_headers, trailers
from .sending import Stream


class ClientEvents(ConnectionEvents, Protocol):
    """What a client's connection tells its shell."""

    def response_received(self, stream_id: int, headers: Headers, ended: bool) -> None:
        """The answer begins; ``ended`` if headers are all of it. Interim (1xx) answers are not
        told."""


class ClientConnection(Connection):
    """The client's end. The values of ``literal_names`` are secret or never the same: they are
    kept out of the server's header table."""

    def __init__(self, events: ClientEvents, literal_names: frozenset[str]) -> None:
        super().__init__(events, lambda field: field[0] not in literal_names)
        self._events = events
        self._next_stream = 1
        self._gone_away = False
        self._peer_streams_max = STREAM_ID_MAX  # until its settings say otherwise
        self._block_cache: dict[bytes, list[Field]] = {}
        self.out.append(PREFACE)
        self.out.append(
            settings_frame(
                {
                    Setting.ENABLE_PUSH: 0,
                    Setting.INITIAL_WINDOW_SIZE: limits.STREAM_WINDOW_BYTES,
                    Setting.MAX_HEADER_LIST_SIZE: limits.HEADER_LIST_BYTES_MAX,
                }
            )
        )
        increment = limits.CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW_BYTES
        self.out.append(window_update_frame(0, increment))

    # --- What the shell calls -----------------------------------------------------------------

    @property
    def can_open(self) -> bool:
        """Whether the server takes one more stream on this connection now."""
        return len(self._streams) < self._peer_streams_max and not self.finished

    @property
    def finished(self) -> bool:
        """Whether no new stream is possible on this connection ever again."""
        return self.failed or self._gone_away or self._next_stream > STREAM_ID_MAX

    def open(self, fields: Iterable[Field], *, end: bool = False) -> int:
        """Begin a request, all of it if ``end``; the id of its stream."""
        assert not self.finished, "this connection takes no new streams"
        stream_id = self._next_stream
        self._next_stream += 2
        self._streams[stream_id] = Stream(self._peer_window, remote_open=True)
        self.send_headers(stream_id, fields, end=end)
        return stream_id

    # --- Frames -------------------------------------------------------------------------------

    def _is_idle(self, stream_id: int) -> bool:
        return stream_id >= self._next_stream or not stream_id & 1

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.headers_seen:
            self._count_received(len(payload))
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "DATA before the response's headers")
        super()._data(flags, stream_id, payload)

    def _header_block(
        self, stream_id: int, block: bytes, ended: bool, self_dependent: bool
    ) -> None:
        fields = self._decode(block)
        stream = self._streams.get(stream_id)
        if stream is None or not stream.remote_open:
            self._refuse_closed(stream_id, "HEADERS")
            return
        if stream.headers_seen:
            if not ended:
                raise StreamError(ErrorCode.PROTOCOL_ERROR, "trailers do not end the stream")
            checked = trailers(fields)
            self._remote_end(stream_id, stream)
            self._events.trailers_received(stream_id, checked)
            return
        headers = response_headers(fields)
        if headers.status < 200:
            if ended:
                raise StreamError(ErrorCode.PROTOCOL_ERROR, "an interim response ends the stream")
            self._count_idle()
            return
        stream.headers_seen = True
        if ended:
            self._remote_end(stream_id, stream)  # a content length may describe what is absent
        else:
            stream.content_length = headers.content_length
        self._events.response_received(stream_id, headers, ended)

    def _decode(self, block: bytes) -> list[Field]:
        fields = self._block_cache.get(block)
        if fields is not None:
            return fields
        before = self._decoder.changes
        fields = self._decoder.decode(block)
        cache = self._block_cache
        if self._decoder.changes != before or len(cache) >= limits.BLOCK_CACHE_ENTRIES:
            cache.clear()
        if self._decoder.changes == before and len(block) <= limits.BLOCK_CACHE_BLOCK_BYTES:
            cache[block] = fields
        return fields

    def _apply_peer_settings(self, values: list[tuple[int, int]]) -> None:
        for name, value in values:
            if name == Setting.MAX_CONCURRENT_STREAMS:
                self._peer_streams_max = value
            elif name == Setting.ENABLE_PUSH and value:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a server cannot take pushes")
        super()._apply_peer_settings(values)

    def _goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        last = int.from_bytes(payload[:4], "big") & STREAM_ID_MAX
        self._gone_away = True
        super()._goaway(flags, stream_id, payload)
        for lost in [each for each in self._streams if each > last]:
            self._forget(lost)
            self._events.stream_reset(lost, ErrorCode.REFUSED_STREAM)
