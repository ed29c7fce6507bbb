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

from etcdtw.mvcc.parts import PART_SHIFT, Parts, new_parts
from etcdtw.mvcc.revision import TOMBSTONE

# Short histories are tuples, which the garbage collector forgets; long ones grow in place.
_TUPLE_MAX = 16


class KeyIndex:
    """Packed revisions (see ``revision``) by key, in parts (see ``parts``).

    ``current`` holds the newest revision of each key that exists now; ``history`` the revisions
    before that, or, for a key that was deleted, all up to its tombstone. Both ascend.
    ``with_history`` lists the keys of ``history``, each once, but for those that a compaction is
    looking through.
    """

    __slots__ = ("_dead", "_live", "current", "history", "with_history")

    def __init__(self) -> None:
        self.current: Parts[int] = new_parts()
        self.history: Parts[Sequence[int]] = new_parts()
        self.with_history: list[bytes] = []
        self._live: SortedList[bytes] = SortedList()
        self._dead: SortedList[bytes] = SortedList()

    def load_ordered(self, keys: list[bytes]) -> None:
        """At a restore, when ``current`` and ``history`` are filled: the next of the keys in
        ``current``, in order."""
        # What SortedList.update does with all keys at once; with some of them it looks for the
        # place of each.
        live = self._live
        for first in range(0, len(keys), live._load):
            run = keys[first : first + live._load]
            live._lists.append(run)
            live._maxes.append(run[-1])
            live._len += len(run)

    def end_load(self) -> None:
        assert len(self._live) == len(self), "not all keys were loaded in order"
        self._dead = SortedList(
            key
            for current, history in zip(self.current, self.history, strict=True)
            for key in history
            if key not in current
        )

    # --- writing -------------------------------------------------------------------------------

    def add(self, part: int, key: bytes, revision: int) -> None:
        """A put of a key that does not exist, in its part."""
        self.current[part][key] = revision
        self._live.add(key)
        if key in self.history[part]:
            self._dead.remove(key)

    def replace(self, part: int, key: bytes, revision: int) -> None:
        """A put of a key that exists, in its part."""
        current = self.current[part]
        self.remember(part, key, current[key])
        current[key] = revision

    def remove(self, keys: list[bytes], tombstone: int) -> None:
        """Deletions of keys that exist: the first is ``tombstone``, the others follow it."""
        currents, histories = self.current, self.history
        bury = self._dead.add
        forget = self._live.remove
        for key in keys:
            part = hash(key) >> PART_SHIFT
            last = currents[part].pop(key)
            history = histories[part]
            known = history.get(key)
            if known is None:
                history[key] = (last, tombstone)
                self.with_history.append(key)
            elif type(known) is list:
                known += (last, tombstone)
            else:
                grown = (*known, last, tombstone)
                history[key] = grown if len(grown) <= _TUPLE_MAX else list(grown)
            forget(key)
            bury(key)
            tombstone += 2

    def remember(self, part: int, key: bytes, revision: int) -> None:
        """Add to the history of a key, in its part."""
        history = self.history[part]
        known = history.get(key)
        if known is None:
            history[key] = (revision,)
            self.with_history.append(key)
        elif isinstance(known, list):
            known.append(revision)
        else:
            grown = (*known, revision)
            history[key] = grown if len(grown) <= _TUPLE_MAX else list(grown)

    def plain_containers(self) -> list[Sized]:
        """What grows with the keys and holds bytes and numbers alone, some of them in tuples."""
        return [self.with_history, *self.history, *self._live._lists, *self._dead._lists]

    # --- reading -------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many keys exist now."""
        return sum(map(len, self.current))

    def __contains__(self, key: bytes) -> bool:
        """Whether a key exists now."""
        return key in self.current[hash(key) >> PART_SHIFT]

    def newest(self, key: bytes) -> int | None:
        """The newest revision of a key; None if it does not exist now."""
        return self.current[hash(key) >> PART_SHIFT].get(key)

    def at(self, key: bytes, bound: int) -> int | None:
        """The newest revision of a key below ``bound``; None if it does not exist there."""
        part = hash(key) >> PART_SHIFT
        revision = self.current[part].get(key)
        if revision is not None and revision < bound:
            return revision
        known = self.history[part].get(key)
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

        Returns at most ``limit`` of them, oldest first, and whether these were all; only then the
        key is listed in ``with_history`` again, if it still belongs there.
        """
        part = hash(key) >> PART_SHIFT
        history = self.history[part]
        known = history.get(key)
        if known is None:
            return [], True
        old = bisect_left(known, bound)
        current = self.current[part].get(key)
        superseded = current is not None and current < bound
        # The newest one below the bound stays readable, unless it says that there is nothing.
        if old and not superseded and not known[old - 1] & TOMBSTONE:
            old -= 1
        take = min(old, limit)
        dropped = list(islice(known, take))
        rest = known[take:]
        if rest:
            history[key] = rest
            if take == old:
                self.with_history.append(key)
        else:
            del history[key]
            if current is None:
                self._dead.remove(key)
        return dropped, take == old
