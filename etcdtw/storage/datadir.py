"""The data directory: what lies where, who holds it, and what may be thrown away."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from etcdtw.errors import StorageError
from etcdtw.storage.interfaces import IFile, IFilesystem
from etcdtw.storage.wal import is_wal_directory, newest_segment


class DataDirKind(Enum):
    """What a data directory belongs to."""

    EMPTY = "empty"
    MEMBER = "member"
    PROXY = "proxy"


_INDEX_DIGITS = 16

STAND_IN = b"""\
This is not a database. The keyspace of this etcdtw member is in kv.lmdb, beside this file.

To use it with etcd, etcdctl or etcdutl stop the member and run

    etcdtw ctl export-db --data-dir DIR

which puts etcd's own database in the place of this file. Do not remove this file.
"""
"""What ``db`` holds while the keyspace is elsewhere: programs that open it say that it is not a
valid database, and change nothing."""

NOTE = "bootstrap.note"
"""Beside ``member`` until that has a log: see ``etcdtw.storage.note``."""

_DATABASE_BYTES_MIN = 1024
"""bbolt's two meta pages, however small; less is what a crash left of a stand-in."""


@dataclass(frozen=True, slots=True)
class DataDirContents:
    """``warnings`` are sentences about names that do not belong there."""

    kind: DataDirKind
    warnings: tuple[str, ...]


