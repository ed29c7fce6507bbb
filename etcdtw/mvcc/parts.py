"""Dicts of very many keys, in parts.

A dict that has to grow moves everything it holds in one go: 70 ms at 700,000 keys, and twice that
whenever their number has doubled. Of 64 dicts each grows at another moment, for a 64th of it.
"""

from __future__ import annotations

import sys
from typing import TypeVar

V = TypeVar("V")

_BITS = 6
PART_SHIFT = sys.hash_info.width - _BITS
"""The part of a key is ``parts[hash(key) >> PART_SHIFT]``. These are the highest bits, since a dict
looks at the lowest ones; the sign counts from the end of the list."""

Parts = list[dict[bytes, V]]


def new_parts() -> Parts[V]:
    return [{} for _ in range(1 << _BITS)]
