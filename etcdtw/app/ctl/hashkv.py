"""HashKV of a keyspace that no member is using."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from twisted.internet.task import Clock

from etcdtw.errors import StorageError
from etcdtw.mvcc.interfaces import KEY_BUCKET, META_BUCKET
from etcdtw.mvcc.store import Store
from etcdtw.storage.backend.lmdb_backend import LmdbSettings, open_backend
from etcdtw.storage.backend.lmdb_environment import create, map_bytes
from etcdtw.storage.backend.lmdb_view import open_view
from etcdtw.storage.bolt import BoltFile
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.worker import InlineWorker

Buckets = list[tuple[bytes, Iterable[tuple[bytes, bytes]]]]


class OfflineHash(NamedTuple):
    """What members compare; see ``mvcc.hash.HashKV``."""

    hash: int
    revision: int
    compact_revision: int


def offline_hash(path: str, revision: int = 0) -> OfflineHash:
    """HashKV at a revision (0: the newest) of a bbolt file, a snapshot, or a stopped member's data
    directory, where the log may know newer revisions than the keyspace.

    It is computed on a copy, since it brings an unfinished compaction to its end first.
    StorageError, OSError, Compacted, FutureRevision.
    """
    fs = OsFilesystem(sync=False)
    with tempfile.TemporaryDirectory() as directory, _opened(path) as buckets:
        settings = LmdbSettings(os.path.join(directory, "kv.lmdb"), sync=False)
        create(fs, settings.path, settings.map_bytes, buckets=buckets, sync=False)
        backend = open_backend(fs, settings, Clock(), InlineWorker())
        try:
            job = Store(backend).hash_kv(revision)
            while not job.step():
                pass
        finally:
            backend.close()
    return OfflineHash(job.hash, job.revision, job.compact_revision)


@contextmanager
def _opened(path: str) -> Iterator[Buckets]:
    """The buckets that a hash needs."""
    if not os.path.isdir(path):
        with BoltFile.open(path) as file:
            yield [(name, file.scan(name)) for name in _needed(file.buckets())]
        return
    data_dir = DataDir(OsFilesystem(), path)
    # The log may lie elsewhere (--wal-dir), and is not needed.
    if not os.path.exists(data_dir.db_path):
        raise StorageError(f"{path} is not the data directory of a member")
    data_dir.lock()
    try:
        if data_dir.has_database():
            with _opened(data_dir.db_path) as buckets:
                yield buckets
            return
        keyspace = data_dir.backend_path
        view = open_view(keyspace, map_bytes(os.path.getsize(keyspace)), "hashkv")
        try:
            yield [(name, view.scan(name, b"", None)) for name in _needed(view.buckets())]
        finally:
            view.close()
    finally:
        data_dir.unlock()


def _needed(names: Iterable[bytes]) -> list[bytes]:
    return [name for name in names if name in (KEY_BUCKET, META_BUCKET)]
