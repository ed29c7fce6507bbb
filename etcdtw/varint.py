"""Protobuf varints by table: the encoding half of what the hot paths need.

Two groups of seven bits at once; a table hit costs a fraction of a loop over single groups. The
tables fill as numbers come up, to 16,384 entries each at the most.
"""

from __future__ import annotations

# The last one or two groups of a varint, and two groups with more to follow; by those 14 bits.
_LAST: dict[int, bytes] = {}
_INNER: dict[int, bytes] = {}


def varint(number: int) -> bytes:
    """A number from 0 to 2**64 - 1 in its shortest form."""
    try:
        if number < 0x4000:
            return _LAST[number]
        if number < 0x10000000:
            return _INNER[number & 0x3FFF] + _LAST[number >> 14]
        return _INNER[number & 0x3FFF] + _INNER[number >> 14 & 0x3FFF] + varint(number >> 28)
    except KeyError:
        _fill_in(number)
        return varint(number)


def signed_varint(number: int) -> bytes:
    """The varint of a protobuf int64: negative numbers in two's complement, ten bytes."""
    return varint(number & 0xFFFFFFFFFFFFFFFF)


def _fill_in(number: int) -> None:
    """Make the entries that this number needs."""
    while number >= 0x4000:
        bits = number & 0x3FFF
        _INNER[bits] = bytes((bits & 0x7F | 0x80, bits >> 7 | 0x80))
        number >>= 14
    _LAST[number] = (
        bytes((number,)) if number < 0x80 else bytes((number & 0x7F | 0x80, number >> 7))
    )
