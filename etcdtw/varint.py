"""Protobuf varints by table: the encoding half of what the hot paths need.

Two groups of seven bits at once; a table hit costs a fraction of a loop over single groups. The
tables fill as numbers come up: all of their 32,768 entries would take 1.8 MiB.
"""

from __future__ import annotations

SHORT_END = 1 << 14
SHORT: list[bytes] = [b""] * SHORT_END
"""The varints of numbers below ``SHORT_END`` that have come up, b"" for others. Loops that every
write passes through look here themselves, which takes a tenth of a call."""

# Two groups with more to follow, by those 14 bits.
_INNER: list[bytes] = [b""] * SHORT_END


def varint(number: int) -> bytes:
    """A number from 0 to 2**64 - 1 in its shortest form."""
    if number < SHORT_END:
        return SHORT[number] or _last(number)
    low = number & 0x3FFF
    inner = _INNER[low] or _inner(low)
    high = number >> 14
    if high < SHORT_END:
        return inner + (SHORT[high] or _last(high))
    middle = high & 0x3FFF
    return inner + (_INNER[middle] or _inner(middle)) + varint(high >> 14)


def varints(first: int, count: int) -> list[bytes]:
    """Those of so many numbers in a row."""
    if count == 1:
        return [varint(first)]
    low = first & 0x3FFF
    if first < SHORT_END or low + count > SHORT_END:
        return [
            (each < SHORT_END and SHORT[each]) or varint(each)
            for each in range(first, first + count)
        ]
    rest = varint(first >> 14)
    return [(_INNER[each] or _inner(each)) + rest for each in range(low, low + count)]


def signed_varint(number: int) -> bytes:
    """The varint of a protobuf int64: negative numbers in two's complement, ten bytes."""
    return varint(number & 0xFFFFFFFFFFFFFFFF)


def _last(bits: int) -> bytes:
    made = bytes((bits,)) if bits < 0x80 else bytes((bits & 0x7F | 0x80, bits >> 7))
    SHORT[bits] = made
    return made


def _inner(bits: int) -> bytes:
    made = _INNER[bits] = bytes((bits & 0x7F | 0x80, bits >> 7 | 0x80))
    return made
