"""The disk of the operating system behind ``IFilesystem`` and ``IFile``."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Sequence

from zope.interface import implementer

from etcdtw.storage.interfaces import IFile, IFilesystem

# Linux's number; the fcntl module does not name it before Python 3.13 (and elsewhere it is absent).
_F_OFD_SETLK = getattr(fcntl, "F_OFD_SETLK", 37)
# struct flock: type, whence, start, length (0: to the end of the file, however it grows), pid.
_WHOLE_FILE_EXCLUSIVE = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
SHRINK_BYTES = 8 << 20
SHRINK_PAUSE_SECONDS = 0.005
"""A file is freed in pieces, since other writers wait for each: freeing 1.6 GB at once stopped them
for 0.2 s, and appends to the log for 80 ms at a time after that; a single old segment of 64 MB took
70 ms, and a sync beside it 150 ms."""

_HELD_BY_ANOTHER = frozenset({errno.EAGAIN, errno.EACCES})


def _explained(error: OSError, what: str, path: str) -> OSError:
    """The same kind of error with the operation, its size and the file in its text."""
    return OSError(error.errno, f"{error.strerror} ({what})", path)


@implementer(IFile)
class OsFile:
    """One file descriptor. Only ``pread``, ``pwrite`` and ``sync_data`` are used from threads;
    they share no position."""

    __slots__ = ("_fd", "_sync", "path")

    def __init__(self, fd: int, path: str, sync: bool) -> None:
        self._fd = fd
        self._sync = sync
        self.path = path

    def pwrite(self, data: bytes, offset: int) -> None:
        try:
            done = os.pwrite(self._fd, data, offset)
            while done < len(data):
                # A short write means that the disk filled up on the way: the next one says so.
                rest = memoryview(data)[done:]
                done += os.pwrite(self._fd, rest, offset + done)
        except OSError as error:
            what = f"writing {len(data)} bytes at offset {offset}"
            raise _explained(error, what, self.path) from error

    def pread(self, length: int, offset: int) -> bytes:
        try:
            data = os.pread(self._fd, length, offset)
            if len(data) == length or not data:
                return data
            parts = [data]
            have = len(data)
            while have < length and (data := os.pread(self._fd, length - have, offset + have)):
                parts.append(data)
                have += len(data)
            return b"".join(parts)
        except OSError as error:
            what = f"reading {length} bytes at offset {offset}"
            raise _explained(error, what, self.path) from error

    def start_writing(self, offset: int, length: int) -> None:
        # Linux begins writeback of what is said to be of no more use, and drops whole pages only,
        # which the end of a log is not.
        if self._sync:
            os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_DONTNEED)

    def sync_data(self) -> None:
        if not self._sync:
            return
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise _explained(error, "fdatasync", self.path) from error

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def truncate(self, length: int) -> None:
        try:
            os.ftruncate(self._fd, length)
        except OSError as error:
            raise _explained(error, f"truncating to {length} bytes", self.path) from error

    def give_back(self) -> None:
        # A backup of hard links is somebody's file still.
        if os.fstat(self._fd).st_nlink == 0:
            free_in_pieces(self._fd, self.size())

    def preallocate(self, length: int) -> None:
        try:
            os.posix_fallocate(self._fd, 0, length)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                # A filesystem without fallocate still gives zeros, only without the reservation.
                if self.size() < length:
                    self.truncate(length)
                return
            raise _explained(error, f"reserving {length} bytes", self.path) from error

    def lock(self) -> None:
        try:
            fcntl.fcntl(self._fd, _F_OFD_SETLK, _WHOLE_FILE_EXCLUSIVE)
        except OSError as error:
            self._raise_lock_error(error)

    def flock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._raise_lock_error(error)

    def _raise_lock_error(self, error: OSError) -> None:
        if error.errno in _HELD_BY_ANOTHER:
            raise BlockingIOError(error.errno, "locked by another holder", self.path) from error
        raise _explained(error, "locking", self.path) from error

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


@implementer(IFilesystem)
class OsFilesystem:
    """Files of this machine.

    ``sync=False`` turns every sync into nothing, for ``--unsafe-no-fsync``: a power cut may then
    lose acknowledged writes.
    """

    def __init__(self, sync: bool = True) -> None:
        self._sync = sync

    def open(
        self, path: str, *, create: bool = False, exclusive: bool = False, mode: int = 0o600
    ) -> OsFile:
        flags = os.O_RDWR | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT
        if exclusive:
            flags |= os.O_CREAT | os.O_EXCL
        return OsFile(os.open(path, flags, mode), path, self._sync)

    def open_readonly(self, path: str) -> OsFile:
        return OsFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path, self._sync)

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def isdir(self, path: str) -> bool:
        return os.path.isdir(path)

    def makedirs(self, path: str, mode: int = 0o700) -> None:
        # os.makedirs gives ``mode`` to the last directory only; etcd gives it to all it makes.
        parent = os.path.dirname(path)
        if parent and not os.path.isdir(parent):
            self.makedirs(parent, mode)
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            if not os.path.isdir(path):
                raise

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def remove(self, path: str) -> None:
        os.remove(path)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def sync_dir(self, path: str) -> None:
        if not self._sync:
            return
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as error:
            raise _explained(error, "fsync of the directory", path) from error
        finally:
            os.close(fd)


def write_synced(fs: IFilesystem, path: str, data: bytes) -> None:
    """Make a file hold this and nothing else, on disk. Its name may still be lost, and until then
    it may hold anything. OSError."""
    file = fs.open(path, create=True)
    try:
        file.truncate(0)
        file.pwrite(data, 0)
        file.sync_data()
    finally:
        file.close()


def give_back(files: Sequence[IFile]) -> None:
    """Close files that have no names, their space freed. Blocks. OSError."""
    for each in files:
        try:
            each.give_back()
        finally:
            each.close()


def free_in_pieces(fd: int, size: int) -> None:
    """Let go of all but the beginning of a file that nobody wants any more. Blocks."""
    for left in range(size - SHRINK_BYTES, 0, -SHRINK_BYTES):
        os.ftruncate(fd, left)
        time.sleep(SHRINK_PAUSE_SECONDS)
