"""Snapshots of the replicated state in files of etcd's ``.snap`` format (docs/formats/snap.md)."""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Callable, Iterable

from google_crc32c import value as crc32c

from etcdtw.counting import Histogram, doubling
from etcdtw.errors import CorruptError
from etcdtw.raft.codec import decode_fields, decode_snapshot, encode_snapshot
from etcdtw.raft.messages import Snapshot
from etcdtw.storage.filesystem import write_synced
from etcdtw.storage.interfaces import IFilesystem
from etcdtw.storage.wal.records import WalSnapshot
from etcdtw.varint import varint

_MODE = 0o666
"""etcd's, less the umask; everything else in a data directory is 0600."""

RECEIVED_NAME = "received"
"""The file that has ``received_index``."""

_SNAP_DB = re.compile(r"([0-9a-f]{16})\.snap\.db")


class SnapStore:
    """The ``.snap`` files of one directory. Every call blocks.

    ``broken`` lists the files that were renamed because they could not be read, for the log.
    """

    def __init__(self, fs: IFilesystem, directory: str) -> None:
        self._fs = fs
        self._directory = directory
        self.broken: list[str] = []
        self.save_seconds = Histogram(doubling(0.001, 14))
        self.sync_seconds = Histogram(doubling(0.001, 14))

    def save(self, snapshot: Snapshot) -> str:
        """Write a snapshot, durable when this returns; its path.

        Only then may the WAL say that it exists.
        """
        assert snapshot.index > 0, "a snapshot of nothing is not saved"
        begin = time.monotonic()
        name = f"{snapshot.term:016x}-{snapshot.index:016x}.snap"
        path = posixpath.join(self._directory, name)
        # Files whose names begin with tmp are removed at the next start, by etcd as well.
        building = posixpath.join(self._directory, "tmp." + name)
        file = self._fs.open(building, create=True, mode=_MODE)
        try:
            file.truncate(0)
            file.pwrite(encode_snap_file(snapshot), 0)
            written = time.monotonic()
            file.sync_data()
            self.sync_seconds.observe(time.monotonic() - written)
        finally:
            file.close()
        self._fs.rename(building, path)
        self._fs.sync_dir(self._directory)
        self.save_seconds.observe(time.monotonic() - begin)
        return path

    def names(self) -> list[str]:
        """Names of the ``.snap`` files, newest first."""
        return [name for name in reversed(self._fs.listdir(self._directory)) if _is_snap(name)]

    def load(self, name: str) -> Snapshot:
        """One file's snapshot; CorruptError with etcd's texts when it is not whole."""
        path = posixpath.join(self._directory, name)
        file = self._fs.open_readonly(path)
        try:
            data = file.pread(file.size(), 0)
        finally:
            file.close()
        try:
            return decode_snap_file(data)
        except ValueError as error:
            raise CorruptError(f"{error}: {path}") from None

    def load_newest(
        self, valid: Callable[[int], Iterable[WalSnapshot]] | None, only_look: bool = False
    ) -> Snapshot | None:
        """The newest readable snapshot, or None.

        ``valid`` gives the snapshots from an index on that the WAL vouches for; others are passed
        over, as left by a run that died in between. None: any will do. A file that cannot be read
        is renamed to ``.broken``, unless ``only_look``, and the next older one is tried.
        """
        for name in self.names():
            try:
                snapshot = self.load(name)
            except CorruptError:
                if not only_look:
                    path = posixpath.join(self._directory, name)
                    self._fs.rename(path, path + ".broken")
                    self.broken.append(path)
                continue
            if valid is None:
                return snapshot
            for each in valid(snapshot.index):
                if (each.term, each.index) == (snapshot.term, snapshot.index):
                    return snapshot
        return None

    def received_index(self) -> int:
        """How far the last received database had got when it was installed; 0 without one."""
        path = posixpath.join(self._directory, RECEIVED_NAME)
        if not self._fs.exists(path):
            return 0
        file = self._fs.open_readonly(path)
        try:
            text = file.pread(file.size(), 0)
        finally:
            file.close()
        try:
            return int(text or b"0")
        except ValueError:
            raise CorruptError(f"snap: not a number: {path}") from None

    def note_received(self, index: int) -> None:
        """Remember that the keyspace begins as far as this, durably."""
        path = posixpath.join(self._directory, RECEIVED_NAME)
        building = posixpath.join(self._directory, "tmp." + RECEIVED_NAME)
        write_synced(self._fs, building, b"%d" % index)
        self._fs.rename(building, path)
        self._fs.sync_dir(self._directory)

    def remove_databases_before(self, index: int) -> list[str]:
        """Remove received backends that wait for a snapshot older than ``index``."""
        removed = []
        for name in self._fs.listdir(self._directory):
            match = _SNAP_DB.fullmatch(name)
            if match and int(match[1], 16) < index:
                path = posixpath.join(self._directory, name)
                self._fs.remove(path)
                removed.append(path)
        return removed


def _is_snap(name: str) -> bool:
    return name.endswith(".snap") and not name.startswith("tmp")


def encode_snap_file(snapshot: Snapshot) -> bytes:
    data = encode_snapshot(snapshot)
    return b"\x08" + varint(crc32c(data)) + b"\x12" + varint(len(data)) + data


def decode_snap_file(content: bytes) -> Snapshot:
    """The snapshot in a file's bytes; ValueError with etcd's texts."""
    if not content:
        raise ValueError("snap: empty snapshot")
    crc = 0
    data = b""
    for tag, value in decode_fields(content):
        if tag == 0x08 and isinstance(value, int):
            crc = value
        elif tag == 0x12 and isinstance(value, bytes):
            data = value
        elif tag >> 3 <= 2:
            raise ValueError(f"snap: field {tag >> 3} has wire type {tag & 7}")
    if not data or crc == 0:
        raise ValueError("snap: empty snapshot")
    if crc32c(data) != crc:
        raise ValueError("snap: crc mismatch")
    return decode_snapshot(data)
