"""A heap of deadlines that can be moved later for free."""

from __future__ import annotations

from heapq import heapify, heappop, heappush


class Deadlines:
    """At most one deadline per id, in float seconds of whatever clock the caller uses.

    Setting one again leaves the old heap entry behind; it is recognised and dropped when it
    comes up, and the heap is rebuilt when more than half of it is such leftovers.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._when: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._when)

    def set(self, lease_id: int, when: float) -> None:
        self._when[lease_id] = when
        heappush(self._heap, (when, lease_id))
        if len(self._heap) > 2 * len(self._when) + 64:
            self._rebuild()

    def discard(self, lease_id: int) -> None:
        if self._when.pop(lease_id, None) is not None and not self._when:
            self._heap.clear()

    def pop_due(self, now: float) -> int | None:
        """Take out the id with the earliest deadline if that is not after ``now``."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            when, lease_id = heappop(heap)
            if self._when.get(lease_id) == when:
                del self._when[lease_id]
                return lease_id
        return None

    def _rebuild(self) -> None:
        self._heap = [(when, lease_id) for lease_id, when in self._when.items()]
        heapify(self._heap)
