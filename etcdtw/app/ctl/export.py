"""Handing a data directory back: etcd's own database takes the place of our keyspace."""

from __future__ import annotations

import os
from dataclasses import replace

from etcdtw.app.parts import check_keyspace, reopen_log
from etcdtw.errors import StorageError
from etcdtw.storage.adopt import database_index
from etcdtw.storage.backend.lmdb_backend import LmdbSettings
from etcdtw.storage.backend.lmdb_environment import map_bytes
from etcdtw.storage.backend.lmdb_view import open_view
from etcdtw.storage.bolt.export import export_keyspace
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.filesystem import give_back
from etcdtw.storage.interfaces import IFile, IFilesystem
from etcdtw.storage.received import install
from etcdtw.storage.snap import SnapStore


def export_data_dir(fs: IFilesystem, directory: str, wal_dir: str | None = None) -> str:
    """Make a stopped member's data directory one that real etcd starts on; the database's path.

    The keyspace stays beside it as ``kv.lmdb.exported``. Killed at any moment, the directory is
    still ours, or the next call finishes. OSError, and StorageError when the directory is not a
    member's, is in use, or its keyspace does not fit its log.
    """
    data_dir = DataDir(fs, directory, wal_dir)
    if not data_dir.has_wal() or not fs.exists(data_dir.backend_path):
        raise StorageError(f"{directory} is not the data directory of an etcdtw member")
    data_dir.lock()
    try:
        data_dir.remove_scratch()
        snapshots = SnapStore(fs, data_dir.snap_dir)
        opened = reopen_log(fs, data_dir.wal_dir, snapshots)
        try:
            if not data_dir.has_database():
                _finish_installing(fs, data_dir, opened.snapshot.index)
                opened = replace(opened, received_index=snapshots.received_index())
            index = _keyspace_index(data_dir.backend_path)
            check_keyspace(index, opened)
            if data_dir.has_database():
                _require_index(data_dir.db_path, index)
                data_dir.put_database(data_dir.db_path)
                return data_dir.db_path
            # A name that is removed at the next start if we are killed.
            scratch = data_dir.db_path + ".tmp.export"
            export_keyspace(data_dir.backend_path, scratch)
            data_dir.put_database(scratch)
        finally:
            opened.wal.close()
    finally:
        data_dir.unlock()
    return data_dir.db_path


def _finish_installing(fs: IFilesystem, data_dir: DataDir, index: int) -> None:
    """Do what the next start of a member would that was killed with another's state half taken."""
    size = os.path.getsize(data_dir.backend_path)
    unwanted: list[IFile] = []
    install(fs, LmdbSettings(data_dir.backend_path, size), data_dir.snap_dir, index, unwanted)
    give_back(unwanted)


def _keyspace_index(path: str) -> int:
    view = open_view(path, map_bytes(os.path.getsize(path)), "export")
    try:
        return view.index
    finally:
        view.close()


def _require_index(path: str, index: int) -> None:
    """A database that is there already must be what an interrupted export left."""
    found = database_index(path)
    if found != index:
        raise StorageError(
            f"{path} is a database of etcd already (at index {found}, the keyspace is at {index})"
        )
