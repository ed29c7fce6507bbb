"""Keys and ranges of keys as callers write them."""

from __future__ import annotations

Key = bytes | str
"""Text stands for its UTF-8."""


def to_bytes(key: Key) -> bytes:
    """A key or value as etcd has it: text is UTF-8."""
    return key.encode() if isinstance(key, str) else key


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range that holds all keys with a prefix; one zero byte: no end."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else b"\0"


def range_end_of(key: Key, *, prefix: bool) -> bytes:
    """``range_end`` for one key, or for all that begin with it (the empty one: all there are)."""
    return prefix_end(to_bytes(key)) if prefix else b""


def first_key_of(key: Key) -> bytes:
    """``key`` for a range: where the first key is meant, the wire wants one zero byte."""
    return to_bytes(key) or b"\0"
