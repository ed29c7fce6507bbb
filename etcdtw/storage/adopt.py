"""Taking over the data directory of a stopped real etcd: its bbolt file becomes our keyspace."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256

from etcdtw.errors import StorageError
from etcdtw.storage.backend.lmdb_backend import LmdbSettings
from etcdtw.storage.backend.lmdb_environment import (
    CONSISTENT_INDEX,
    LOCK_SUFFIX,
    META,
    create,
    open_environment,
    read_position,
)
from etcdtw.storage.bolt import BoltFile
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.interfaces import IFilesystem
from etcdtw.storage.received import database_name

_STORAGE_VERSION = b"storageVersion"
_META_PAGES = 2
WRAPPED = 1 << 63
"""No log is so long: such an index comes of subtracting more than there was."""


def adopt(
    fs: IFilesystem,
    data_dir: DataDir,
    settings: LmdbSettings,
    check: Callable[[int], int],
    replace: bool = False,
) -> str | None:
    """If ``db`` of a locked data directory is a database, convert it, and set it aside; where it
    is then, or None.

    ``check`` gets its consistent index, raises StorageError when it does not fit the log, and
    returns the index to go by; on any refusal nothing is changed. A database beside a keyspace of
    ours is refused, for nobody knows which is newer, unless ``replace`` says that the database is:
    the keyspace is set aside then. Killed at any moment, the next call goes on. OSError,
    StorageError.
    """
    if not data_dir.has_database():
        return None
    with BoltFile.open(data_dir.db_path) as database:
        meta = dict(database.scan(META))
        if _STORAGE_VERSION in meta:
            version = meta[_STORAGE_VERSION].decode(errors="replace")
            raise StorageError(
                f"{data_dir.db_path}: the database was written by etcd {version}, which this build "
                "does not read; etcdctl downgrade brings it to 3.5"
            )
        index = _index(meta)
        source = _fingerprint(database)
        if fs.exists(settings.path):
            ours, origin = _position_and_source(settings)
            if origin == source and (ours >= index or index >= WRAPPED):
                # Converted before; only the renaming is missing.
                return data_dir.set_database_aside()
            if not replace:
                raise StorageError(
                    f"{data_dir.db_path} (at index {index}) is a database of etcd, and "
                    f"{settings.path} (at index {ours}) a keyspace of etcdtw: remove the older "
                    "one, or take over the database with --adopt"
                )
        position = check(index).to_bytes(8, "big")
        if fs.exists(settings.path):
            fs.rename(settings.path, settings.path + ".replaced")
            if fs.exists(settings.path + LOCK_SUFFIX):
                fs.remove(settings.path + LOCK_SUFFIX)
        create(
            fs,
            settings.path,
            settings.map_bytes,
            source=source,
            buckets=(
                (name, _at(database.scan(name), position) if name == META else database.scan(name))
                for name in database.buckets()
            ),
            sync=settings.sync,
        )
    return data_dir.set_database_aside()


def use_received(fs: IFilesystem, data_dir: DataDir, index: int) -> None:
    """Let the database that came with the snapshot at ``index`` take the place of an older ``db``,
    as etcd does at its next start when it died before it could. StorageError, OSError."""
    received = posixpath.join(data_dir.snap_dir, database_name(index))
    if index and fs.exists(received):
        if database_index(data_dir.db_path) < index:
            data_dir.replace_database(received)
        else:
            fs.remove(received)


def database_index(path: str) -> int:
    """The entry up to which a database of etcd has everything. OSError, StorageError."""
    with BoltFile.open(path) as database:
        return _index(dict(database.scan(META)))


def _index(meta: dict[bytes, bytes]) -> int:
    return int.from_bytes(meta.get(CONSISTENT_INDEX, b""), "big")


def _at(records: Iterable[tuple[bytes, bytes]], position: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records with this consistent index."""
    for key, value in records:
        yield key, position if key == CONSISTENT_INDEX else value


def _fingerprint(database: BoltFile) -> bytes:
    """Changes with every transaction of the database."""
    with open(database.path, "rb") as file:
        return sha256(file.read(_META_PAGES * database.page_size)).digest()


def _position_and_source(settings: LmdbSettings) -> tuple[int, bytes]:
    opened = open_environment(os.fspath(settings.path), settings.map_bytes, sync=settings.sync)
    try:
        with opened.env.begin() as txn:
            return read_position(txn, opened.databases)[0], opened.marker.source
    finally:
        opened.env.close()
