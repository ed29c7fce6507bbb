"""Chunks of current pairs kept in memory, within a bound."""

from __future__ import annotations

# What an entry costs besides its bytes: a dict slot and a bytes object.
_ENTRY_BYTES = 120
_HOT_MAX = 512


class RecentChunks:
    """The chunk of a key's newest revision, for the keys used last.

    Two generations: ``young`` takes what is written or read; when it holds ``half`` of the bound,
    it becomes the old one and the old one is forgotten. ``used`` counts its bytes. The hot paths
    use them directly and call a method on a miss.

    ``hot`` has those chunks of ``young`` whose keys are written again and again, each with its head
    and version (see ``keyvalue.successor``).
    """

    __slots__ = ("_old", "half", "hot", "used", "young")

    def __init__(self, bytes_max: int) -> None:
        self.half = bytes_max // 2
        self.used = 0
        self._old: dict[bytes, bytes] = {}
        self.young: dict[bytes, bytes] = {}
        self.hot: dict[bytes, tuple[bytes, bytes, int]] = {}

    def find(self, key: bytes) -> bytes | None:
        chunk = self.young.get(key)
        if chunk is None:
            chunk = self._old.get(key)
            if chunk is not None:
                self.keep(key, chunk)
        return chunk

    def keep(self, key: bytes, chunk: bytes) -> None:
        """Note the chunk of a key that ``young`` does not hold."""
        size = len(key) + len(chunk) + _ENTRY_BYTES
        if self.used + size > self.half:
            self.turn_old()
        self.used += size
        self.young[key] = chunk

    def turn_old(self) -> None:
        """Begin a new generation."""
        self._old = self.young
        self.young = {}
        self.hot.clear()
        self.used = 0

    def replace(self, key: bytes, chunk: bytes) -> None:
        """Note a newer chunk of a key."""
        known = self.young.get(key)
        if known is None:
            self.keep(key, chunk)
        else:
            self.hot.pop(key, None)
            self.used += len(chunk) - len(known)
            self.young[key] = chunk
            if self.used > self.half:
                self.turn_old()

    def heat(self, key: bytes, chunk: bytes, head: bytes, version: int) -> None:
        """Note the parts of a key's chunk in ``young``."""
        if len(self.hot) >= _HOT_MAX:
            self.hot.clear()
        self.hot[key] = chunk, head, version

    def forget(self, keys: list[bytes]) -> None:
        young = self.young.pop
        old = self._old.pop
        for key in keys:
            known = young(key, None)
            if known is not None:
                self.hot.pop(key, None)
                self.used -= len(key) + len(known) + _ENTRY_BYTES
            old(key, None)
