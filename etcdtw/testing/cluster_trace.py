"""What happened in a simulated world: one line per event, and a digest over all of them."""

from __future__ import annotations

from collections import deque
from hashlib import sha256

from etcdtw.testing.time import VirtualTime

LINES_KEPT = 400


class Trace:
    """Two runs with equal ``digest()`` went through the same events at the same times.

    ``tail`` holds the last lines, for people.
    """

    def __init__(self, time: VirtualTime) -> None:
        self.tail: deque[str] = deque(maxlen=LINES_KEPT)
        self.lines = 0
        self._time = time
        self._hash = sha256()

    def add(self, who: object, what: str) -> None:
        """Note an event: at which member (or in which part of the world), and what."""
        line = f"{self._time.now:12.6f} {who!s:>8} {what}"
        self.tail.append(line)
        self.lines += 1
        self._hash.update(line.encode() + b"\n")

    def digest(self) -> str:
        return self._hash.hexdigest()
