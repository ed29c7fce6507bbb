"""gRPC statuses as header fields, and its timeouts as numbers."""

from __future__ import annotations

from etcdtw.errors import Code, EtcdError, StatusError
from etcdtw.http2.header_table import Field

RESPONSE_HEADERS: tuple[Field, ...] = ((":status", "200"), ("content-type", "application/grpc"))
OK_TRAILERS: tuple[Field, ...] = (("grpc-status", "0"),)
TIMEOUT_FIELD = "grpc-timeout"

_UNIT_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT_DIGITS_MAX = 8


def encode_message(text: str) -> str:
    """``grpc-message``: UTF-8 with everything but printable ASCII, and "%", as %XX."""
    if text.isascii() and text.isprintable() and "%" not in text:
        return text
    return "".join(
        chr(octet) if 0x20 <= octet <= 0x7E and octet != 0x25 else f"%{octet:02X}"
        for octet in text.encode("utf-8", "replace")
    )


def error_trailers(error: EtcdError) -> tuple[Field, ...]:
    """The trailers of a call that failed."""
    return (("grpc-status", str(int(error.code))), ("grpc-message", encode_message(str(error))))


def parse_timeout(text: str) -> float:
    """Seconds of a ``grpc-timeout`` value: one to eight digits and a unit.

    Raises ValueError for anything else.
    """
    digits = text[:-1]
    scale = _UNIT_SECONDS.get(text[-1:])
    if (
        scale is None
        or not digits.isdecimal()
        or not digits.isascii()
        or len(digits) > _TIMEOUT_DIGITS_MAX
    ):
        raise ValueError(f"malformed {TIMEOUT_FIELD} {text!r}")
    return int(digits) * scale


def deadline_exceeded() -> EtcdError:
    """The answer to a call whose time is up."""
    return StatusError(Code.DEADLINE_EXCEEDED, "context deadline exceeded")
