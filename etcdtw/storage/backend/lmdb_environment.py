"""The LMDB file of a member's keyspace: opening it, what marks it as ours, and making it.

The file holds one named database for each of etcd's buckets, with etcd's keys and values
(``lmdb_keys`` has the one exception), the consistent index and its term in ``meta`` among them; and
one database of our own with the marker. Beside it lies LMDB's lock file, ``-lock`` at its end.
"""

from __future__ import annotations

import os
import posixpath
import subprocess
import sys
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import lmdb

from etcdtw.errors import CorruptError, StorageError
from etcdtw.storage.backend.lmdb_keys import LONG_NAMES, stored_key, stored_value
from etcdtw.storage.interfaces import IFilesystem

FORMAT = 1
META = b"meta"
CONSISTENT_INDEX = b"consistent_index"
TERM = b"term"
POSITION_KEYS = frozenset((CONSISTENT_INDEX, TERM))
MARKER_BUCKET = b"etcdtw"
"""The name of the database that no bucket has."""
SLICE_RECORDS = 256
"""So many records go to LMDB in one call: a thread in it holds up all others."""
LOCK_SUFFIX = "-lock"
TEMPORARY_SUFFIX = ".tmp"

_FORMAT_KEY = b"format"
_SOURCE_KEY = b"source"
_MAP_BYTES_MIN = 64 << 30
_MAP_BYTES_MAX = 16 << 40
"""Several of these have room in what a processor can address."""
_BUCKETS_MAX = 64
_READERS_MAX = 126
_RECORDS_PER_TRANSACTION = 50_000

_READ_ALL = """
import lmdb, sys
env = lmdb.open(sys.argv[1], subdir=False, readonly=True, lock=False, max_dbs=64)
names = [name for name, _ in env.begin().cursor()]
for database in [env.open_db(name, create=False) for name in names]:
    for record in env.begin().cursor(database):
        pass
"""

Databases = dict[bytes, lmdb._Database]
Records = Iterable[tuple[bytes, bytes]]


class Marker(NamedTuple):
    """``format`` is the layout of the file; ``source`` the fingerprint of what it was converted
    from, empty for a keyspace that began here."""

    format: int
    source: bytes


class Environment(NamedTuple):
    """An open file: its LMDB environment, its marker, and its buckets."""

    env: lmdb.Environment
    marker: Marker
    databases: Databases


def map_bytes(quota_bytes: int) -> int:
    """The address space to map for a keyspace of this quota. It is fixed while the file is open,
    so it is far more than is ever used; only what is used takes memory."""
    return min(max(10 * quota_bytes, _MAP_BYTES_MIN), _MAP_BYTES_MAX)


def open_environment(
    path: str, map_size: int, *, sync: bool = True, readonly: bool = False
) -> Environment:
    """Open a file made by ``create``; StorageError when it is not one.

    Without ``sync`` a power cut may leave it unreadable. Slots of readers that died are freed.
    """
    env = _open(path, map_size, sync, readonly)
    try:
        env.reader_check()
        _require_whole(path, env)
        with env.begin() as txn:
            names = list(txn.cursor().iternext(values=False))
        if MARKER_BUCKET not in names:
            raise StorageError(f"{path}: this LMDB file is not a keyspace of etcdtw")
        databases = {name: env.open_db(name, create=False) for name in names}
        with env.begin() as txn:
            marker = _read_marker(txn, databases.pop(MARKER_BUCKET))
        if marker.format != FORMAT:
            raise StorageError(
                f"{path}: the keyspace has format {marker.format}, this build reads {FORMAT}"
            )
    except lmdb.Error as error:
        env.close()
        raise CorruptError(f"{path}: the keyspace cannot be read: {error}") from error
    except BaseException:
        env.close()
        raise
    return Environment(env, marker, databases)


def _open(path: str, map_size: int, sync: bool, readonly: bool = False) -> lmdb.Environment:
    try:
        return lmdb.open(
            path,
            map_size=map_size,
            subdir=False,
            readonly=readonly,
            sync=sync,
            metasync=sync,
            mode=0o600,
            max_readers=_READERS_MAX,
            max_dbs=_BUCKETS_MAX,
            lib_version=0,
        )
    except lmdb.Error as error:
        raise StorageError(f"{path}: the keyspace cannot be opened: {error}") from error


