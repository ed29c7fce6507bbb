"""HPACK encoding (RFC 7541) with a table that only grows.

Fields worth it enter the peer's table once, until it is full; the rest are literals. Nothing is
ever evicted, so a field's index follows from when it entered. No Huffman coding: header blocks
after the first few are single bytes anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .header_table import (
    FIELD_OVERHEAD_BYTES,
    FIRST_DYNAMIC,
    STATIC_INDEX,
    STATIC_NAME_INDEX,
    Field,
)
from .limits import HEADER_TABLE_BYTES


def _integer(first: int, prefix_bits: int, value: int) -> bytes:
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes((first | value,))
    out = bytearray((first | most,))
    value -= most
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _string(text: str) -> bytes:
    data = text.encode("latin-1")
    return _integer(0, 7, len(data)) + data


class HeaderEncoder:
    """One direction of one connection. ``worth_indexing`` says which fields enter the table."""

    def __init__(self, worth_indexing: Callable[[Field], bool]) -> None:
        self._worth_indexing = worth_indexing
        self._entered: dict[Field, int] = {}  # field -> how many entered before it
        self._bytes = 0
        self._bytes_max = HEADER_TABLE_BYTES
        self._announce: int | None = None

    def set_peer_table(self, size: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE, in bytes: what we use of it starts over, and
        the next block says so (RFC 7541 section 4.2)."""
        size = min(size, HEADER_TABLE_BYTES)
        if size == self._bytes_max and self._announce is None:
            return
        self._bytes_max = self._announce = size
        self._entered.clear()
        self._bytes = 0

    def encode(self, fields: Iterable[Field]) -> bytes:
        """The header block for these fields, which must be sent before any later one."""
        parts = []
        if self._announce is not None:
            parts.append(b"\x20")
            parts.append(_integer(0x20, 5, self._announce))
            self._announce = None
        parts += [self._field(field) for field in fields]
        return b"".join(parts)

    def _field(self, field: Field) -> bytes:
        index = STATIC_INDEX.get(field)
        if index is not None:
            return _integer(0x80, 7, index)
        number = self._entered.get(field)
        if number is not None:
            return _integer(0x80, 7, FIRST_DYNAMIC + len(self._entered) - 1 - number)
        name, value = field
        size = len(name) + len(value) + FIELD_OVERHEAD_BYTES
        if self._worth_indexing(field) and self._bytes + size <= self._bytes_max:
            self._entered[field] = len(self._entered)
            self._bytes += size
            first, prefix_bits = 0x40, 6
        else:
            first, prefix_bits = 0x00, 4
        start = _integer(first, prefix_bits, STATIC_NAME_INDEX.get(name, 0))
        if name not in STATIC_NAME_INDEX:
            start += _string(name)
        return start + _string(value)
