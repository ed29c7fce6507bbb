"""Writing a bbolt file from sorted records, in one pass and little memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from struct import pack
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
        roots = [(name, _Tree(pages).fill(scan(name))) for name in sorted(buckets)]
        root = _Tree(pages).fill(
            ((name, BUCKET.pack(number, 0)) for name, number in roots), BUCKET_ELEMENT
        )
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
        self._branches: list[_Branch] = []

    def fill(self, records: Iterable[tuple[bytes, bytes]], flags: int = 0) -> int:
        """Write all elements; the root page. Millions go through this loop, so it is one."""
        page_bytes = self._pages.size
        keys: list[bytes] = []
        values: list[bytes] = []
        used = PAGE.size
        last = b""
        for key, value in records:
            if not last < key:
                raise StorageError(f"key {key!r} follows {last!r}")
            last = key
            key_bytes, value_bytes = len(key), len(value)
            if key_bytes > KEY_BYTES_MAX or value_bytes > VALUE_BYTES_MAX:
                raise StorageError(
                    f"a key of {key_bytes} and a value of {value_bytes} bytes are more than bbolt "
                    "holds"
                )
            more = LEAF_ELEMENT.size + key_bytes + value_bytes
            if used + more > page_bytes and keys and _is_enough(used, page_bytes):
                self._close(keys[0], self._write_leaf(keys, values, flags), 0)
                keys, values = [], []
                used = PAGE.size
            used += more
            keys.append(key)
            values.append(value)
        first, number = keys[0] if keys else b"", self._write_leaf(keys, values, flags)
        for branch in self._branches:
            # The last page of a level may be a little longer than the others.
            branch.add(first, number)
            first, number = branch.first, branch.write(self._pages)
        return number

    def _write_leaf(self, keys: list[bytes], values: list[bytes], flags: int) -> int:
        table: list[int] = []
        data: list[bytes] = []
        distance = len(keys) * LEAF_ELEMENT.size
        for key, value in zip(keys, values, strict=True):
            key_bytes, value_bytes = len(key), len(value)
            table += (flags, distance, key_bytes, value_bytes)
            data += (key, value)
            distance += key_bytes + value_bytes - LEAF_ELEMENT.size
        head = pack(f"<{len(table)}I", *table)
        return self._pages.write(PageKind.LEAF, len(keys), head + b"".join(data))

    def _close(self, first: bytes, number: int, level: int) -> None:
        """Have a page that was written in the level above it."""
        if level == len(self._branches):
            self._branches.append(_Branch())
        branch = self._branches[level]
        if branch.is_full(first, self._pages.size):
            self._close(branch.first, branch.write(self._pages), level + 1)
            branch = self._branches[level] = _Branch()
        branch.add(first, number)


def _is_enough(used: int, page_bytes: int) -> bool:
    """Whether to begin another leaf when the next element goes beyond a page. A leaf whose last
    page would be mostly empty goes on into the next page instead, so that large values waste
    little."""
    unused = -used % page_bytes
    return unused <= page_bytes // _UNUSED_SHARE or used > _LEAF_PAGES_MAX * page_bytes


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
