"""Requests as HTTP/2 sees them: a checked header section (RFC 9113 section 8)."""

from __future__ import annotations

from collections.abc import Sequence

from .frames import ErrorCode, StreamError
from .header_table import Field

_REQUEST_PSEUDO = frozenset({":method", ":scheme", ":authority", ":path"})
_CONNECTION_SPECIFIC = frozenset(
    {"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"}
)
_NAME_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_VALUE_FORBIDDEN = frozenset("\0\r\n")
_LENGTH_DIGITS_MAX = 19  # as many as 2^63 has; Python refuses to read some thousands of them


class Headers:
    """One header section, shared by all messages of a connection that carry the same one.

    ``method``, ``path``, ``scheme`` and ``authority`` are "" where absent; ``status`` is 0 in a
    request. ``content_length`` is -1 if none was declared. ``fields`` holds the regular fields
    in order. ``note`` belongs to whoever reads the headers: what was derived from them, once.
    """

    __slots__ = (
        "authority",
        "content_length",
        "fields",
        "method",
        "note",
        "path",
        "scheme",
        "status",
    )

    def __init__(self, pseudo: dict[str, str], fields: tuple[Field, ...], length: int) -> None:
        self.method = pseudo.get(":method", "")
        self.path = pseudo.get(":path", "")
        self.scheme = pseudo.get(":scheme", "")
        self.authority = pseudo.get(":authority", "")
        self.status = int(pseudo.get(":status", "0"))
        self.fields = fields
        self.content_length = length
        self.note: object = None

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of a field."""
        for each, value in self.fields:
            if each == name:
                return value
        return default


def _fault(text: str) -> StreamError:
    return StreamError(ErrorCode.PROTOCOL_ERROR, text)


def _split(fields: Sequence[Field], pseudo_names: frozenset[str]) -> Headers:
    pseudo: dict[str, str] = {}
    regular: list[Field] = []
    length = -1
    for name, value in fields:
        if value and (value[0] in " \t" or value[-1] in " \t"):
            raise _fault(f"field {name!r} has space around its value")
        if not _VALUE_FORBIDDEN.isdisjoint(value):
            raise _fault(f"field {name!r} has a control character in its value")
        if name.startswith(":"):
            if name not in pseudo_names:
                raise _fault(f"unexpected pseudo-header field {name!r}")
            if name in pseudo:
                raise _fault(f"pseudo-header field {name!r} is repeated")
            if regular:
                raise _fault(f"pseudo-header field {name!r} after a regular field")
            pseudo[name] = value
            continue
        if not name or not _NAME_CHARACTERS.issuperset(name):
            raise _fault(f"field name {name!r} is not allowed")
        if name in _CONNECTION_SPECIFIC:
            raise _fault(f"field {name!r} belongs to HTTP/1.1 connections")
        if name == "te" and value != "trailers":
            raise _fault("field 'te' may only say 'trailers'")
        if name == "content-length":
            if not (value.isascii() and value.isdecimal() and len(value) <= _LENGTH_DIGITS_MAX):
                raise _fault(f"content-length {value[:80]!r} is no length")
            if length not in (-1, int(value)):
                raise _fault(f"content-length {value!r} is a second length")
            length = int(value)
        regular.append((name, value))
    return Headers(pseudo, tuple(regular), length)


def request_headers(fields: Sequence[Field]) -> Headers:
    """Check the header section of a request.

    Raises StreamError PROTOCOL_ERROR for a malformed one (RFC 9113 sections 8.2 and 8.3.1).
    """
    headers = _split(fields, _REQUEST_PSEUDO)
    if not headers.method:
        raise _fault("request without :method")
    if headers.method == "CONNECT":
        if headers.path or headers.scheme or not headers.authority:
            raise _fault("CONNECT takes :authority and neither :scheme nor :path")
    elif not headers.scheme or not headers.path:
        raise _fault("request without :scheme or :path")
    return headers


def response_headers(fields: Sequence[Field]) -> Headers:
    """Check the header section of a response.

    Raises StreamError PROTOCOL_ERROR for a malformed one (RFC 9113 sections 8.2 and 8.3.2).
    """
    pseudo_status = [value for name, value in fields if name == ":status"]
    if len(pseudo_status) != 1 or len(pseudo_status[0]) != 3 or not pseudo_status[0].isdecimal():
        raise _fault("response without a :status of three digits")
    return _split(fields, frozenset({":status"}))


def trailers(fields: Sequence[Field]) -> tuple[Field, ...]:
    """Check a trailer section.

    Raises StreamError PROTOCOL_ERROR for a malformed one, pseudo-header fields included.
    """
    return _split(fields, frozenset()).fields
