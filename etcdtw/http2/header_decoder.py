"""HPACK decoding (RFC 7541): header blocks to fields, with the peer's dynamic table."""

from __future__ import annotations

from collections import deque

from etcdtw.errors import ProtocolError

from . import huffman
from .frames import ErrorCode
from .header_table import FIELD_OVERHEAD_BYTES, FIRST_DYNAMIC, STATIC, Field
from .limits import HEADER_LIST_BYTES_MAX, HEADER_TABLE_BYTES

_INTEGER_BYTES_MAX = 5  # enough for 2^32, far beyond any legal length or index

# A byte that names a whole entry of the dynamic table, and what less that byte is its place there.
_DYNAMIC = 0x80 + FIRST_DYNAMIC
_NEWEST = _DYNAMIC - 1


class HeaderDecoder:
    """One direction of one connection. ``changes`` rises whenever a block altered the table (or
    its bound), so equal ``changes`` before and after prove that a block can be remembered.

    ``entries`` are the dynamic table's, newest last: HPACK's index 62 is [-1]. ``entered`` counts
    those that ever were in it."""

    __slots__ = ("_bytes_left", "_bytes_max", "_sizes", "changes", "entered", "entries")

    def __init__(self) -> None:
        self.entries: deque[Field] = deque()
        self._sizes: deque[int] = deque()  # of the entries
        self._bytes_left = self._bytes_max = HEADER_TABLE_BYTES
        self.changes = 0
        self.entered = 0

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a whole header block, in order.

        Raises ProtocolError COMPRESSION_ERROR for anything HPACK does not allow, and
        ENHANCE_YOUR_CALM where the fields exceed the bound on a header list; the connection
        cannot go on after either.
        """
        try:
            return self._decode(block)
        except IndexError:
            fault = "header block is cut short or names an unknown table entry"
        except ValueError as error:
            fault = str(error)
        raise ProtocolError(ErrorCode.COMPRESSION_ERROR, fault)

    def _decode(self, block: bytes) -> list[Field]:
        dynamic = self.entries
        fields: list[Field] = []
        # Most blocks begin with entries whose index takes one byte.
        for first in block:
            if first <= 0x80 or first == 0xFF:
                break
            fields.append(STATIC[first - 0x80] if first < _DYNAMIC else dynamic[_NEWEST - first])
        at = len(fields)
        end = len(block)
        while at < end:
            first = block[at]
            at += 1
            if first >= 0x80:  # a whole entry
                index = first & 0x7F
                if index == 0x7F:
                    index, at = self._integer(block, at, 0x7F)
                if index >= FIRST_DYNAMIC:
                    field = dynamic[FIRST_DYNAMIC - 1 - index]
                elif index:
                    field = STATIC[index]
                else:
                    raise ValueError("header table entry 0 does not exist")
                fields.append(field)
                continue
            if first >= 0x40:  # a literal that enters the table
                index = first & 0x3F
                if index == 0x3F:
                    index, at = self._integer(block, at, 0x3F)
            elif first >= 0x20:
                if fields:
                    raise ValueError("header table size changes after a field")
                size, at = self._integer(block, at, 0x1F) if first == 0x3F else (first & 0x1F, at)
                self._resize(size)
                continue
            else:  # a literal that does not
                index = first & 0x0F
                if index == 0x0F:
                    index, at = self._integer(block, at, 0x0F)
            if index >= FIRST_DYNAMIC:
                name = dynamic[FIRST_DYNAMIC - 1 - index][0]
            elif index:
                name = STATIC[index][0]
            else:
                name, at = self._string(block, at)
            value, at = self._string(block, at)
            fields.append((name, value))
            if first >= 0x40:
                self.enter(name, value)
        # An entry may be named once per byte of the block: only the sum shows what that makes.
        if len(fields) > 30 or end > 4096:
            listed = sum(len(name) + len(value) + FIELD_OVERHEAD_BYTES for name, value in fields)
            if listed > HEADER_LIST_BYTES_MAX:
                raise ProtocolError(
                    ErrorCode.ENHANCE_YOUR_CALM, f"header list of {listed} bytes is too large"
                )
        return fields

    def _string(self, block: bytes, at: int) -> tuple[str, int]:
        first = block[at]
        at += 1
        length = first & 0x7F
        if length == 0x7F:
            length, at = self._integer(block, at, 0x7F)
        stop = at + length
        if stop > len(block):
            raise IndexError
        if first & 0x80:
            return huffman.decode(block[at:stop]), stop
        return str(block[at:stop], "latin-1"), stop

    def _integer(self, block: bytes, at: int, value: int) -> tuple[int, int]:
        """The rest of an integer whose prefix was all ones, as (value, position after it)."""
        for shift in range(0, 7 * _INTEGER_BYTES_MAX, 7):
            byte = block[at]
            at += 1
            value += (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise ValueError("integer in a header block is too large")

    def enter(self, name: str, value: str) -> None:
        """Put an entry into the table (RFC 7541 section 4.4)."""
        self.changes += 1
        size = len(name) + len(value) + FIELD_OVERHEAD_BYTES
        left = self._bytes_left - size
        if left < 0:
            if size > self._bytes_max:  # it empties the table, no more
                self._evict(self._bytes_max)
                return
            left = self._evict(size) - size
        self._bytes_left = left
        self.entries.append((name, value))
        self._sizes.append(size)
        self.entered += 1

    def _resize(self, size: int) -> None:
        if size > HEADER_TABLE_BYTES:
            raise ValueError(f"header table of {size} bytes exceeds ours of {HEADER_TABLE_BYTES}")
        self.changes += 1
        self._bytes_left += size - self._bytes_max
        self._bytes_max = size
        self._evict(0)

    def _evict(self, wanted: int) -> int:
        """Make room for so many bytes; how many are left then."""
        left = self._bytes_left
        sizes = self._sizes
        entries = self.entries
        while left < wanted:
            left += sizes.popleft()
            entries.popleft()
        self._bytes_left = left
        return left