class DataDir:
    """Paths under ``data_dir``, etcd's layout. ``wal_dir`` replaces ``member/wal``."""

    def __init__(self, fs: IFilesystem, data_dir: str, wal_dir: str | None = None) -> None:
        self._fs = fs
        self._lock_file: IFile | None = None
        self._made_stand_in = False
        self.path = data_dir
        self.member_dir = posixpath.join(data_dir, "member")
        self.proxy_dir = posixpath.join(data_dir, "proxy")
        self.snap_dir = posixpath.join(self.member_dir, "snap")
        self.wal_dir = wal_dir or posixpath.join(self.member_dir, "wal")
        self.backend_path = posixpath.join(self.snap_dir, "kv.lmdb")
        self.db_path = posixpath.join(self.snap_dir, "db")

    def contents(self) -> DataDirContents:
        """What is there; StorageError when it belongs to both a member and a proxy."""
        names = self._fs.listdir(self.path) if self._fs.isdir(self.path) else []
        if "member" in names and "proxy" in names:
            raise StorageError("invalid datadir; both member and proxy directories exist")
        kind = DataDirKind.EMPTY
        if "member" in names:
            kind = DataDirKind.MEMBER
        elif "proxy" in names:
            kind = DataDirKind.PROXY
        warnings = tuple(
            f"found invalid file under data directory: {name} in {self.path}"
            for name in names
            if name not in ("member", "proxy", NOTE)
        )
        return DataDirContents(kind, warnings)

    def has_wal(self) -> bool:
        """Whether a member has run here before."""
        return is_wal_directory(self._fs, self.wal_dir)

    def create(self) -> None:
        """Make the directories that a member needs, durably, except the WAL's own: that one
        appears whole, with its first segment."""
        for directory in (self.snap_dir, posixpath.dirname(self.wal_dir)):
            self._make(directory)

    def _make(self, directory: str) -> None:
        missing = []
        while not self._fs.isdir(directory):
            missing.append(directory)
            directory = posixpath.dirname(directory)
        for each in reversed(missing):
            self._fs.makedirs(each)
            self._fs.sync_dir(posixpath.dirname(each))

    def lock(self) -> None:
        """Hold the directory against every other process, a real etcd included.

        bbolt takes an flock on ``db``, so that file is locked although the data lives elsewhere;
        a stand-in is made where there is none. StorageError when another process has it.
        """
        assert self._lock_file is None, "the data directory is locked already"
        is_new = not self._fs.exists(self.db_path)
        if is_new:
            self._require_unused_log()
        file = self._fs.open(self.db_path, create=True)
        try:
            file.flock()
            if file.size() < _DATABASE_BYTES_MIN and not self._is_stand_in(file):
                file.truncate(0)
                file.pwrite(STAND_IN, 0)
                file.sync_data()
                self._fs.sync_dir(self.snap_dir)
        except BlockingIOError as error:
            file.close()
            raise StorageError(
                f"{self.db_path} is locked: another process is using this data directory"
            ) from error
        except OSError:
            file.close()
            raise
        self._lock_file = file
        self._made_stand_in = is_new

    def _require_unused_log(self) -> None:
        """etcd before 3.0 has no ``db``; it takes an flock on its segments."""
        if not self.has_wal():
            return
        segment = self._fs.open_readonly(newest_segment(self._fs, self.wal_dir))
        try:
            segment.flock()
        except BlockingIOError as error:
            raise StorageError(
                f"{segment.path} is locked: another process is using this data directory"
            ) from error
        finally:
            segment.close()

    def has_database(self) -> bool:
        """Whether ``db`` is more than a stand-in. The directory must be locked."""
        assert self._lock_file is not None, "the data directory is not locked"
        return not self._is_stand_in(self._lock_file)

    def _is_stand_in(self, file: IFile) -> bool:
        size = file.size()
        return size == len(STAND_IN) and file.pread(size, 0) == STAND_IN

    def set_database_aside(self) -> str:
        """Rename ``db`` to ``db.adopted``, durably, and lock a stand-in in its place; the new
        path."""
        aside = self.db_path + ".adopted"
        self._fs.rename(self.db_path, aside)
        self._fs.sync_dir(self.snap_dir)
        self.unlock()
        self.lock()
        return aside

    def replace_database(self, path: str) -> None:
        """Let a whole and durable file take the place of ``db``, and lock that."""
        self._fs.rename(path, self.db_path)
        self._fs.sync_dir(self.snap_dir)
        self.unlock()
        self.lock()

    def put_database(self, path: str) -> None:
        """Let a whole and durable file take the place of ``db``, and set the own keyspace aside.
        The lock ends: the directory is another program's then."""
        self._fs.rename(path, self.db_path)
        self._fs.sync_dir(self.snap_dir)
        if self._fs.exists(self.backend_path):
            self._fs.rename(self.backend_path, self.backend_path + ".exported")
            self._fs.sync_dir(self.snap_dir)
        self.unlock()

    def withdraw(self) -> None:
        """``unlock`` where a start came to nothing. A stand-in for a keyspace that never was goes:
        etcd before 3.0 does not start where there is a ``db``."""
        if self._made_stand_in and not self._fs.exists(self.backend_path):
            self._fs.remove(self.db_path)
            self._fs.sync_dir(self.snap_dir)
        self.unlock()

    def unlock(self) -> None:
        """Let go; harmless when it is not held."""
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def remove_scratch(self) -> list[str]:
        """Remove what an interrupted defragmentation or snapshot left; the names."""
        return [
            self._remove(self.snap_dir, name)
            for name in self._fs.listdir(self.snap_dir)
            if name.startswith(("db.tmp.", "tmp"))
        ]

    def purge(self, max_wals: int, max_snapshots: int, snapshot_index: int) -> Iterator[str]:
        """Remove the oldest segments, snapshots and received backends beyond these numbers
        (0: keep all), stopping at the first that somebody holds: one with each path that is taken
        from this. Blocks, for tens of milliseconds per segment.

        ``snapshot_index`` is of the newest snapshot that the log knows of: one beyond it counts
        for nothing, since a start may have to begin without it.
        """
        yield from self._purge(self.wal_dir, self._names(self.wal_dir, ".wal"), max_wals)
        for suffix in (".snap", ".snap.db"):
            names = [
                name
                for name in self._names(self.snap_dir, suffix)
                if _index_of(name, suffix) <= snapshot_index
            ]
            yield from self._purge(self.snap_dir, names, max_snapshots)

    def _names(self, directory: str, suffix: str) -> list[str]:
        return [
            name
            for name in self._fs.listdir(directory)
            if name.endswith(suffix) and not name.startswith("tmp")
        ]

    def _purge(self, directory: str, names: list[str], keep: int) -> Iterator[str]:
        if keep <= 0:
            return
        for name in names[: max(0, len(names) - keep)]:
            file = self._fs.open(posixpath.join(directory, name))
            try:
                file.lock()
                path = self._remove(directory, name)
                file.give_back()
            except BlockingIOError:
                break
            finally:
                file.close()
            yield path

    def _remove(self, directory: str, name: str) -> str:
        path = posixpath.join(directory, name)
        self._fs.remove(path)
        return path


def _index_of(name: str, suffix: str) -> int:
    """The index that ends the name of a snapshot; 0 for a file that only looks like one."""
    try:
        return int(name.removesuffix(suffix)[-_INDEX_DIGITS:], 16)
    except ValueError:
        return 0
