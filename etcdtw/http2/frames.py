"""HTTP/2 frames (RFC 9113 sections 4 and 6): names, codes and the small ones as bytes."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

from etcdtw.errors import ProtocolError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA = 0
HEADERS = 1
PRIORITY = 2
RST_STREAM = 3
SETTINGS = 4
PUSH_PROMISE = 5
PING = 6
GOAWAY = 7
WINDOW_UPDATE = 8
CONTINUATION = 9

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20

WINDOW_MAX = (1 << 31) - 1
STREAM_ID_MAX = (1 << 31) - 1
DEFAULT_WINDOW_BYTES = 65_535

# A frame's header as length (8 + 16 bits), kind, flags and stream id.
FRAME_HEADER = Struct(">BHBBI")
HEADER_BYTES = FRAME_HEADER.size
_SETTING = Struct(">HI")
_GOAWAY = Struct(">II")
_U32 = Struct(">I")


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (RFC 9113 section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Setting(IntEnum):
    """What a SETTINGS frame may carry (RFC 9113 section 6.5.2)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class StreamError(ProtocolError):
    """A fault that ends one stream with RST_STREAM and leaves the connection alone."""


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame; the payload is at most 2^24 - 1 bytes."""
    length = len(payload)
    return FRAME_HEADER.pack(length >> 16, length & 0xFFFF, kind, flags, stream_id) + payload


def frame_header(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The nine bytes before a payload of ``length`` bytes."""
    return FRAME_HEADER.pack(length >> 16, length & 0xFFFF, kind, flags, stream_id)


def settings_frame(values: dict[int, int]) -> bytes:
    payload = b"".join(_SETTING.pack(name, value) for name, value in values.items())
    return frame(SETTINGS, 0, 0, payload)


def window_update_frame(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, _U32.pack(increment))


def reset_frame(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, _U32.pack(code))


def goaway_frame(last_stream_id: int, code: int, debug: bytes) -> bytes:
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last_stream_id, code) + debug)


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The (setting, value) pairs of a SETTINGS payload, in order.

    Raises ProtocolError for a length that is no multiple of six.
    """
    if len(payload) % 6:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
    return list(_SETTING.iter_unpack(payload))


def read_u32(payload: bytes, name: str) -> int:
    """The single number of a RST_STREAM or WINDOW_UPDATE payload.

    Raises ProtocolError for any length but four.
    """
    if len(payload) != 4:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"{name} of {len(payload)} bytes")
    return int.from_bytes(payload, "big")


def read_goaway(payload: bytes) -> tuple[int, int, bytes]:
    """Last stream id, error code and debug data of a GOAWAY payload.

    Raises ProtocolError for fewer than eight bytes.
    """
    if len(payload) < 8:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} bytes")
    last, code = _GOAWAY.unpack_from(payload)
    return last & STREAM_ID_MAX, code, payload[8:]


def without_padding(flags: int, payload: bytes) -> bytes:
    """What a DATA or HEADERS payload holds between pad length and padding.

    Raises ProtocolError if the padding is longer than the payload.
    """
    if not flags & PADDED:
        return payload
    if not payload:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "padded frame without a pad length")
    padding = payload[0]
    if padding >= len(payload):
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
    return payload[1 : len(payload) - padding]
