"""What was written and is not on disk yet: changes by bucket, which every read must see."""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice

RECORD_BYTES = 120
"""What a change costs in memory besides its bytes: a dict slot and two objects."""
LARGE_BYTES = 1 << 20
"""Changes of this size are not copied from layer to layer."""


class Changes:
    """The changes of one bucket: the new value of each key, None for a deletion.

    Keys come in and stay, and a dict keeps them in that order, so their sorted list is made when
    it is asked for and extended by those that are new.
    """

    __slots__ = ("_order", "records")

    def __init__(self) -> None:
        self.records: dict[bytes, bytes | None] = {}
        self._order: list[bytes] = []

    def clear(self) -> None:
        self.records.clear()
        if self._order:
            self._order.clear()

    def shed(self, count: int) -> int:
        """Drop up to so many changes, nobody cares which; how many."""
        records = self.records
        count = min(count, len(records))
        for _ in range(count):
            records.popitem()
        del self._order[-count:]
        return count

    def keys(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
        """The first so many changed keys with ``start <= key < end``, in order."""
        if not self.records:
            return []
        order = self._order
        if len(order) < len(self.records):
            order.extend(islice(self.records, len(order), None))
            order.sort()
        first = bisect_left(order, start)
        last = first + limit
        if end is not None:
            last = bisect_left(order, end, first, min(last, len(order)))
        return order[first:last]


class Layer:
    """Changes of several buckets, and the bytes of memory they take."""

    __slots__ = ("buckets", "bytes", "count")

    def __init__(self) -> None:
        self.buckets: dict[bytes, Changes] = {}
        self.bytes = 0
        self.count = 0

    def take(self, newer: Layer) -> None:
        """Take in the changes of another layer, which is empty afterwards."""
        if newer.bytes > LARGE_BYTES:
            self._slip_under(newer)
        buckets = self.buckets
        idle = None
        for name, changes in newer.buckets.items():
            records = changes.records
            if records:
                known = buckets.get(name)
                if known is None:
                    known = buckets[name] = Changes()
                known.records.update(records)
                self.count += len(records)
                changes.clear()
            else:
                idle = name
        if idle is not None:
            # Most entries change one bucket; the others would be looked through in vain.
            del newer.buckets[idle]
        self.bytes += newer.bytes
        newer.bytes = 0

    def shed(self, count: int) -> bool:
        """Drop up to so many changes; whether there may be more."""
        for changes in self.buckets.values():
            if count:
                count -= changes.shed(count)
        return not count

    def _slip_under(self, newer: Layer) -> None:
        """Move what another layer does not change over there, and then take all of it at once."""
        for name, changes in newer.buckets.items():
            known = self.buckets.get(name)
            if known is None or len(known.records) < len(changes.records):
                self.count += len(changes.records)
                if known is not None:
                    for key, value in known.records.items():
                        changes.records.setdefault(key, value)
                self.buckets[name] = changes
                newer.buckets[name] = Changes()


def read_through(
    layers: list[Layer],
    bucket: bytes,
    stored: list[tuple[bytes, bytes]],
    start: bytes,
    end: bytes | None,
    limit: int,
) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
    """One piece of a scan: what lies under the layers, oldest first, and above ``stored``.

    ``stored`` are the first ``limit`` records below them; fewer mean that there are no more.
    Returned are the records up to some key, and that key; None if that was all.
    """
    bound = stored[-1][0] if len(stored) == limit else None
    above = []
    for layer in layers:
        changes = layer.buckets.get(bucket)
        if changes is None:
            continue
        keys = changes.keys(start, end, limit)
        if keys:
            above.append((changes.records, keys))
            if len(keys) == limit and (bound is None or keys[-1] < bound):
                bound = keys[-1]
    if not above:
        return stored, bound
    merged: dict[bytes, bytes | None] = dict(stored)
    for records, keys in above:
        for key in keys:
            merged[key] = records[key]
    piece = [
        (key, value)
        for key, value in merged.items()
        if value is not None and (bound is None or key <= bound)
    ]
    piece.sort()
    return piece, bound
