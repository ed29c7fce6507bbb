"""Which node of the tree expires next."""

from __future__ import annotations

from heapq import heapify, heappop, heappush


class ExpiryHeap:
    """Paths ordered by expiration (nanoseconds), and by path where that is equal, so that every
    member expires in the same order whatever its own past.

    A changed or removed path leaves its old item in the heap, which is skipped when it surfaces
    and swept out when such items are more than half.
    """

    __slots__ = ("_current", "_heap")

    def __init__(self) -> None:
        self._current: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._current)

    def set(self, path: str, expiration: int) -> None:
        """Expire ``path`` at ``expiration``, whatever was set before."""
        self._current[path] = expiration
        heappush(self._heap, (expiration, path))
        if len(self._heap) > 2 * len(self._current) + 64:
            self._heap = [(at, each) for each, at in self._current.items()]
            heapify(self._heap)

    def discard(self, path: str) -> None:
        """Forget a path; an unknown one is fine."""
        self._current.pop(path, None)

    def pop_until(self, cutoff: int) -> str | None:
        """Remove and return the next path that expires at or before ``cutoff``."""
        heap = self._heap
        while heap and heap[0][0] <= cutoff:
            expiration, path = heappop(heap)
            if self._current.get(path) == expiration:
                del self._current[path]
                return path
        return None
