"""What a user may read and write: the union of the ranges of all its roles."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from etcdtw.pb.auth_pb2 import Permission

FROM_KEY = b"\0"
"""A range end that means: no end."""

Interval = tuple[bytes, bytes | None]
"""``begin <= key < end``; an end of None: none."""


def interval(key: bytes, range_end: bytes) -> Interval:
    """The keys of a permission or a request; an empty range end means one key."""
    if not range_end:
        return key, key + b"\0"
    return key, None if range_end == FROM_KEY else range_end


class Permissions:
    """Merged ranges, by kind of access."""

    def __init__(self, permissions: Iterable[Permission]) -> None:
        listed = list(permissions)
        self._read = _Union(listed, (Permission.READ, Permission.READWRITE))
        self._write = _Union(listed, (Permission.WRITE, Permission.READWRITE))

    def may_read(self, key: bytes, range_end: bytes = b"") -> bool:
        return self._read.covers(interval(key, range_end))

    def may_write(self, key: bytes, range_end: bytes = b"") -> bool:
        return self._write.covers(interval(key, range_end))


class _Union:
    """Ranges that neither overlap nor touch, in order."""

    def __init__(self, permissions: Iterable[Permission], kinds: tuple[int, ...]) -> None:
        ranges = sorted(
            (interval(each.key, each.range_end) for each in permissions if each.permType in kinds),
            key=lambda found: found[0],
        )
        self._begins: list[bytes] = []
        self._ends: list[bytes | None] = []
        for begin, end in ranges:
            if not begin or (end is not None and end <= begin):
                continue  # a range without a beginning or an inverted one is taken, to no effect
            if self._ends and _reaches(self._ends[-1], begin):
                self._ends[-1] = _later(self._ends[-1], end)
            else:
                self._begins.append(begin)
                self._ends.append(end)

    def covers(self, wanted: Interval) -> bool:
        begin, end = wanted
        place = bisect_right(self._begins, begin) - 1
        if place < 0:
            return False
        last = self._ends[place]
        if last is None:
            return True
        return begin < last and end is not None and end <= last


def _reaches(end: bytes | None, begin: bytes) -> bool:
    return end is None or begin <= end


def _later(one: bytes | None, other: bytes | None) -> bytes | None:
    return None if one is None or other is None else max(one, other)
