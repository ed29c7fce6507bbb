"""Names that are longer than LMDB's keys may be.

LMDB's keys end at 511 bytes; names of users and roles may be longer. Up to 500 bytes a name is its
own key. Of a longer one the key is its beginning and a digest, 511 bytes together, which tells the
two kinds apart; the full name then stands before the value.
"""

from __future__ import annotations

from hashlib import sha256

LONG_NAMES = frozenset((b"authUsers", b"authRoles"))
"""Buckets whose keys may be long; in all others keys are stored as they are."""
PLAIN_BYTES_MAX = 500
_LONG_BYTES = 511
_BEGINNING_BYTES = _LONG_BYTES - sha256().digest_size
_LENGTH_BYTES = 4


def stored_key(name: bytes) -> bytes:
    if len(name) <= PLAIN_BYTES_MAX:
        return name
    return name[:_BEGINNING_BYTES] + sha256(name).digest()


def stored_value(name: bytes, value: bytes) -> bytes:
    if len(name) <= PLAIN_BYTES_MAX:
        return value
    return len(name).to_bytes(_LENGTH_BYTES, "big") + name + value


def real_record(key: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Name and value of what is stored under ``key``."""
    if len(key) <= PLAIN_BYTES_MAX:
        return key, value
    end = _LENGTH_BYTES + int.from_bytes(value[:_LENGTH_BYTES], "big")
    return value[_LENGTH_BYTES:end], value[end:]
