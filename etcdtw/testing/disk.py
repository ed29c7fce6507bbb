"""A disk in memory that loses what was not synced.

What a power cut may do follows the usual model of such simulators: every write that was not
synced is kept, dropped, torn at 512-byte sectors or scrambled, each on its own; every creation,
rename and removal that was not followed by a sync of its directory happened or did not. What a
sync returned for is never touched. Nothing here looks at a clock or draws a number of its own: the
dice are an argument, so a seed gives the same disk again.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from zope.interface import implementer

from etcdtw.storage.interfaces import IFile, IFilesystem
from etcdtw.testing.disk_nodes import Directory, File


def _error(number: int, path: str, what: str = "") -> OSError:
    text = os.strerror(number)
    return OSError(number, f"{text} ({what})" if what else text, path)


@dataclass(frozen=True, slots=True)
class Operation:
    """One call that changed or synced the disk. ``disk`` is the disk right after it, with all
    that was pending still pending."""

    name: str
    path: str
    detail: str
    disk: SimDisk


@implementer(IFile)
class SimFile:
    """A handle on a file of a SimDisk; unusable once the disk has crashed."""

    def __init__(self, disk: SimDisk, node: File, path: str, writable: bool) -> None:
        self._disk = disk
        self._node = node
        self._writable = writable
        self._epoch = disk.epoch
        self.path = path

    def _live(self) -> File:
        if self._epoch != self._disk.epoch:
            raise _error(errno.EBADF, self.path, "this handle is from before a crash or closed")
        return self._node

    def _changing(self, name: str, detail: str) -> File:
        node = self._live()
        if not self._writable:
            raise _error(errno.EBADF, self.path, f"{name}: opened for reading only")
        self._disk.count(name, self.path)
        return node

    def pwrite(self, data: bytes, offset: int) -> None:
        what = f"writing {len(data)} bytes at offset {offset}"
        node = self._changing("pwrite", what)
        grown = max(0, offset + len(data) - node.size)
        room = self._disk.room()
        if room is not None and grown > room:
            node.write(bytes(data[: max(0, len(data) - (grown - room))]), offset)
            self._disk.record("pwrite", self.path, what + ", cut short")
            raise _error(errno.ENOSPC, self.path, what)
        node.write(bytes(data), offset)
        self._disk.record("pwrite", self.path, what)

    def pread(self, length: int, offset: int) -> bytes:
        return self._live().read(length, offset)

    def start_writing(self, offset: int, length: int) -> None:
        self._live()  # a write that was not synced may or may not survive, begun or not

    def sync_data(self) -> None:
        node = self._live()
        try:
            self._disk.count("sync_data", self.path)
        except OSError:
            node.forget_pending()
            raise
        node.sync()
        self._disk.record("sync_data", self.path, "")

    def size(self) -> int:
        return self._live().size

    def truncate(self, length: int) -> None:
        self._changing("truncate", str(length)).resize(length)
        self._disk.record("truncate", self.path, str(length))

    def give_back(self) -> None:
        self._live()  # its room was there for others as soon as it had no name

    def preallocate(self, length: int) -> None:
        node = self._changing("preallocate", str(length))
        room = self._disk.room()
        if room is not None and length - node.size > room:
            raise _error(errno.ENOSPC, self.path, f"reserving {length} bytes")
        if length > node.size:
            node.resize(length)
        self._disk.record("preallocate", self.path, str(length))

    def lock(self) -> None:
        node = self._live()
        if node.lock_owner not in (None, self):
            raise BlockingIOError(errno.EAGAIN, "locked by another holder", self.path)
        node.lock_owner = self

    def flock(self) -> None:
        node = self._live()
        if node.flock_owner not in (None, self):
            raise BlockingIOError(errno.EAGAIN, "locked by another holder", self.path)
        node.flock_owner = self

    def close(self) -> None:
        if self._node.lock_owner is self:
            self._node.lock_owner = None
        if self._node.flock_owner is self:
            self._node.flock_owner = None
        self._epoch = -1


@implementer(IFilesystem)
class SimDisk:
    """A whole filesystem in memory.

    ``capacity`` is the number of bytes that all files together may hold (None: no end).
    ``record=True`` keeps every operation, with a copy of the disk after it, in ``journal``.
    """

    def __init__(self, capacity: int | None = None, record: bool = False) -> None:
        self.capacity = capacity
        self.epoch = 0
        self.operations = 0
        self.journal: list[Operation] = []
        self._record = record
        self._root = Directory()
        self._fault: Callable[[int, str, str], OSError | None] | None = None

    # --- faults ---------------------------------------------------------------------------------

    def fail_operation(self, number: int, error_number: int = errno.EIO) -> None:
        """The ``number``-th changing or syncing call from now on (1: the next) fails, and
        so does every later one: a broken disk stays broken until ``heal``."""
        first = self.operations + number

        def fault(operation: int, name: str, path: str) -> OSError | None:
            if operation < first:
                return None
            return _error(error_number, path, f"injected into {name}")

        self._fault = fault

    def fail_when(self, fault: Callable[[int, str, str], OSError | None]) -> None:
        """Ask ``fault(operation number, operation name, path)`` before each operation; what it
        returns is raised."""
        self._fault = fault

    def heal(self) -> None:
        """Inject no more faults."""
        self._fault = None

    def crash(self, dice: Random, scramble: bool = False) -> None:
        """Cut the power: what was synced stays, the dice decide about everything else. Every
        handle is dead and every lock is free. ``scramble`` also lets unsynced sectors come back
        as garbage, which no log format without a second copy can tell from damage."""
        self.kill()
        self._root.crash(dice, scramble)

    def kill(self) -> None:
        """The process dies, the machine does not: handles and locks go, all writes stay."""
        self.epoch += 1
        for node in self._files():
            node.lock_owner = None
            node.flock_owner = None

    # --- what tests look at ---------------------------------------------------------------------

    def copy(self) -> SimDisk:
        """An independent disk with the same content and the same pending writes; nobody has
        a file of it open."""
        twin = SimDisk(self.capacity)
        twin._root = self._root.copy({})
        twin.operations = self.operations
        return twin

    def states(self, dice: Random, scramble: bool = False) -> Iterator[tuple[int, SimDisk]]:
        """For every journal entry, its number and what a power cut right after it leaves."""
        for number, operation in enumerate(self.journal):
            disk = operation.disk.copy()
            disk.crash(dice, scramble)
            yield number, disk

    def resident_bytes(self) -> int:
        """Memory taken by file content, synced and not; zeros are free."""
        return sum(node.resident_bytes() for node in self._files())

    # --- used by SimFile ------------------------------------------------------------------------

    def count(self, name: str, path: str) -> None:
        """One operation is about to happen; raises the injected error if it is its turn."""
        self.operations += 1
        if self._fault is not None:
            error = self._fault(self.operations, name, path)
            if error is not None:
                raise error

    def record(self, name: str, path: str, detail: str) -> None:
        if self._record:
            self.journal.append(Operation(name, path, detail, self.copy()))

    def room(self) -> int | None:
        """Bytes that still fit, or None for any number."""
        if self.capacity is None:
            return None
        return max(0, self.capacity - sum(node.size for node in self._files()))

    def _files(self) -> Iterator[File]:
        seen: set[int] = set()
        for node in self._root.walk():
            if id(node) not in seen:
                seen.add(id(node))
                yield node

    # --- IFilesystem ----------------------------------------------------------------------------

    def _find(self, path: str) -> File | Directory | None:
        node: File | Directory | None = self._root
        for name in _parts(path):
            if not isinstance(node, Directory):
                return None
            node = node.entries.get(name)
        return node

    def _parent(self, path: str) -> tuple[Directory, str]:
        parent = self._find(posixpath.dirname(posixpath.normpath(path)))
        if not isinstance(parent, Directory):
            raise _error(errno.ENOENT if parent is None else errno.ENOTDIR, path)
        return parent, posixpath.basename(posixpath.normpath(path))

    def open(
        self, path: str, *, create: bool = False, exclusive: bool = False, mode: int = 0o600
    ) -> SimFile:
        parent, name = self._parent(path)
        node = parent.entries.get(name)
        if isinstance(node, Directory):
            raise _error(errno.EISDIR, path)
        if node is not None and exclusive:
            raise _error(errno.EEXIST, path)
        if node is None:
            if not (create or exclusive):
                raise _error(errno.ENOENT, path)
            self.count("create", path)
            node = File()
            parent.change([(name, node)])
            self.record("create", path, f"{mode:o}")
        return SimFile(self, node, path, writable=True)

    def open_readonly(self, path: str) -> SimFile:
        node = self._find(path)
        if isinstance(node, Directory):
            raise _error(errno.EISDIR, path)
        if node is None:
            raise _error(errno.ENOENT, path)
        return SimFile(self, node, path, writable=False)

    def listdir(self, path: str) -> list[str]:
        return sorted(self._directory(path).entries)

    def exists(self, path: str) -> bool:
        return self._find(path) is not None

    def isdir(self, path: str) -> bool:
        return isinstance(self._find(path), Directory)

    def makedirs(self, path: str, mode: int = 0o700) -> None:
        node: File | Directory | None = self._root
        for name in _parts(path):
            if not isinstance(node, Directory):
                raise _error(errno.ENOTDIR, path)
            inner = node.entries.get(name)
            if inner is None:
                self.count("mkdir", path)
                inner = Directory()
                node.change([(name, inner)])
                self.record("mkdir", path, f"{mode:o}")
            node = inner
        if not isinstance(node, Directory):
            raise _error(errno.EEXIST, path)

    def rename(self, old: str, new: str) -> None:
        source, old_name = self._parent(old)
        target, new_name = self._parent(new)
        node = source.entries.get(old_name)
        if node is None:
            raise _error(errno.ENOENT, old)
        there = target.entries.get(new_name)
        if isinstance(there, Directory):
            if not isinstance(node, Directory):
                raise _error(errno.EISDIR, new)
            if there.entries:
                raise _error(errno.ENOTEMPTY, new)
        elif there is not None and isinstance(node, Directory):
            raise _error(errno.ENOTDIR, new)
        self.count("rename", old)
        if source is target:
            source.change([(old_name, None), (new_name, node)])
        else:
            source.change([(old_name, None)])
            target.change([(new_name, node)])
        self.record("rename", old, new)

    def remove(self, path: str) -> None:
        parent, name = self._parent(path)
        node = parent.entries.get(name)
        if node is None:
            raise _error(errno.ENOENT, path)
        if isinstance(node, Directory):
            raise _error(errno.EISDIR, path)
        self.count("remove", path)
        parent.change([(name, None)])
        self.record("remove", path, "")

    def rmdir(self, path: str) -> None:
        if self._directory(path).entries:
            raise _error(errno.ENOTEMPTY, path)
        parent, name = self._parent(path)
        self.count("rmdir", path)
        parent.change([(name, None)])
        self.record("rmdir", path, "")

    def sync_dir(self, path: str) -> None:
        node = self._directory(path)
        self.count("sync_dir", path)
        node.sync()
        self.record("sync_dir", path, "")

    def _directory(self, path: str) -> Directory:
        node = self._find(path)
        if not isinstance(node, Directory):
            raise _error(errno.ENOENT if node is None else errno.ENOTDIR, path)
        return node


def _parts(path: str) -> list[str]:
    if not path.startswith("/"):
        raise ValueError(f"path is not absolute: {path!r}")
    return [part for part in posixpath.normpath(path).split("/") if part]
