"""Puts of nothing but a key and a value, told apart from others without decoding them.

Such a put travels as the pair of both.
"""

from __future__ import annotations

import re
from typing import TypeGuard

from etcdtw.varint import SHORT, SHORT_END, varint

PlainPut = tuple[bytes, bytes]

# What follows the request in the entry of an unauthenticated client: a header with an id alone.
_HEADER = re.compile(rb"\xa2\x06[\x02-\x0b]\x08[\x80-\xff]{0,9}[\x01-\x7f]", re.DOTALL)
_HEADER_START_BYTES = 3


def is_plain(request: object) -> TypeGuard[PlainPut]:
    """Whether a request is one of those pairs, and no message."""
    return type(request) is tuple


def plain_put(raw: bytes) -> PlainPut | None:
    """Key and value of a PutRequest that has only a key below 128 bytes and a value below 16 KiB,
    both not empty, in canonical form; None for any other."""
    end = len(raw)
    # The tag of field 1, and a length of one byte.
    if end < 6 or raw[0] != 0x0A or not 0 < raw[1] < 0x80:
        return None
    key_end = raw[1] + 2
    # The tag of field 2, and the length of all that follows in its shortest form.
    size = end - key_end - 2
    if size >= 0x80:
        size -= 1
    if not 0 < size < SHORT_END:
        return None
    value_start = end - size
    if raw[key_end:value_start] != b"\x12" + (SHORT[size] or varint(size)):
        return None
    return raw[2:key_end], raw[value_start:]


def plain_put_of_entry(data: bytes) -> PlainPut | None:
    """The same of a log entry that holds such a request and the request's id, and nothing else."""
    if len(data) < _HEADER_START_BYTES or data[0] != 0x22:
        return None
    start, stop = 2, 2 + data[1]
    if data[1] > 0x7F:
        if data[2] > 0x7F:
            return None
        start, stop = 3, 3 + (data[1] & 0x7F | data[2] << 7)
    if _HEADER.fullmatch(data, stop) is None:
        return None
    if len(data) - stop != _HEADER_START_BYTES + data[stop + _HEADER_START_BYTES - 1]:
        return None
    return plain_put(data[start:stop])
