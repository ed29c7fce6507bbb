"""Reading a bbolt file: whatever real etcd left, or anything else that claims to be one."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple

from etcdtw.errors import CorruptError, StorageError
from etcdtw.storage.bolt.pages import (
    BRANCH_ELEMENT,
    BUCKET,
    BUCKET_ELEMENT,
    CHECKSUM,
    LEAF_ELEMENT,
    MAGIC,
    META,
    PAGE,
    PAGE_BYTES_MAX,
    PAGE_BYTES_MIN,
    VERSION,
    PageKind,
    checksum,
)

DEPTH_MAX = 64


class _Meta(NamedTuple):
    page_size: int
    root: int
    pages: int
    transaction_id: int


class BoltFile:
    """A bbolt file as its newest whole transaction left it.

    Nobody may write to it meanwhile. Every method raises CorruptError where the file is not what
    it should be; no content makes one run for ever or read beyond the file.
    """

    def __init__(self, path: str, data: mmap.mmap | bytes, meta: _Meta) -> None:
        self.path = path
        self.page_size = meta.page_size
        self.transaction_id = meta.transaction_id
        self._data = data
        self._pages = meta.pages
        self.root = meta.root
        self._roots = dict(self._bucket_roots(meta.root))

    @classmethod
    def open(cls, path: str) -> BoltFile:
        """Open for reading. OSError, StorageError for a file that is none of bbolt's, CorruptError
        for a damaged one. What follows the last page, such as the checksum of a snapshot, is not
        looked at."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            if size < 2 * PAGE_BYTES_MIN:
                raise StorageError(f"{path}: not a bbolt file: {size} bytes")
            data = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
        try:
            return cls(path, data, _newest_meta(path, data))
        except BaseException:
            data.close()
            raise

    def close(self) -> None:
        if isinstance(self._data, mmap.mmap):
            self._data.close()

    def __enter__(self) -> BoltFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Bytes of the pages in use: the file without what follows them."""
        return self._pages * self.page_size

    def buckets(self) -> list[bytes]:
        """Names of the buckets, in order."""
        return sorted(self._roots)

    def scan(self, bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The pairs of a bucket in key order; none where there is no such bucket."""
        found = self._roots.get(bucket)
        if found is not None:
            yield from self._pairs(*found, 0)

    # --- inside --------------------------------------------------------------------------------

    def _bucket_roots(self, root: int) -> Iterator[tuple[bytes, tuple[int, bytes | None]]]:
        """For every bucket its root page, and the page itself where it is an inline one."""
        for name, value in self._pairs(root, None, BUCKET_ELEMENT):
            if len(value) < BUCKET.size:
                raise self._corrupt(root, f"{name!r} is not a bucket")
            page, _ = BUCKET.unpack_from(value)
            yield name, (page, None if page else value[BUCKET.size :])

    def _pairs(self, root: int, inline: bytes | None, flags: int) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of all leaf elements below a page, which must have these flags. Ascending
        keys and a bound for the number of pages keep a file with cycles from going on for ever."""
        if inline is not None:
            yield from self._leaf(0, inline, 0, len(inline), None, flags)
            return
        pages_left = self._pages
        last: bytes | None = None
        # Of each level the children that are still to be visited, last one first.
        stack = [[root]]
        while stack:
            if not stack[-1]:
                stack.pop()
                continue
            number = stack[-1].pop()
            pages_left -= 1
            if pages_left < 0 or len(stack) > DEPTH_MAX:
                raise self._corrupt(number, "the tree of pages has a cycle")
            start, end, kind = self._page(number)
            if kind == PageKind.BRANCH:
                children = self._children(number, start, end)
                children.reverse()
                stack.append(children)
            elif pairs := self._leaf(number, self._data, start, end, last, flags):
                last = pairs[-1][0]
                yield from pairs

    def _page(self, number: int) -> tuple[int, int, int]:
        """Where a branch or leaf page begins and ends, and which it is."""
        if not 2 <= number < self._pages:
            raise self._corrupt(number, f"it is not one of {self._pages} pages")
        start = number * self.page_size
        stored, kind, _, overflow = PAGE.unpack_from(self._data, start)
        if stored != number:
            raise self._corrupt(number, f"it says that it is page {stored}")
        if kind not in (PageKind.BRANCH, PageKind.LEAF):
            raise self._corrupt(number, f"kind {kind:#x} where a branch or leaf should be")
        if number + overflow >= self._pages:
            raise self._corrupt(number, f"it goes on for {overflow} pages, past the last one")
        return start, start + (1 + overflow) * self.page_size, kind

    def _children(self, number: int, start: int, end: int) -> list[int]:
        count = PAGE.unpack_from(self._data, start)[2]
        if count == 0 or start + PAGE.size + count * BRANCH_ELEMENT.size > end:
            raise self._corrupt(number, f"a branch of {count} elements")
        table = self._data[start + PAGE.size : start + PAGE.size + count * BRANCH_ELEMENT.size]
        return [child for _, _, child in BRANCH_ELEMENT.iter_unpack(table)]

    def _leaf(
        self,
        number: int,
        data: mmap.mmap | bytes,
        start: int,
        end: int,
        last: bytes | None,
        flags: int,
    ) -> list[tuple[bytes, bytes]]:
        if end - start < PAGE.size:
            raise self._corrupt(number, "an inline page that is too short")
        count = PAGE.unpack_from(data, start)[2]
        at = start + PAGE.size
        if at + count * LEAF_ELEMENT.size > end:
            raise self._corrupt(number, f"a leaf of {count} elements")
        table = data[at : at + count * LEAF_ELEMENT.size]
        pairs = []
        free = at + len(table)
        for found, distance, key_bytes, value_bytes in LEAF_ELEMENT.iter_unpack(table):
            key_start = at + distance
            key_end = key_start + key_bytes
            value_end = key_end + value_bytes
            # Elements that share bytes could be more than any memory holds.
            if key_start < free or value_end > end:
                raise self._corrupt(number, "an element lies where it cannot be")
            free = value_end
            key = data[key_start:key_end]
            if last is not None and key <= last:
                raise self._corrupt(number, f"key {key!r} follows {last!r}")
            if found != flags:
                what = "is not a bucket" if flags else "is a bucket inside another one"
                raise self._corrupt(number, f"{key!r} {what}")
            last = key
            pairs.append((key, data[key_end:value_end]))
            at += LEAF_ELEMENT.size
        return pairs

    def _corrupt(self, page: int, what: str) -> CorruptError:
        return CorruptError(f"{self.path}: page {page}: {what}")


def _newest_meta(path: str, data: mmap.mmap) -> _Meta:
    """The valid one of the two meta pages with the higher transaction."""
    problems = []
    found = None
    first = _meta(data, 0)
    # Only a whole first page says where the second one is; otherwise it is looked for.
    sizes = [first.page_size] if isinstance(first, _Meta) else _page_sizes()
    candidates = [first, *(_meta(data, size) for size in sizes)]
    for each in candidates:
        if isinstance(each, str):
            problems.append(each)
        elif found is None or each.transaction_id > found.transaction_id:
            found = each
    if found is None:
        kind = StorageError if all("magic" in each for each in problems) else CorruptError
        raise kind(f"{path}: not a whole bbolt file: {problems[0]}")
    if found.pages * found.page_size > len(data):
        raise CorruptError(
            f"{path}: {found.pages} pages of {found.page_size} bytes are in use, the file has "
            f"{len(data)} bytes: it was cut short"
        )
    return found


def _page_sizes() -> Iterator[int]:
    size = PAGE_BYTES_MIN
    while size <= PAGE_BYTES_MAX:
        yield size
        size *= 2


def _meta(data: mmap.mmap, start: int) -> _Meta | str:
    """The meta page there, or what is wrong with it."""
    at = start + PAGE.size
    if at + META.size + CHECKSUM.size > len(data):
        return "the file is too short for a meta page"
    magic, version, page_size, _, root, _, _, pages, transaction = META.unpack_from(data, at)
    if magic != MAGIC:
        return f"magic number {magic:#x} at offset {at}"
    if version != VERSION:
        return f"version {version} at offset {at}"
    (expected,) = CHECKSUM.unpack_from(data, at + META.size)
    if checksum(data[at : at + META.size]) != expected:
        return f"the meta page at offset {start} has a wrong checksum"
    if not PAGE_BYTES_MIN <= page_size <= PAGE_BYTES_MAX or page_size & (page_size - 1):
        return f"page size {page_size}"
    return _Meta(page_size, root, pages, transaction)
