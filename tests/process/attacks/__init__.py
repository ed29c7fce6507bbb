"""What hostile or broken clients send, and the answers that the protocols document for it.

Each attack takes a port and returns the outcome as ``RawConnection.outcome`` words it. Expected
answers are prefixes of it; where an RFC leaves a choice there are several.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Attack:
    name: str
    expected: tuple[str, ...]
    run: Callable[[int], str]

    def wrong(self, port: int) -> str | None:
        """What is wrong with the member's answer, or None."""
        found = self.run(port)
        if found.startswith(self.expected):
            return None
        return f"{self.name}: expected {' or '.join(self.expected)}, found {found}"
