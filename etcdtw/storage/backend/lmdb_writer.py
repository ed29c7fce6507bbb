"""Writing a batch to LMDB: the part of the backend that runs on a worker's thread."""

from __future__ import annotations

import errno
import os
import time
from itertools import islice
from threading import get_ident
from typing import NamedTuple

import lmdb

from etcdtw.storage.backend.lmdb_environment import (
    CONSISTENT_INDEX,
    META,
    SLICE_RECORDS,
    TERM,
    Databases,
    put_sorted,
)
from etcdtw.storage.backend.lmdb_keys import LONG_NAMES, stored_key, stored_value
from etcdtw.storage.backend.lmdb_overlay import Changes, Layer

PROBE_SUFFIX = ".probe"
_NO_SPACE = frozenset((errno.ENOSPC, errno.EDQUOT))
_PROBE_BYTES_MIN = 1 << 20
_META_PAGES = 2


class Batch(NamedTuple):
    """The changes of whole log entries, later layers over earlier ones, and index and term of the
    last of the entries."""

    layers: list[Layer]
    entry_index: int
    entry_term: int

    @property
    def bytes(self) -> int:
        return sum(layer.bytes for layer in self.layers)


class Sizes(NamedTuple):
    """Bytes of the file, and of its pages that are in use."""

    total: int
    in_use: int


class Written(NamedTuple):
    """The databases there are after a commit, with those it made, the sizes, and how long the
    commit itself took."""

    databases: Databases
    sizes: Sizes
    seconds: float


class NoSpaceOnDisk(Exception):
    """A commit failed because the filesystem is full; nothing of it is there."""


class BatchWriter:
    """Writes batches, each in one transaction, all on one thread.

    LMDB requires that: a transaction that another thread ends would leave its lock taken.
    """

    def __init__(self, env: lmdb.Environment, path: str) -> None:
        self._env = env
        self._path = path
        self._thread: int | None = None

    def write(self, known: Databases, batch: Batch) -> Written:
        """Commit the batch; lmdb.Error, or NoSpaceOnDisk when that was why."""
        here = get_ident()
        assert self._thread in (None, here), "batches of one file are written by one thread"
        self._thread = here
        # A child that was killed while it read would keep pages from being reused for ever.
        self._env.reader_check()
        for is_last_try in (False, True):
            databases = dict(known)
            try:
                seconds = self._write(databases, batch)
                break
            except lmdb.Error as error:
                if _lacks_space(error, self._path, batch.bytes):
                    raise NoSpaceOnDisk(str(error)) from error
                # Room may have come since; a disk that is at fault fails again.
                if is_last_try or not _came_out_short(error):
                    raise
        return Written(databases, measure(self._env, databases), seconds)

    def _write(self, databases: Databases, batch: Batch) -> float:
        with self._env.begin(write=True) as txn:
            for layer in batch.layers:
                for name, changes in layer.buckets.items():
                    self._put(txn, self._database(txn, databases, name), name, changes)
            meta = self._database(txn, databases, META)
            txn.put(CONSISTENT_INDEX, batch.entry_index.to_bytes(8, "big"), db=meta)
            txn.put(TERM, batch.entry_term.to_bytes(8, "big"), db=meta)
            begin = time.monotonic()
            self.commit(txn)
            return time.monotonic() - begin

    def commit(self, txn: lmdb.Transaction[bytes]) -> None:
        """Tests replace this with a disk that fails."""
        txn.commit()

    def _database(
        self, txn: lmdb.Transaction[bytes], databases: Databases, name: bytes
    ) -> lmdb._Database:
        found = databases.get(name)
        if found is None:
            found = databases[name] = self._env.open_db(name, txn=txn)
        return found

    def _put(
        self,
        txn: lmdb.Transaction[bytes],
        database: lmdb._Database,
        name: bytes,
        changes: Changes,
    ) -> None:
        puts = []
        long_names = name in LONG_NAMES
        for key, value in changes.records.items():
            if value is None:
                txn.delete(stored_key(key) if long_names else key, db=database)
            elif long_names:
                puts.append((stored_key(key), stored_value(key, value)))
            else:
                puts.append((key, value))
        puts.sort()
        rest = iter(puts)
        with txn.cursor(database) as cursor:
            while piece := list(islice(rest, SLICE_RECORDS)):
                put_sorted(cursor, piece)


def measure(env: lmdb.Environment, databases: Databases) -> Sizes:
    """The sizes after the last commit. The few pages that list free pages count as free."""
    main = env.stat()
    pages = _META_PAGES
    with env.begin() as txn:
        for stat in (main, *(txn.stat(each) for each in databases.values())):
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
    total = env.info()["last_pgno"] + 1
    return Sizes(total * main["psize"], min(pages, total) * main["psize"])


def _came_out_short(error: lmdb.Error) -> bool:
    return getattr(error, "code", 0) == errno.EIO


def _lacks_space(error: lmdb.Error, path: str, batch_bytes: int) -> bool:
    """Whether a commit failed for lack of space.

    LMDB says EIO when a write came out short, which is how a full disk mostly shows. So for EIO
    the space is tried.
    """
    code = getattr(error, "code", 0)  # errors of the binding itself have none
    if isinstance(error, lmdb.DiskError) or code in _NO_SPACE:
        return True
    if not _came_out_short(error):
        return False
    probe = path + PROBE_SUFFIX
    try:
        fd = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, 2 * batch_bytes + _PROBE_BYTES_MIN)
        finally:
            os.close(fd)
            os.remove(probe)
    except OSError as problem:
        return problem.errno in _NO_SPACE
    return False
