"""Revisions: where in the order of all changes one change stands.

A change is named by its main revision (one per transaction) and its sub number within it. In
memory the pair, and whether it is a deletion, is one int that sorts like the pair:
``main << 33 | sub << 1 | tombstone``. In bucket ``key`` it is 8 bytes main, ``_``, 8 bytes sub,
big endian, and one more byte ``t`` for a deletion (etcd's format).
"""

from __future__ import annotations

from struct import Struct

MAIN_SHIFT = 33
MAIN_ONE = 1 << MAIN_SHIFT
TOMBSTONE = 1
SUB_MAX = (1 << 32) - 1
TOMBSTONE_KEY_BYTES = 18

BACKEND_KEY = Struct(">QcQ")
"""Main revision, an underscore, sub revision; a tombstone's has a ``t`` behind."""
_pack = BACKEND_KEY.pack
_unpack_from = BACKEND_KEY.unpack_from
_pack_tombstone = Struct(">QcQc").pack


def packed(main: int, sub: int, tombstone: bool = False) -> int:
    return main << MAIN_SHIFT | sub << 1 | tombstone


def after(main: int) -> int:
    """The bound above every change of this and earlier main revisions."""
    return (main + 1) << MAIN_SHIFT


def revision_key(main: int, sub: int) -> bytes:
    """The backend key of a put, and where the changes from there on begin."""
    return _pack(main, b"_", sub)


def revision_keys(main: int, count: int) -> list[bytes]:
    """The backend keys of so many transactions of one put, the first of which is ``main``."""
    if count == 1:
        return [_pack(main, b"_", 0)]
    return [_pack(each, b"_", 0) for each in range(main, main + count)]


def tombstone_keys(main: int, sub: int, count: int) -> list[bytes]:
    """The backend keys of so many deletions, the first of which is change ``sub``."""
    return [_pack_tombstone(main, b"_", each, b"t") for each in range(sub, sub + count)]


def backend_key(revision: int) -> bytes:
    """The backend key of a packed revision."""
    key = _pack(revision >> MAIN_SHIFT, b"_", (revision >> 1) & SUB_MAX)
    return key + b"t" if revision & TOMBSTONE else key


def parse_backend_key(key: bytes) -> int:
    """The packed revision of a key of bucket ``key``."""
    main, _, sub = _unpack_from(key)
    revision: int = main << MAIN_SHIFT | sub << 1
    return revision | TOMBSTONE if len(key) == TOMBSTONE_KEY_BYTES else revision


def parse_main(key: bytes) -> int:
    """The main revision of a key of bucket ``key``, or of a stored compaction mark."""
    return int.from_bytes(key[:8], "big")
