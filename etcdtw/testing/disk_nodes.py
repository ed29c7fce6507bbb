"""Files and directories of a SimDisk: what is there, what is durable, what is between."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

SECTOR_BYTES = 512
PAGE_BYTES = 4096
_ZERO_PAGE = bytes(PAGE_BYTES)


class Pages:
    """Bytes by 4 KiB pages; a page of zeros is not kept, so a preallocated file costs nothing."""

    __slots__ = ("pages", "size")

    def __init__(self, pages: dict[int, bytes] | None = None, size: int = 0) -> None:
        self.pages = {} if pages is None else pages
        self.size = size

    def copy(self) -> Pages:
        return Pages(dict(self.pages), self.size)

    def read(self, length: int, offset: int) -> bytes:
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        first, last = offset // PAGE_BYTES, (offset + length - 1) // PAGE_BYTES
        data = b"".join([self.pages.get(n, _ZERO_PAGE) for n in range(first, last + 1)])
        start = offset - first * PAGE_BYTES
        return data[start : start + length]

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        position = offset
        while position < end:
            number, start = divmod(position, PAGE_BYTES)
            piece = data[position - offset : position - offset + PAGE_BYTES - start]
            if len(piece) < PAGE_BYTES:
                page = self.pages.get(number, _ZERO_PAGE)
                piece = page[:start] + piece + page[start + len(piece) :]
            if piece == _ZERO_PAGE:
                self.pages.pop(number, None)
            else:
                self.pages[number] = piece
            position = (number + 1) * PAGE_BYTES
        self.size = max(self.size, end)

    def resize(self, size: int) -> None:
        if size < self.size:
            number, rest = divmod(size, PAGE_BYTES)
            for each in [each for each in self.pages if each >= number + (rest > 0)]:
                del self.pages[each]
            if rest and number in self.pages:
                self.pages[number] = self.pages[number][:rest].ljust(PAGE_BYTES, b"\0")
        self.size = size


class _Change:
    """One unsynced change of a file: bytes at an offset, or (data None) a new size.

    ``lost`` is set by a failed sync: as on Linux, a later sync that succeeds says nothing about
    this change any more, unless its pages were written to again meanwhile.
    """

    __slots__ = ("data", "lost", "offset")

    def __init__(self, data: bytes | None, offset: int, lost: bool = False) -> None:
        self.data = data
        self.offset = offset
        self.lost = lost

    @property
    def end(self) -> int:
        return self.offset + len(self.data or b"")

    def outlives(self, lost: _Change) -> bool:
        """Whether ``lost``, an earlier write, cannot come back on its own any more: it was cut
        off, or its pages will be written again."""
        if self.data is None:
            return self.offset < lost.end
        first, last = self.offset // PAGE_BYTES, (self.end - 1) // PAGE_BYTES
        return not self.lost and (
            first <= (lost.end - 1) // PAGE_BYTES and last >= lost.offset // PAGE_BYTES
        )

    def apply(self, pages: Pages) -> None:
        if self.data is None:
            pages.resize(self.offset)
        else:
            pages.write(self.data, self.offset)


class File:
    """A file: its live content, its durable content and the changes between the two."""

    __slots__ = ("durable", "flock_owner", "live", "lock_owner", "pending")

    def __init__(self) -> None:
        self.live = Pages()
        self.durable = Pages()
        self.pending: list[_Change] = []
        self.lock_owner: object | None = None
        self.flock_owner: object | None = None

    @property
    def size(self) -> int:
        return self.live.size

    def read(self, length: int, offset: int) -> bytes:
        return self.live.read(length, offset)

    def write(self, data: bytes, offset: int) -> None:
        self._change(_Change(data, offset))

    def resize(self, size: int) -> None:
        self._change(_Change(None, size))

    def _change(self, change: _Change) -> None:
        change.apply(self.live)
        self.pending.append(change)

    def sync(self) -> None:
        still = []
        for place, change in enumerate(self.pending):
            # Sizes are in the filesystem's journal, which goes on or ends with everything.
            gone = change.lost and change.data is not None
            if gone and not any(each.outlives(change) for each in self.pending[place + 1 :]):
                still.append(change)
            else:
                change.apply(self.durable)
        self.pending = still

    def forget_pending(self) -> None:
        """A sync failed: what it should have written may never become durable."""
        for change in self.pending:
            change.lost = True

    def crash(self, dice: Random, scramble: bool) -> None:
        for change in self.pending:
            survive(change, self.durable, dice, scramble)
        self.pending = []
        self.live = self.durable.copy()

    def resident_bytes(self) -> int:
        return PAGE_BYTES * len({id(page) for page in self.live.pages.values()})

    def copy(self) -> File:
        twin = File()
        twin.live = self.live.copy()
        twin.durable = self.durable.copy()
        twin.pending = [_Change(each.data, each.offset, each.lost) for each in self.pending]
        return twin


def survive(change: _Change, durable: Pages, dice: Random, scramble: bool) -> None:
    """Let the dice decide what of an unsynced change reached the platter."""
    fate = dice.randrange(4 if scramble else 3)
    if fate == 0:
        return
    if fate == 1 or change.data is None:
        change.apply(durable)
        return
    first = change.offset // SECTOR_BYTES
    last = (change.offset + len(change.data) - 1) // SECTOR_BYTES
    for sector in range(first, last + 1):
        start = max(sector * SECTOR_BYTES, change.offset)
        end = min((sector + 1) * SECTOR_BYTES, change.offset + len(change.data))
        written = dice.randrange(2)
        if fate == 2 and written:
            durable.write(change.data[start - change.offset : end - change.offset], start)
        elif fate == 3:
            durable.write(dice.randbytes(end - start), start)


# The names that one operation sets (to a node) or removes (None), which happen together.
DirectoryChange = list[tuple[str, "File | Directory | None"]]


class Directory:
    """A directory: entries as seen now, entries as a sync left them, and operations between."""

    __slots__ = ("durable", "entries", "pending")

    def __init__(self) -> None:
        self.entries: dict[str, File | Directory] = {}
        self.durable: dict[str, File | Directory] = {}
        self.pending: list[DirectoryChange] = []

    def change(self, change: DirectoryChange) -> None:
        _apply(change, self.entries)
        self.pending.append(change)

    def sync(self) -> None:
        for change in self.pending:
            _apply(change, self.durable)
        self.pending = []

    def crash(self, dice: Random, scramble: bool) -> None:
        for change in self.pending:
            if dice.randrange(2):
                _apply(change, self.durable)
        self.pending = []
        self.entries = dict(self.durable)
        for name in sorted(self.entries):
            self.entries[name].crash(dice, scramble)

    def walk(self) -> Iterator[File]:
        """Every file below, a renamed one possibly twice."""
        for name in sorted(self.entries):
            node = self.entries[name]
            if isinstance(node, Directory):
                yield from node.walk()
            else:
                yield node

    def copy(self, done: dict[int, File | Directory]) -> Directory:
        """A deep copy; ``done`` maps what was copied already, since a node may have a live, a
        durable and a pending name at once."""
        twin = Directory()
        done[id(self)] = twin

        def copied(node: File | Directory) -> File | Directory:
            if id(node) not in done:
                done[id(node)] = node.copy(done) if isinstance(node, Directory) else node.copy()
            return done[id(node)]

        twin.entries = {name: copied(node) for name, node in self.entries.items()}
        twin.durable = {name: copied(node) for name, node in self.durable.items()}
        twin.pending = [
            [(name, node and copied(node)) for name, node in change] for change in self.pending
        ]
        return twin


def _apply(change: DirectoryChange, entries: dict[str, File | Directory]) -> None:
    for name, node in change:
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node
