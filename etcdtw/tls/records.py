"""Where the records of a TLS connection end, seen from outside (RFC 8446 5.1)."""

from __future__ import annotations

HEADER_BYTES = 5
# The version's first byte, of all of TLS.
MAJOR = 3
# More than any record may have (RFC 5246 6.2.3); a length beyond it is noise.
LENGTH_MAX = (1 << 14) + 2048


class RecordCounter:
    """Counts the records that bytes from a connection bring to their end."""

    __slots__ = ("_head", "_is_lost", "_rest")

    def __init__(self) -> None:
        self._head = b""
        self._rest = 0
        self._is_lost = False

    def count(self, data: bytes) -> int | None:
        """How many records end in the next bytes; None from where these are no records."""
        if not (self._rest or self._head or self._is_lost) and len(data) >= HEADER_BYTES:
            length = data[3] << 8 | data[4]
            if length + HEADER_BYTES == len(data) and 0 < length <= LENGTH_MAX and data[1] == MAJOR:
                return 1
        return self._count(data)

    def _count(self, data: bytes) -> int | None:
        at = found = 0
        while not self._is_lost:
            if self._rest:
                taken = min(self._rest, len(data) - at)
                at += taken
                self._rest -= taken
                if self._rest:
                    return found
                found += 1
            head = self._head + data[at : at + HEADER_BYTES - len(self._head)]
            at += len(head) - len(self._head)
            if len(head) < HEADER_BYTES:
                self._head = head
                return found
            self._head = b""
            self._rest = head[3] << 8 | head[4]
            # Every record carries something, if only what seals it.
            self._is_lost = head[1] != MAJOR or not 0 < self._rest <= LENGTH_MAX
        return None
