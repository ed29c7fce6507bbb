"""Identifiers: members, clusters and requests, and their text form."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

U64 = (1 << 64) - 1
_SUFFIX_MASK = (1 << 48) - 1


def member_id(peer_urls: Iterable[str], token: str, unix_seconds: int | None = None) -> int:
    """The id of a member as etcd derives it: from its sorted peer URLs, the cluster token and,
    for a member added at run time, the time of the addition in whole seconds."""
    text = "".join(sorted(peer_urls)) + token
    if unix_seconds is not None:
        text += str(unix_seconds)
    return int.from_bytes(hashlib.sha1(text.encode()).digest()[:8], "big")


def cluster_id(member_ids: Iterable[int]) -> int:
    """The id of the cluster that these members found."""
    packed = b"".join(each.to_bytes(8, "big") for each in sorted(member_ids))
    return int.from_bytes(hashlib.sha1(packed).digest()[:8], "big")


def format_id(value: int) -> str:
    """Lower-case hex without padding, as etcd prints ids everywhere."""
    return f"{value:x}"


def parse_decimal(text: str, most: int = U64) -> int | None:
    """The number that decimal digits make; None for anything else, and for more than ``most``.
    Python raises for some thousands of digits, which others may send."""
    if not (text.isascii() and text.isdecimal()) or len(text.lstrip("0")) > len(str(most)):
        return None
    number = int(text[-len(str(most)) :])
    return number if number <= most else None


class RequestIds:
    """A source of request ids that do not repeat across members and restarts.

    The upper 16 bits are the member's low ones; below come 40 bits of milliseconds at start and
    8 bits of counter, which together count up by one per request (etcd's idutil).
    """

    def __init__(self, member: int, unix_milliseconds: int) -> None:
        self._prefix = (member & 0xFFFF) << 48
        self._suffix = (unix_milliseconds & ((1 << 40) - 1)) << 8

    def next(self) -> int:
        self._suffix = (self._suffix + 1) & _SUFFIX_MASK
        return self._prefix | self._suffix

    def take(self, count: int) -> Iterable[int]:
        """The next so many."""
        if self._suffix + count > _SUFFIX_MASK:
            return [self.next() for _ in range(count)]
        first = (self._prefix | self._suffix) + 1
        self._suffix += count
        return range(first, first + count)
