"""Segment files, and the one that is made ready in advance."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from threading import Lock

from etcdtw.errors import StorageError
from etcdtw.storage.interfaces import IFile, IFilesystem
from etcdtw.storage.wal.names import SegmentName

SEGMENT_BYTES = 64 * 1000 * 1000
"""etcd's size of a segment. A segment is left after the append that reaches it."""

_SLICE_BYTES = 1 << 20
_SYNC_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """An open, locked segment."""

    name: SegmentName
    file: IFile


def lock_segment(file: IFile) -> None:
    """Take the segment's lock; StorageError, and the file closed, when another has it."""
    try:
        file.lock()
    except BlockingIOError as error:
        file.close()
        raise StorageError(
            f"wal: {file.path} is locked: another process is using this data directory"
        ) from error
    except OSError:
        file.close()
        raise


def remove_temporary_files(fs: IFilesystem, directory: str) -> None:
    """Remove segments that were prepared but never used, or used but never acknowledged."""
    for name in fs.listdir(directory):
        if name.endswith(".tmp"):
            fs.remove(posixpath.join(directory, name))


class NextSegment:
    """The file that the next change of segments takes.

    ``prepare`` runs on a worker thread and writes real zeros, slice by slice; ``take`` never waits
    for it but makes a plain preallocated file instead. The names are etcd's ``0.tmp`` and
    ``1.tmp`` in turn, since the last one taken may still have its own.
    """

    def __init__(self, fs: IFilesystem, directory: str, segment_bytes: int) -> None:
        self._fs = fs
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._lock = Lock()
        self._ready: IFile | None = None
        self._count = 0
        self._preparing = False
        self._closed = False

    @property
    def ready(self) -> bool:
        return self._ready is not None

    def prepare(self) -> None:
        """Have a file ready. Returns early when one is, is being made, or the log is closed."""
        with self._lock:
            if self._ready is not None or self._preparing or self._closed:
                return
            self._preparing = True
        file: IFile | None = None
        try:
            file = self._create(f"{self._count % 2}.tmp")
            self._write_zeros(file)
        except OSError:
            with self._lock:
                self._preparing = False
            if file is not None:
                self._discard(file)  # a full disk gets its bytes back
            raise
        with self._lock:
            self._preparing = False
            self._count += 1
            if not self._closed:
                self._ready = file
                return
        self._discard(file)

    def take(self) -> IFile:
        """A locked file of zeros under a temporary name."""
        with self._lock:
            file, self._ready = self._ready, None
        if file is None:
            file = self._create("cut.tmp")
            file.preallocate(self._segment_bytes)
        return file

    def close(self) -> None:
        """Remove what was made and not taken."""
        with self._lock:
            self._closed = True
            file, self._ready = self._ready, None
        if file is not None:
            self._discard(file)

    def _create(self, name: str) -> IFile:
        file = self._fs.open(posixpath.join(self._directory, name), create=True)
        lock_segment(file)
        file.truncate(0)  # a prepare that failed may have left something
        return file

    def _write_zeros(self, file: IFile) -> None:
        zeros = bytes(_SLICE_BYTES)
        for offset in range(0, self._segment_bytes, _SLICE_BYTES):
            if self._closed:
                return
            file.pwrite(zeros[: self._segment_bytes - offset], offset)
            # Syncing as we go keeps the disk's queue short for the log's own syncs.
            if (offset + _SLICE_BYTES) % _SYNC_BYTES == 0:
                file.sync_data()
        file.sync_data()

    def _discard(self, file: IFile) -> None:
        file.close()
        self._fs.remove(file.path)
