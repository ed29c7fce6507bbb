"""Protobuf varints by table: the encoding half of what the hot paths need.

Two groups of seven bits at once; a table hit costs a fraction of a loop over single groups. The
tables fill as numbers come up: all of their 32,768 entries would take 1.8 MiB.
"""

from __future__ import annotations

# The last one or two groups of a varint, and two groups with more to follow; by those 14 bits.
_LAST: list[bytes] = [b""] * (1 << 14)
_INNER: list[bytes] = [b""] * (1 << 14)


def varint(number: int) -> bytes:
    """A number from 0 to 2**64 - 1 in its shortest form."""
    if number < 0x4000:
        return _LAST[number] or _last(number)
    low = number & 0x3FFF
    inner = _INNER[low] or _inner(low)
    high = number >> 14
    if high < 0x4000:
        return inner + (_LAST[high] or _last(high))
    middle = high & 0x3FFF
    return inner + (_INNER[middle] or _inner(middle)) + varint(high >> 14)


def varints(first: int, count: int) -> list[bytes]:
    """Those of so many numbers in a row."""
    low = first & 0x3FFF
    if first < 0x4000 or low + count > 0x4000:
        return [varint(each) for each in range(first, first + count)]
    rest = varint(first >> 14)
    return [(_INNER[each] or _inner(each)) + rest for each in range(low, low + count)]


def signed_varint(number: int) -> bytes:
    """The varint of a protobuf int64: negative numbers in two's complement, ten bytes."""
    return varint(number & 0xFFFFFFFFFFFFFFFF)


def _last(bits: int) -> bytes:
    made = bytes((bits,)) if bits < 0x80 else bytes((bits & 0x7F | 0x80, bits >> 7))
    _LAST[bits] = made
    return made


def _inner(bits: int) -> bytes:
    made = _INNER[bits] = bytes((bits & 0x7F | 0x80, bits >> 7 | 0x80))
    return made
