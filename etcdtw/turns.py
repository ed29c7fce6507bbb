"""Work that is too long for one turn of the reactor."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from heapq import merge
from typing import Any, TypeVar

T = TypeVar("T")
Work = Generator[None, None, T]
"""Yields where others may have a turn, and returns its result."""

KEYS_MAX = 5000
"""So many keys are read or deleted in one go: some 10 to 15 ms."""
PIECE_KEYS = 500


class TakesTurns(Exception):
    """Raised instead of carrying out a request that takes too long for one turn. Nothing of it has
    happened yet: whoever catches this runs ``work`` to its end, a piece at a time."""

    def __init__(self, work: Work[Any]) -> None:
        super().__init__()
        self.work = work


class Allowance:
    """How many keys requests may still touch before others must have had a turn. When it is used
    up, the request that asks takes turns, however small, and the next ones have all of it again.
    ``piece_keys`` is what a piece of work may touch."""

    def __init__(self, keys_max: int = KEYS_MAX, piece_keys: int = PIECE_KEYS) -> None:
        self.piece_keys = piece_keys
        self.keys_max = keys_max
        self._left = keys_max

    def admits(self, keys: int) -> bool:
        """Whether a request that touches so many keys may be carried out at once."""
        self._left -= keys
        if self._left >= 0:
            return True
        self._left = self.keys_max
        return False


def sorted_in_turns(unsorted: list[bytes], piece: int) -> Work[Iterator[bytes]]:
    """What ``sorted`` gives, read at the caller's pace."""
    runs = []
    for first in range(0, len(unsorted), piece):
        runs.append(sorted(unsorted[first : first + piece]))
        yield
    return merge(*runs)
