"""Writing a bbolt file from sorted records, in one pass and little memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from etcdtw.errors import StorageError
from etcdtw.storage.bolt.pages import (
    BRANCH_ELEMENT,
    BUCKET,
    BUCKET_ELEMENT,
    CHECKSUM,
    KEY_BYTES_MAX,
    LEAF_ELEMENT,
    MAGIC,
    META,
    NO_FREELIST,
    PAGE,
    VALUE_BYTES_MAX,
    VERSION,
    PageKind,
    checksum,
)

PAGE_BYTES = 4096
_FIRST_PAGE = 2
_BUFFER_BYTES = 1 << 20
_LEAF_PAGES_MAX = 8
_UNUSED_SHARE = 4

Scan = Callable[[bytes], Iterator[tuple[bytes, bytes]]]


def write_bolt(
    path: str,
    buckets: Sequence[bytes],
    scan: Scan,
    *,
    page_size: int = PAGE_BYTES,
    progress: Callable[[int], None] = lambda written: None,
    sync: bool = True,
) -> int:
    """Write the records of ``scan(bucket)``, in ascending key order, for each bucket; the size in
    bytes. The file is whole when this returns, and with ``sync`` on disk.

    ``progress`` is told the bytes written so far, about every megabyte. StorageError for records
    that bbolt cannot hold or that are not in order; OSError.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb", buffering=_BUFFER_BYTES) as file:
        pages = _Pages(file, page_size, progress)
        names = _Tree(pages)
        for name in sorted(buckets):
            tree = _Tree(pages)
            for key, value in scan(name):
                tree.add(key, value)
            names.add(name, BUCKET.pack(tree.finish(), 0), BUCKET_ELEMENT)
        root = names.finish()
        file.seek(0)
        for number in range(_FIRST_PAGE):
            file.write(_meta_page(number, page_size, root, pages.count))
        file.flush()
        if sync:
            os.fsync(fd)
    return pages.count * page_size


def _meta_page(number: int, page_size: int, root: int, pages: int) -> bytes:
    """One of the two; both describe the same tree, and the second is the newer transaction."""
    meta = META.pack(MAGIC, VERSION, page_size, 0, root, 0, NO_FREELIST, pages, number)
    page = PAGE.pack(number, PageKind.META, 0, 0) + meta + CHECKSUM.pack(checksum(meta))
    return page.ljust(page_size, b"\0")


class _Pages:
    """Gives out pages one after the other."""

    def __init__(self, file: BinaryIO, size: int, progress: Callable[[int], None]) -> None:
        self._file = file
        self._progress = progress
        self._told = 0
        self.size = size
        self.count = _FIRST_PAGE
        file.write(bytes(_FIRST_PAGE * size))

    def write(self, kind: PageKind, count: int, content: bytes) -> int:
        """Write one page, with what it overflows into; its number."""
        number = self.count
        pages = -(-(PAGE.size + len(content)) // self.size)
        page = PAGE.pack(number, kind, count, pages - 1) + content
        self._file.write(page.ljust(pages * self.size, b"\0"))
        self.count += pages
        written = self.count * self.size
        if written - self._told >= _BUFFER_BYTES:
            self._told = written
            self._progress(written)
        return number


class _Tree:
    """One bucket: its open leaf, and above it one open branch per level.

    A page is written when the next element does not fit, and only then becomes an element of the
    level above, so no more than one page per level is held.
    """

    def __init__(self, pages: _Pages) -> None:
        self._pages = pages
        self._leaf = _Leaf()
        self._branches: list[_Branch] = []
        self._last = b""

    def add(self, key: bytes, value: bytes, flags: int = 0) -> None:
        if not self._last < key:
            raise StorageError(f"key {key!r} follows {self._last!r}")
        if len(key) > KEY_BYTES_MAX or len(value) > VALUE_BYTES_MAX:
            raise StorageError(
                f"a key of {len(key)} and a value of {len(value)} bytes are more than bbolt holds"
            )
        self._last = key
        leaf = self._leaf
        if leaf.keys and leaf.is_full(key, value, self._pages.size):
            self._close(leaf, 0)
            leaf = self._leaf = _Leaf()
        leaf.add(key, value, flags)

    def finish(self) -> int:
        """Write what is open; the root page."""
        number = self._leaf.write(self._pages)
        first = self._leaf.first
        for branch in self._branches:
            # The last page of a level may be a little longer than the others.
            branch.add(first, number)
            first, number = branch.first, branch.write(self._pages)
        return number

    def _close(self, page: _Leaf | _Branch, level: int) -> None:
        number = page.write(self._pages)
        if level == len(self._branches):
            self._branches.append(_Branch())
        branch = self._branches[level]
        if branch.is_full(page.first, self._pages.size):
            self._close(branch, level + 1)
            branch = self._branches[level] = _Branch()
        branch.add(page.first, number)


class _Leaf:
    """A leaf page in the making."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self._values: list[bytes] = []
        self._flags: list[int] = []
        self._bytes = PAGE.size

    @property
    def first(self) -> bytes:
        return self.keys[0] if self.keys else b""

    def is_full(self, key: bytes, value: bytes, page_bytes: int) -> bool:
        """Whether to begin another leaf with this element. One whose last page would be mostly
        empty goes on into the next page instead, so that large values waste little."""
        if self._bytes + LEAF_ELEMENT.size + len(key) + len(value) <= page_bytes:
            return False
        unused = -self._bytes % page_bytes
        return unused <= page_bytes // _UNUSED_SHARE or self._bytes > _LEAF_PAGES_MAX * page_bytes

    def add(self, key: bytes, value: bytes, flags: int) -> None:
        self._bytes += LEAF_ELEMENT.size + len(key) + len(value)
        self.keys.append(key)
        self._values.append(value)
        self._flags.append(flags)

    def write(self, pages: _Pages) -> int:
        table: list[bytes] = []
        data: list[bytes] = []
        distance = len(self.keys) * LEAF_ELEMENT.size
        for key, value, flags in zip(self.keys, self._values, self._flags, strict=True):
            table.append(LEAF_ELEMENT.pack(flags, distance, len(key), len(value)))
            data += (key, value)
            distance += len(key) + len(value) - LEAF_ELEMENT.size
        return pages.write(PageKind.LEAF, len(table), b"".join(table + data))


class _Branch:
    """A branch page in the making."""

    def __init__(self) -> None:
        self._children: list[tuple[bytes, int]] = []
        self._bytes = PAGE.size

    @property
    def first(self) -> bytes:
        return self._children[0][0]

    def is_full(self, key: bytes, page_bytes: int) -> bool:
        """Whether another child does not fit; two always do."""
        more = BRANCH_ELEMENT.size + len(key)
        return len(self._children) > 1 and self._bytes + more > page_bytes

    def add(self, key: bytes, number: int) -> None:
        self._bytes += BRANCH_ELEMENT.size + len(key)
        self._children.append((key, number))

    def write(self, pages: _Pages) -> int:
        table = []
        distance = len(self._children) * BRANCH_ELEMENT.size
        for key, number in self._children:
            table.append(BRANCH_ELEMENT.pack(distance, len(key), number))
            distance += len(key) - BRANCH_ELEMENT.size
        keys = [key for key, _ in self._children]
        return pages.write(PageKind.BRANCH, len(table), b"".join(table + keys))
