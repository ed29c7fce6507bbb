"""Pages of a bbolt file: their layout (docs/formats/bbolt.md), shared by reader and writer."""

from __future__ import annotations

from enum import IntFlag
from struct import Struct

MAGIC = 0xED0CDAED
VERSION = 2
NO_FREELIST = 0xFFFFFFFFFFFFFFFF
"""Free pages are not listed; whoever opens the file for writing finds them. etcd's way."""
BUCKET_ELEMENT = 1
KEY_BYTES_MAX = 32768
VALUE_BYTES_MAX = (1 << 31) - 2
PAGE_BYTES_MIN, PAGE_BYTES_MAX = 512, 1 << 16


class PageKind(IntFlag):
    """What a page holds."""

    BRANCH = 0x01
    LEAF = 0x02
    META = 0x04
    FREELIST = 0x10


PAGE = Struct("<QHHI")
"""Page id, kind, number of elements, further pages that belong to it."""
META = Struct("<IIIIQQQQQ")
"""Magic, version, page size, flags, root page, sequence, freelist page, pages in use, transaction;
a checksum follows."""
CHECKSUM = Struct("<Q")
LEAF_ELEMENT = Struct("<IIII")
"""Flags, distance of the key from the element, bytes of key and of value; the value follows."""
BRANCH_ELEMENT = Struct("<IIQ")
"""Distance of the key from the element, its bytes, the child's page."""
BUCKET = Struct("<QQ")
"""Root page and sequence of a bucket; root page 0: the page itself follows."""

_FNV_OFFSET, _FNV_PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


def checksum(meta: bytes) -> int:
    """FNV-1a, 64 bits."""
    found = _FNV_OFFSET
    for byte in meta:
        found = (found ^ byte) * _FNV_PRIME & _MASK
    return found
