"""Who watches a key: identical interests share one audience, and a key finds its audiences fast.

Single keys and key prefixes (which most ranges are) are found in dictionaries, ranges without an
end in a sorted list, all other ranges in a tree that is rebuilt once in a while.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

# New ranges are looked through one by one until there are so many that a rebuild pays.
_UNSORTED_RANGES_MAX = 64


class Interest(NamedTuple):
    """Which changes a watcher wants to see, and how.

    ``end`` None: the single key; ``b""``: every key from ``key`` on; else ``key <= k < end``.
    """

    key: bytes
    end: bytes | None = None
    no_put: bool = False
    no_delete: bool = False
    prev_kv: bool = False


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all keys with this prefix; ``b""`` if nothing comes after them."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else b""


A = TypeVar("A")


class AudienceIndex(Generic[A]):
    """Maps spans (key, end) to lists of audiences, and keys to the lists of all spans over them.

    The caller owns what an audience is. A span exists while its list has members.
    """

    def __init__(self) -> None:
        self._single: dict[bytes, list[A]] = {}
        self._prefix: dict[bytes, list[A]] = {}
        self._prefix_lengths: dict[int, int] = {}  # length -> prefixes of that length
        self._from_key: dict[bytes, list[A]] = {}
        self._from_key_starts: list[bytes] = []
        self._ranges = _Ranges[A]()

    def add(self, interest: Interest, audience: A) -> None:
        key, end = interest.key, interest.end
        if end is None:
            self._single.setdefault(key, []).append(audience)
        elif end == b"":
            if key not in self._from_key:
                insort(self._from_key_starts, key)
            self._from_key.setdefault(key, []).append(audience)
        elif end == prefix_end(key):
            if key not in self._prefix:
                length = len(key)
                self._prefix_lengths[length] = self._prefix_lengths.get(length, 0) + 1
            self._prefix.setdefault(key, []).append(audience)
        else:
            self._ranges.add(key, end, audience)

    def remove(self, interest: Interest, audience: A) -> None:
        key, end = interest.key, interest.end
        if end is None:
            _remove(self._single, key, audience)
        elif end == b"":
            if _remove(self._from_key, key, audience):
                del self._from_key_starts[bisect_right(self._from_key_starts, key) - 1]
        elif end == prefix_end(key):
            if _remove(self._prefix, key, audience):
                length = len(key)
                self._prefix_lengths[length] -= 1
                if not self._prefix_lengths[length]:
                    del self._prefix_lengths[length]
        else:
            self._ranges.remove(key, end, audience)

    def match(self, key: bytes) -> list[A]:
        """Every audience whose span holds ``key``."""
        found = list(self._single.get(key, ()))
        prefixes = self._prefix
        for length in self._prefix_lengths:
            if length <= len(key) and (audiences := prefixes.get(key[:length])):
                found += audiences
        if self._from_key_starts:
            for start in self._from_key_starts[: bisect_right(self._from_key_starts, key)]:
                found += self._from_key[start]
        if self._ranges:
            for audiences in self._ranges.over(key):
                found += audiences
        return found


def _remove(spans: dict[bytes, list[A]], key: bytes, audience: A) -> bool:
    """Take the audience out; True when its span is gone with it."""
    audiences = spans[key]
    audiences.remove(audience)
    if audiences:
        return False
    del spans[key]
    return True


class _Ranges(Generic[A]):
    """Half-open ranges with both ends, searched by a point.

    Most of them sit in a balanced tree laid out in sorted lists (the middle of a slice is its
    root) where every node knows the largest end below it. New ranges wait in a short list and
    emptied ones stay until the next rebuild, so a rebuild costs little per change.
    """

    def __init__(self) -> None:
        self._spans: dict[tuple[bytes, bytes], list[A]] = {}
        self._tree: list[tuple[bytes, bytes]] = []
        self._max_ends: list[bytes] = []
        self._unsorted: dict[tuple[bytes, bytes], None] = {}
        self._stale: set[tuple[bytes, bytes]] = set()  # in the tree, but without audiences

    def __bool__(self) -> bool:
        return bool(self._spans)

    def add(self, start: bytes, end: bytes, audience: A) -> None:
        span = (start, end)
        audiences = self._spans.get(span)
        if audiences is not None:
            audiences.append(audience)
            return
        self._spans[span] = [audience]
        if span in self._stale:
            self._stale.remove(span)
        else:
            self._unsorted[span] = None
            self._rebuild_if_due()

    def remove(self, start: bytes, end: bytes, audience: A) -> None:
        span = (start, end)
        audiences = self._spans[span]
        audiences.remove(audience)
        if audiences:
            return
        del self._spans[span]
        if span in self._unsorted:
            del self._unsorted[span]
        else:
            self._stale.add(span)
            self._rebuild_if_due()

    def over(self, key: bytes) -> Iterator[list[A]]:
        spans = self._spans
        for span in self._unsorted:
            if span[0] <= key < span[1]:
                yield spans[span]
        tree, max_ends = self._tree, self._max_ends
        slices = [(0, len(tree))]
        while slices:
            low, high = slices.pop()
            if low >= high:
                continue
            middle = (low + high) >> 1
            if max_ends[middle] <= key:
                continue  # everything in this slice ends too early
            slices.append((low, middle))
            span = tree[middle]
            if span[0] <= key:
                slices.append((middle + 1, high))
                if key < span[1] and span in spans:
                    yield spans[span]

    def _rebuild_if_due(self) -> None:
        due = max(_UNSORTED_RANGES_MAX, len(self._tree) // 64)
        if len(self._unsorted) > due or len(self._stale) > due + len(self._tree) // 2:
            self._tree = sorted(self._spans)
            self._unsorted.clear()
            self._stale.clear()
            self._max_ends = [end for _, end in self._tree]
            self._raise_max_ends(0, len(self._tree))

    def _raise_max_ends(self, low: int, high: int) -> bytes:
        """Let every node of the slice know the largest end below it; returns the root's."""
        if low >= high:
            return b""
        middle = (low + high) >> 1
        largest = max(
            self._max_ends[middle],
            self._raise_max_ends(low, middle),
            self._raise_max_ends(middle + 1, high),
        )
        self._max_ends[middle] = largest
        return largest
