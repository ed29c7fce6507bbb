"""Protobuf varints by table: the encoding half of what the hot path needs."""

from __future__ import annotations

_BITS = 14
_LOW = (1 << _BITS) - 1


def _slow(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# Every one- and two-byte varint, and the same 14 bits as the first half of a longer one.
_SHORT = [_slow(value) for value in range(1 << _BITS)]
_FIRST = [bytes((value & 0x7F | 0x80, value >> 7 | 0x80)) for value in range(1 << _BITS)]


def varint(value: int) -> bytes:
    """The varint of a number that is not negative."""
    if value <= _LOW:
        return _SHORT[value]
    return _FIRST[value & _LOW] + varint(value >> _BITS)


def signed_varint(value: int) -> bytes:
    """The varint of a protobuf int64: negative numbers in two's complement, ten bytes."""
    return varint(value & 0xFFFFFFFFFFFFFFFF)
