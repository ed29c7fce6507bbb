"""Header blocks of requests: what a block said is known when it comes again.

Clients send two kinds of blocks over and over. One changes nothing, and is remembered by its bytes.
The other names entries of the header table and enters one value that is new each time, the time
that is left (grpc-go, grpc-core). It moves the index of every entry by one, so its bytes mean
something only once: it is remembered by the places of the entries that it names.
"""

from __future__ import annotations

from . import huffman
from .header_decoder import HeaderDecoder
from .header_table import FIRST_DYNAMIC, Field
from .limits import BLOCK_CACHE_BLOCK_BYTES, BLOCK_CACHE_ENTRIES, SHAPE_CACHE_ENTRIES
from .message import Headers, request_headers

Known = tuple[Headers, str | None]
"""A checked header section without its varying field, and that field's value if it was there."""

_FIRST_STATIC = 0x81
_NEWEST = 0x80 + FIRST_DYNAMIC
_ENTRIES = bytes(range(_FIRST_STATIC, 0xFF))  # one byte names a whole entry
_HUFFMAN = 0x80
# How a field that enters the table under the name of the newest entry begins, up to its value, and
# where it ends. A length of seven ones is continued.
_ENDS = {
    bytes((0x40 + FIRST_DYNAMIC, coding | length)): 2 + length
    for coding in (0, _HUFFMAN)
    for length in range(0x7F)
}

# Table k turns a byte that names an entry into a place, which stays the entry's own while up to k
# more come: 1 to 61 in the static table, above that counted from the newest one at the beginning.
_MOVES_MAX = 64
_PLACES = [
    b"\xff" * _FIRST_STATIC
    + bytes(range(1, FIRST_DYNAMIC))
    + bytes(range(_NEWEST - moved, 0xFF - moved))
    + b"\xff"
    for moved in range(_MOVES_MAX + 1)
]
_BEHIND = b"\0"  # precedes the places of what is named behind the new value
# A new value may push out so many entries, which count 32 bytes at least: it has at most 126
# bytes, 201 characters if they are Huffman-coded.
_PUSHED_OUT_MAX = 16
_FIELDS_MAX = 30  # so few never exceed the bound on a header list


class RequestBlocks:
    """The requests' blocks of one connection. ``varying_field`` names the one field whose value
    changes from request to request: it is kept out of ``Headers``, so that those can be shared.

    ``unchanging`` holds blocks that need not be read: they are known and change nothing."""

    __slots__ = ("_decoder", "_moving", "_shapes", "_since", "_varying_field", "unchanging")

    def __init__(self, decoder: HeaderDecoder, varying_field: str) -> None:
        self._decoder = decoder
        self._varying_field = varying_field
        self.unchanging: dict[bytes, Known] = {}
        # By places; with the oldest entry that must still be in the table.
        self._moving: dict[bytes, tuple[Headers, int]] = {}
        self._since = 0  # places count from when so many entries had come
        self._shapes: dict[tuple[Field, ...], Headers] = {}

    def read(self, block: bytes) -> Known:
        """What the block of a request says.

        Raises ProtocolError as ``HeaderDecoder.decode`` does, StreamError as ``request_headers``.
        """
        rest = block.lstrip(_ENTRIES)
        size = len(rest)
        end = _ENDS.get(rest[:2], 0)
        if not 0 < end <= size:
            return self._read_whole(block)[0]
        decoder = self._decoder
        entered = decoder.entered
        moved = entered - self._since
        if moved >= _MOVES_MAX:
            self._moving.clear()
            self._since = entered
            moved = 0
        places = block[:-size].translate(_PLACES[moved])
        if end < size:
            places += _BEHIND + rest[end:].translate(_PLACES[moved + 1])
        known = self._moving.get(places)
        if known is None:
            return self._learn(block, places, block[:-size], rest[end:])
        headers, oldest = known
        entries = decoder.entries
        if oldest < entered - len(entries) or entries[-1][0] != self._varying_field:
            return self._read_whole(block)[0]
        try:
            value = rest[2:end]
            text = huffman.decode(value) if rest[1] & _HUFFMAN else str(value, "latin-1")
        except ValueError:
            return self._read_whole(block)[0]  # says what is wrong
        decoder.enter(self._varying_field, text)
        if self.unchanging:
            self.unchanging.clear()
        return headers, text

    def _learn(self, block: bytes, places: bytes, named: bytes, behind: bytes) -> Known:
        """Read a block that enters one value behind ``named`` and before ``behind``."""
        before = self._decoder.entered
        known, at = self._read_whole(block)
        count = len(named) + len(behind)
        if at == len(named) and count < _FIELDS_MAX and not behind.strip(_ENTRIES):
            oldest = before - 1 - max(0, max(named + behind) - _NEWEST)
            if behind:
                oldest -= _PUSHED_OUT_MAX
            if len(self._moving) >= _MOVES_MAX:
                self._moving.clear()
            self._moving[places] = known[0], oldest
        return known

    def _read_whole(self, block: bytes) -> tuple[Known, int]:
        """Also the place of the varying field among the fields, -1 if it was not there."""
        decoder = self._decoder
        before = decoder.changes
        fields = decoder.decode(block)
        stable = decoder.changes == before
        if not stable:
            # Indexes mean something else now, in every block that is remembered by its bytes.
            self.unchanging.clear()
        value = None
        at = len(fields) - 1
        while at >= 0 and fields[at][0] != self._varying_field:
            at -= 1
        if at >= 0:
            value = fields.pop(at)[1]
        known = self._checked(fields, len(block)), value
        if stable and len(block) <= BLOCK_CACHE_BLOCK_BYTES:
            if len(self.unchanging) >= BLOCK_CACHE_ENTRIES:
                self.unchanging.clear()
            self.unchanging[block] = known
        return known, at

    def _checked(self, fields: list[Field], block_bytes: int) -> Headers:
        shape = tuple(fields)
        headers = self._shapes.get(shape)
        if headers is None:
            headers = request_headers(fields)
            if len(self._shapes) >= SHAPE_CACHE_ENTRIES:
                self._shapes.clear()
            # Large fields of one's own come in small blocks once they are in the header table.
            if block_bytes <= BLOCK_CACHE_BLOCK_BYTES:
                self._shapes[shape] = headers
        return headers

    def read_apart(self, block: bytes) -> list[Field]:
        """The fields of a block that begins no request; what is remembered stays true."""
        before = self._decoder.changes
        fields = self._decoder.decode(block)
        if self._decoder.changes != before:
            self.unchanging.clear()
        return fields
