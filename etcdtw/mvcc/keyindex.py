"""The key index: which revisions of which keys exist.

A key that was written once since the last compaction costs one dict entry, one int and one slot
in an ordered list. Only keys with more than one revision have a sequence of ints beside it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence, Sized
from heapq import merge
from itertools import islice

from sortedcontainers import SortedList

from etcdtw.mvcc.revision import TOMBSTONE

# Short histories are tuples, which the garbage collector forgets; long ones grow in place.
_TUPLE_MAX = 16


class KeyIndex:
    """Packed revisions (see ``revision``) by key.

    ``current`` holds the newest revision of each key that exists now; ``history`` the revisions
    before that, or, for a key that was deleted, all up to its tombstone. Both ascend.
    """

    __slots__ = ("_dead", "_live", "current", "history")

    def __init__(self) -> None:
        self.current: dict[bytes, int] = {}
        self.history: dict[bytes, Sequence[int]] = {}
        self._live: SortedList[bytes] = SortedList()
        self._dead: SortedList[bytes] = SortedList()

    def load_ordered(self, keys: list[bytes]) -> None:
        """At a restore, when ``current`` and ``history`` are filled: the next of the keys in
        ``current``, in order."""
        self._live.update(keys)

    def end_load(self) -> None:
        assert len(self._live) == len(self.current), "not all keys were loaded in order"
        self._dead = SortedList(key for key in self.history if key not in self.current)

    # --- writing -------------------------------------------------------------------------------

    def add(self, key: bytes, revision: int) -> None:
        """A put of a key that does not exist."""
        self.current[key] = revision
        self._live.add(key)
        if key in self.history:
            self._dead.remove(key)

    def replace(self, key: bytes, revision: int) -> None:
        """A put of a key that exists."""
        current = self.current
        known = self.history.get(key)
        if type(known) is list:
            known.append(current[key])
        else:
            self.remember(key, current[key])
        current[key] = revision

    def remove(self, keys: list[bytes], tombstone: int) -> None:
        """Deletions of keys that exist: the first is ``tombstone``, the others follow it."""
        history = self.history
        take = self.current.pop
        bury = self._dead.add
        forget = self._live.remove
        for key in keys:
            known = history.get(key)
            if known is None:
                history[key] = (take(key), tombstone)
            elif type(known) is list:
                known += (take(key), tombstone)
            else:
                grown = (*known, take(key), tombstone)
                history[key] = grown if len(grown) <= _TUPLE_MAX else list(grown)
            forget(key)
            bury(key)
            tombstone += 2

    def remember(self, key: bytes, revision: int) -> None:
        """Add to the history of a key."""
        known = self.history.get(key)
        if known is None:
            self.history[key] = (revision,)
        elif isinstance(known, list):
            known.append(revision)
        else:
            grown = (*known, revision)
            self.history[key] = grown if len(grown) <= _TUPLE_MAX else list(grown)

    def plain_containers(self) -> list[Sized]:
        """What grows with the keys and holds bytes and numbers alone, some of them in tuples."""
        return [self.history, *self._live._lists, *self._dead._lists]

    # --- reading -------------------------------------------------------------------------------

    def at(self, key: bytes, bound: int) -> int | None:
        """The newest revision of a key below ``bound``; None if it does not exist there."""
        revision = self.current.get(key)
        if revision is not None and revision < bound:
            return revision
        known = self.history.get(key)
        if known is None:
            return None
        place = bisect_left(known, bound)
        if not place:
            return None
        revision = known[place - 1]
        return None if revision & TOMBSTONE else revision

    def keys(self, start: bytes, end: bytes | None) -> Iterator[bytes]:
        """Keys that exist now with ``start <= key < end`` in order."""
        found: Iterator[bytes] = self._live.irange(start, end, (True, False))
        return found

    def count(self, start: bytes, end: bytes | None) -> int:
        """How many keys ``keys`` gives, without walking them."""
        first: int = self._live.bisect_left(start)
        last: int = len(self._live) if end is None else self._live.bisect_left(end)
        return max(0, last - first)

    def count_all(self, start: bytes, end: bytes | None) -> int:
        """How many keys ``keys_at`` looks at."""
        first: int = self._dead.bisect_left(start)
        last: int = len(self._dead) if end is None else self._dead.bisect_left(end)
        return self.count(start, end) + max(0, last - first)

    def keys_at(self, start: bytes, end: bytes | None, bound: int) -> Iterator[tuple[bytes, int]]:
        """Keys that existed below ``bound`` with their revisions there, in order."""
        inclusive = (True, False)
        candidates: Iterable[bytes] = merge(
            self._live.irange(start, end, inclusive), self._dead.irange(start, end, inclusive)
        )
        for key in candidates:
            revision = self.at(key, bound)
            if revision is not None:
                yield key, revision

    # --- compaction ----------------------------------------------------------------------------

    def trim(self, key: bytes, bound: int, limit: int) -> tuple[list[int], bool]:
        """Forget revisions of a key that no read at ``bound`` or later can need.

        Returns at most ``limit`` of them, oldest first, and whether these were all.
        """
        known = self.history.get(key)
        if known is None:
            return [], True
        old = bisect_left(known, bound)
        current = self.current.get(key)
        superseded = current is not None and current < bound
        # The newest one below the bound stays readable, unless it says that there is nothing.
        if old and not superseded and not known[old - 1] & TOMBSTONE:
            old -= 1
        take = min(old, limit)
        dropped = list(islice(known, take))
        rest = known[take:]
        if rest:
            self.history[key] = rest
        else:
            del self.history[key]
            if current is None:
                self._dead.remove(key)
        return dropped, take == old
