"""Databases that came with a snapshot from another member: kept as etcd keeps them, then made our
keyspace.

The steps, each durable before the next: the database lies beside its place and is renamed to
``<index>.snap.db``; the snapshot's ``.snap`` and its record in the log say that it counts; how far
the database got, which may be further than the snapshot, is noted; the keyspace is made from it and
takes the place of the old one; the database goes. A start between any
two goes on from there.
"""

from __future__ import annotations

import os
import posixpath
import subprocess
import sys
import threading
import time

from etcdtw.errors import StorageError
from etcdtw.storage.backend.lmdb_backend import LmdbSettings
from etcdtw.storage.backend.lmdb_environment import (
    LOCK_SUFFIX,
    open_environment,
    read_position,
    remove_leftovers,
)
from etcdtw.storage.convert import convert
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.interfaces import IFile, IFilesystem
from etcdtw.storage.snap import SnapStore

CONVERTED_SUFFIX = ".received"
UPLOAD_PREFIX = "tmp.received."
"""Files of such names are removed at the start."""
CONVERT_SECONDS = 600.0


def database_name(index: int) -> str:
    """What etcd calls the database of a snapshot at this index."""
    return f"{index:016x}.snap.db"


class Upload:
    """Takes a database piece by piece into a file of its own."""

    def __init__(self, directory: str) -> None:
        self._number = id(self)
        self.path = posixpath.join(directory, f"{UPLOAD_PREFIX}{self._number:x}")
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.size = 0
        self.begun = time.monotonic()

    def write(self, data: bytes) -> None:
        """OSError when it cannot be taken."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.size += len(data)

    def discard(self) -> None:
        """It is not wanted."""
        self.close()
        if os.path.exists(self.path):
            os.remove(self.path)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def keep_as(self, path: str) -> float:
        """Give it its name, durably; how many seconds the disk took. Blocks."""
        begin = time.monotonic()
        os.fdatasync(self._fd)
        took = time.monotonic() - begin
        self.close()
        os.rename(self.path, path)
        _sync_directory(posixpath.dirname(path))
        return took


class Conversion:
    """Makes a keyspace file of a database, in a process of its own; one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._stopped = False

    def run(self, database: str, keyspace: str) -> None:
        """Blocks. StorageError."""
        command = [sys.executable, "-m", "etcdtw.storage.convert", database, keyspace]
        path = os.pathsep.join(each for each in sys.path if each)
        with self._lock:
            if self._stopped:
                raise StorageError("the member is stopping")
            child = self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        try:
            _, said = child.communicate(timeout=CONVERT_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            said = f"not done after {CONVERT_SECONDS:g} s"
        finally:
            self._child = None
        if child.returncode:
            raise StorageError(f"{database} cannot be taken over: {said.strip()[-500:]}")

    def stop(self) -> None:
        """End a child under way, and begin none any more."""
        with self._lock:
            self._stopped = True
            if self._child is not None:
                self._child.kill()


def install(
    fs: IFilesystem, settings: LmdbSettings, snap_dir: str, index: int, unwanted: list[IFile]
) -> bool:
    """At the start, before the keyspace is opened: if the log stands on a snapshot at ``index``
    that came with a database which the keyspace has not got yet, put that in its place. Whether it
    did. OSError, StorageError.

    ``unwanted`` gets the files that lost their names by that, for ``give_back``: freeing gigabytes
    at once would stop whoever else is served by this thread.
    """
    database = posixpath.join(snap_dir, database_name(index))
    converted = settings.path + CONVERTED_SUFFIX
    wanted = index > 0 and fs.exists(database)
    if wanted and not (fs.exists(settings.path) and _position(settings) >= index):
        if not fs.exists(converted) or _position(settings, CONVERTED_SUFFIX) < index:
            convert(fs, database, converted, settings.sync)
        SnapStore(fs, snap_dir).note_received(_position(settings, CONVERTED_SUFFIX))
        if fs.exists(settings.path + LOCK_SUFFIX):
            fs.remove(settings.path + LOCK_SUFFIX)
        if fs.exists(settings.path):
            unwanted.append(fs.open(settings.path))
        fs.rename(converted, settings.path)
        fs.sync_dir(snap_dir)
        installed = True
    else:
        installed = False
    _remove_leftovers(fs, converted)
    if wanted:
        unwanted.append(fs.open(database))
        fs.remove(database)
    # Others were received by lives that ended before they could say so.
    SnapStore(fs, snap_dir).remove_databases_before(index)
    return installed


def withdraw(database: str, converted: str) -> None:
    """Remove a database that is not wanted after all, and what was made of it. Blocks. OSError."""
    fs = OsFilesystem()
    if fs.exists(database):
        fs.remove(database)
    _remove_leftovers(fs, converted)


def _remove_leftovers(fs: IFilesystem, converted: str) -> None:
    remove_leftovers(fs, converted)
    for leftover in (converted, converted + LOCK_SUFFIX):
        if fs.exists(leftover):
            fs.remove(leftover)


def _position(settings: LmdbSettings, suffix: str = "") -> int:
    opened = open_environment(settings.path + suffix, settings.map_bytes, sync=settings.sync)
    try:
        with opened.env.begin() as txn:
            return read_position(txn, opened.databases)[0]
    finally:
        opened.env.close()


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
