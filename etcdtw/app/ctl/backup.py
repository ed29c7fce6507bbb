"""Backups as ``etcdctl backup`` of the v2 API makes them: a data directory to begin a cluster with,
from that of a member of etcdtw, or of etcd from 2.1 on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from etcdtw.app.ctl.making import new_data_dir
from etcdtw.app.parts import read_log
from etcdtw.apply.requests import V2, decode_request
from etcdtw.errors import StorageError
from etcdtw.ids import RequestIds
from etcdtw.raft.messages import Entry, EntryType, HardState, Snapshot
from etcdtw.storage.backend.lmdb_environment import CONSISTENT_INDEX, META, map_bytes
from etcdtw.storage.backend.lmdb_view import open_view
from etcdtw.storage.bolt import BoltFile, write_bolt
from etcdtw.storage.bolt.writer import Scan
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.interfaces import IFilesystem
from etcdtw.storage.snap import SnapStore
from etcdtw.storage.wal import Wal, WalSnapshot, encode_metadata

_OF_MEMBERS = frozenset((b"members", b"members_removed", b"cluster"))


def backup(
    fs: IFilesystem,
    source: DataDir,
    directory: str,
    wal_dir: str | None,
    ids: RequestIds,
    with_v3: bool = False,
) -> None:
    """Make ``directory`` a backup of ``source``, of which nothing is changed: its snapshot and log
    under new ids. The members in it are those of old, until ``--force-new-cluster`` puts the one
    that starts in their place.

    Without ``with_v3`` the entries of v3 keys become empty ones, so that every index stays what it
    was; those about members stay, for they count in the tree as well (etcdctl of 3.x drops them,
    and v2 keys get other indexes). The member may be running, but not ``with_v3``: StorageError
    then, for a source without a log, and for a target that exists; CorruptError; OSError.
    """
    if not source.has_wal():
        raise StorageError(f"{source.path} is not the data directory of a member: it has no log")
    snapshot, contents = read_log(fs, source)
    entries = contents.entries if with_v3 else list(_without_v3(contents.entries))
    newest: Entry | Snapshot = entries[-1] if entries else snapshot
    with ExitStack() as open_files:
        if with_v3:
            buckets, scan = open_files.enter_context(
                _v3_records(fs, source, snapshot.index, newest.index)
            )
        else:
            buckets, scan = [META], lambda bucket: iter([_position(newest.index)])
        target = open_files.enter_context(new_data_dir(fs, directory, wal_dir))
        write_bolt(target.db_path, buckets, scan)
        if snapshot.index:
            SnapStore(fs, target.snap_dir).save(snapshot)
        # Nobody has voted for the new id, and all that is there counts.
        term = max(contents.hard_state.term, newest.term)
        state = HardState(term, 0, newest.index)
        metadata = encode_metadata(ids.next(), ids.next())
        wal = Wal.create(fs, target.wal_dir, metadata, state=state, entries=entries)
        if snapshot.index:
            wal.save_snapshot(WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state))
            wal.sync()
        wal.close()


def _without_v3(entries: Iterable[Entry]) -> Iterator[Entry]:
    for entry in entries:
        if entry.type == EntryType.NORMAL and entry.data:
            kind, _ = decode_request(entry.data, entry.index)
            if kind != V2:
                entry = Entry(entry.term, entry.index)
        yield entry


def _position(index: int) -> tuple[bytes, bytes]:
    return CONSISTENT_INDEX, index.to_bytes(8, "big")


@contextmanager
def _v3_records(
    fs: IFilesystem, source: DataDir, first: int, last: int
) -> Iterator[tuple[list[bytes], Scan]]:
    """Buckets and records of a stopped member whose log begins behind ``first``."""
    if not fs.exists(source.db_path):
        raise StorageError(f"{source.path} has no v3 keys")
    source.lock()
    try:
        with ExitStack() as open_files:
            buckets, scan = _records(fs, source, open_files)
            index = int.from_bytes(dict(scan(META)).get(CONSISTENT_INDEX, b""), "big")
            if not first <= index <= last:
                raise StorageError(
                    f"the keyspace of {source.path} is at index {index}, and does not belong to "
                    f"its log, from {first} to {last}"
                )
            yield [each for each in buckets if each not in _OF_MEMBERS], scan
    finally:
        source.unlock()


def _records(
    fs: IFilesystem, source: DataDir, open_files: ExitStack
) -> tuple[Iterable[bytes], Scan]:
    ours = source.backend_path
    if not source.has_database():
        view = open_view(ours, map_bytes(os.path.getsize(ours)), "backup")
        open_files.callback(view.close)
        return view.buckets(), lambda bucket: view.scan(bucket, b"", None)
    if fs.exists(ours):
        raise StorageError(f"both {source.db_path} and {ours} are there: remove the older one")
    database = open_files.enter_context(BoltFile.open(source.db_path))
    return database.buckets(), database.scan
