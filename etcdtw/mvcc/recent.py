"""Chunks of current pairs kept in memory, within a bound."""

from __future__ import annotations

from etcdtw.mvcc.parts import PART_SHIFT, Parts, new_parts

# What an entry costs besides its bytes: a dict slot and a bytes object.
_ENTRY_BYTES = 120
_HOT_MAX = 512
YOUNG_KEYS_MAX = 8192
"""Moving so many takes some 3 ms."""


class RecentChunks:
    """The chunk of a key's newest revision.

    ``young`` takes what is written again, or read from the backend, and new keys while it is half
    empty; ``used`` counts its bytes. When it holds an eighth of the bound, or ``YOUNG_KEYS_MAX``
    keys, all of it moves into ``old``, from which whole parts are dropped in turn as long as they
    hold more than the rest of the bound. A key in both has its chunk in ``young``. The hot paths
    use them directly and call a method on a miss.

    ``hot`` has those chunks of ``young`` whose keys are written again and again, each with its head
    and version (see ``keyvalue.successor``).
    """

    __slots__ = ("_drop_next", "_old_max", "_old_used", "hot", "old", "used", "young", "young_max")

    def __init__(self, bytes_max: int) -> None:
        self.young_max = bytes_max // 8
        self._old_max = bytes_max - self.young_max
        self.used = self._old_used = 0
        self.young: dict[bytes, bytes] = {}
        self.old: Parts[bytes] = new_parts()
        self.hot: dict[bytes, tuple[bytes, bytes, int]] = {}
        self._drop_next = 0

    def add(self, part: int, key: bytes, chunk: bytes) -> None:
        """Note the chunk of a new key, in its part."""
        size = len(key) + len(chunk) + _ENTRY_BYTES
        if self.used + size <= self.young_max and len(self.young) < YOUNG_KEYS_MAX // 2:
            self.used += size
            self.young[key] = chunk
        else:
            self.load(part, key, chunk)

    def load(self, part: int, key: bytes, chunk: bytes) -> None:
        """Note in ``old`` the newest chunk of a key that ``young`` does not hold, in its part."""
        chunks = self.old[part]
        known = chunks.get(key)
        if known is None:
            self._old_used += len(key) + len(chunk) + _ENTRY_BYTES
        else:
            self._old_used += len(chunk) - len(known)
        chunks[key] = chunk
        if self._old_used > self._old_max:
            self._drop()

    def loaded(self, keys: int, byte_count: int) -> None:
        """Count keys that were put into ``old`` without asking, and the bytes of them and of their
        chunks."""
        self._old_used += byte_count + _ENTRY_BYTES * keys
        self._drop()

    def keep(self, key: bytes, chunk: bytes) -> None:
        """Note the chunk of a key that ``young`` does not hold."""
        size = len(key) + len(chunk) + _ENTRY_BYTES
        if self.used + size > self.young_max or len(self.young) >= YOUNG_KEYS_MAX:
            self.settle()
        self.used += size
        self.young[key] = chunk

    def settle(self) -> None:
        """Move ``young`` into ``old``."""
        for key, chunk in self.young.items():
            self.load(hash(key) >> PART_SHIFT, key, chunk)
        self.young.clear()
        self.hot.clear()
        self.used = 0

    def _drop(self) -> None:
        while self._old_used > self._old_max:
            part = self.old[self._drop_next]
            self._drop_next = (self._drop_next + 1) % len(self.old)
            self._old_used -= sum(map(len, part)) + sum(map(len, part.values()))
            self._old_used -= _ENTRY_BYTES * len(part)
            part.clear()

    def replace(self, key: bytes, chunk: bytes) -> None:
        """Note a newer chunk of a key."""
        known = self.young.get(key)
        if known is None:
            self.keep(key, chunk)
        else:
            self.hot.pop(key, None)
            self.used += len(chunk) - len(known)
            self.young[key] = chunk
            if self.used > self.young_max:
                self.settle()

    def heat(self, key: bytes, chunk: bytes, head: bytes, version: int) -> None:
        """Note the parts of a key's chunk in ``young``."""
        if len(self.hot) >= _HOT_MAX:
            self.hot.clear()
        self.hot[key] = chunk, head, version

    def forget(self, keys: list[bytes]) -> None:
        young, old = self.young.pop, self.old
        for key in keys:
            known = young(key, None)
            if known is not None:
                self.hot.pop(key, None)
                self.used -= len(key) + len(known) + _ENTRY_BYTES
            known = old[hash(key) >> PART_SHIFT].pop(key, None)
            if known is not None:
                self._old_used -= len(key) + len(known) + _ENTRY_BYTES