def _require_whole(path: str, env: lmdb.Environment) -> None:
    """CorruptError for a file that was cut short: whoever reads what is missing is ended by the
    system, without a word. Pages that nothing refers to may be missing at the end, so it is read
    all through, by a process that may end."""
    size = os.path.getsize(path)
    wanted = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if size >= wanted:
        return
    reader = subprocess.run([sys.executable, "-c", _READ_ALL, path], stderr=subprocess.DEVNULL)
    if reader.returncode:
        raise CorruptError(f"{path}: the keyspace was cut short, to {size} of {wanted} bytes")


def _read_marker(txn: lmdb.Transaction[bytes], database: lmdb._Database) -> Marker:
    number = txn.get(_FORMAT_KEY, b"", db=database)
    return Marker(int.from_bytes(number, "big"), txn.get(_SOURCE_KEY, b"", db=database))


def read_position(txn: lmdb.Transaction[bytes], databases: Databases) -> tuple[int, int]:
    """Consistent index and term; zeros when no entry was written yet."""
    meta = databases.get(META)
    if meta is None:
        return 0, 0
    index, term = (txn.get(key, b"", db=meta) for key in (CONSISTENT_INDEX, TERM))
    return int.from_bytes(index, "big"), int.from_bytes(term, "big")


def create(
    fs: IFilesystem,
    path: str,
    map_size: int,
    *,
    source: bytes = b"",
    buckets: Iterable[tuple[bytes, Records]] = (),
    sync: bool = True,
) -> None:
    """Make the file with these records (in ``meta`` also the consistent index and term), replacing
    one that is there.

    It grows beside its place and is renamed when it is whole and on disk: killed at any moment,
    there is either what was before or all of it, and the next call starts anew. Runs to its end on
    the calling thread; OSError or StorageError.
    """
    temporary = path + TEMPORARY_SUFFIX
    remove_leftovers(fs, path)
    env = _open(temporary, map_size, sync)
    try:
        with env.begin(write=True) as txn:
            database = env.open_db(MARKER_BUCKET, txn=txn)
            txn.put(_FORMAT_KEY, FORMAT.to_bytes(4, "big"), db=database)
            txn.put(_SOURCE_KEY, source, db=database)
        for name, records in buckets:
            _fill(env, name, records)
    except lmdb.Error as error:
        raise StorageError(f"{temporary}: the keyspace cannot be written: {error}") from error
    finally:
        env.close()
    put_in_place(fs, temporary, path)


def _fill(env: lmdb.Environment, name: bytes, records: Records) -> None:
    rest = iter(records)
    if name in LONG_NAMES:
        rest = ((stored_key(key), stored_value(key, value)) for key, value in records)
    with env.begin(write=True) as txn:
        database = env.open_db(name, txn=txn)
    while True:
        with env.begin(write=True) as txn, txn.cursor(database) as cursor:
            for _ in range(0, _RECORDS_PER_TRANSACTION, SLICE_RECORDS):
                piece = list(islice(rest, SLICE_RECORDS))
                if not piece:
                    return
                put_sorted(cursor, piece)


def put_sorted(cursor: lmdb.Cursor[bytes], records: list[tuple[bytes, bytes]]) -> None:
    """Put records, best in ascending order: behind all others they are appended, which is faster
    and fills pages."""
    if not cursor.last() or cursor.key() < records[0][0]:
        taken, added = cursor.putmulti(records, append=True)
        if added == taken:
            return
    # Appending skips what does not belong at the end, so everything is put once more.
    cursor.putmulti(records)


def put_in_place(fs: IFilesystem, temporary: str, path: str) -> None:
    """Rename a closed, synced file to its place, durably."""
    fs.rename(temporary, path)
    if fs.exists(temporary + LOCK_SUFFIX):
        fs.remove(temporary + LOCK_SUFFIX)
    fs.sync_dir(posixpath.dirname(path))


def remove_leftovers(fs: IFilesystem, path: str) -> None:
    """Remove what an interrupted ``create`` or defragmentation left beside the file."""
    for suffix in (TEMPORARY_SUFFIX, TEMPORARY_SUFFIX + LOCK_SUFFIX):
        if fs.exists(path + suffix):
            fs.remove(path + suffix)
