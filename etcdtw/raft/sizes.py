"""How many bytes entries take in a message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter

from etcdtw.raft.messages import Entry

ENTRY_OVERHEAD_BYTES = 24
"""Upper bound of what the encoding of an entry adds to its data for terms below 2**42."""


_data_of: Callable[[Entry], bytes | None] = attrgetter("data")


def data_bytes(entries: Sequence[Entry]) -> int:
    """How much data they hold together."""
    if len(entries) == 1:
        return len(entries[0].data or b"")
    return sum(map(len, filter(None, map(_data_of, entries))))


def within_bytes(entries: list[Entry], max_bytes: int | None) -> list[Entry]:
    """The longest prefix of at most ``max_bytes``; never empty unless ``entries`` is."""
    if max_bytes is None or len(entries) < 2:
        return entries
    # Nearly always all fit.
    if data_bytes(entries) + ENTRY_OVERHEAD_BYTES * len(entries) <= max_bytes:
        return entries
    room = max_bytes
    for count, entry in enumerate(entries):
        room -= ENTRY_OVERHEAD_BYTES
        if entry.data:
            room -= len(entry.data)
        if room < 0:
            return entries[: count or 1]
    return entries


def count_max(max_bytes: int | None, count: int) -> int:
    """A cheap upper bound, at most ``count``, of how many entries ``max_bytes`` can hold."""
    if max_bytes is None:
        return count
    return min(count, max_bytes // ENTRY_OVERHEAD_BYTES + 1)
