"""Going on with what a stopped etcd left, or with what ``etcdctl backup`` made of that."""

from __future__ import annotations

from twisted.logger import Logger

from etcdtw.app.alone import known_members
from etcdtw.app.parts import OpenedLog, check_keyspace
from etcdtw.apply.requests import decode_request
from etcdtw.errors import CorruptError, StorageError
from etcdtw.ids import format_id
from etcdtw.membership.member import VERSION_PATH
from etcdtw.pb.etcdserver_pb2 import Request
from etcdtw.raft.messages import EntryType
from etcdtw.storage.adopt import adopt
from etcdtw.storage.backend.lmdb_backend import LmdbSettings
from etcdtw.storage.backend.lmdb_environment import CONSISTENT_INDEX, META, TERM, create
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.interfaces import IFilesystem
from etcdtw.v2store import V2Store, recover
from etcdtw.version import parsed_version

FIRST_WITH_DATABASE = (3, 0)

log = Logger(namespace="etcdtw.member")


def take_over(
    fs: IFilesystem,
    data_dir: DataDir,
    keyspace: LmdbSettings,
    opened: OpenedLog,
    *,
    alone: bool,
    replace: bool,
) -> None:
    """Make the keyspace of a locked data directory that etcd has left; nothing to do in one of
    ours. ``alone`` says that the member will be the only one (``--force-new-cluster``),
    ``replace`` that a database counts more than a keyspace.

    OSError, StorageError; nothing is changed then. Killed at any moment, the next call goes on.
    """
    if data_dir.has_database():
        aside = adopt(
            fs, data_dir, keyspace, lambda index: _check_database(index, opened, alone), replace
        )
        log.info("took over the database of etcd", path=aside)
    elif not fs.exists(keyspace.path):
        _check_without_database(data_dir, opened, alone)
        snapshot = opened.snapshot
        position = [
            (CONSISTENT_INDEX, snapshot.index.to_bytes(8, "big")),
            (TERM, snapshot.term.to_bytes(8, "big")),
        ]
        if snapshot.index:
            create(fs, keyspace.path, keyspace.map_bytes, buckets=[(META, position)])


def _check_database(index: int, opened: OpenedLog, alone: bool) -> None:
    if opened.tail.last_index() and opened.member_id not in known_members(opened):
        if alone:
            # A backup; if with all keys, the log is filled up to the keyspace (``stand_alone``).
            index = min(index, opened.tail.last_index())
        else:
            raise StorageError(
                f"member {format_id(opened.member_id)} is not among those of its own log: what "
                "etcdctl backup made is started with --force-new-cluster"
            )
    check_keyspace(index, opened)


def _check_without_database(data_dir: DataDir, opened: OpenedLog, alone: bool) -> None:
    """Releases before 3.0 leave none, for they have no v3 keys; of others the log may be all that
    there is, as long as it is all there."""
    version = _cluster_version(opened)
    if version is None:
        return
    if parsed_version(version)[:2] >= FIRST_WITH_DATABASE:
        if opened.snapshot.index:
            raise StorageError(f"database file ({data_dir.db_path}) of the backend is missing")
        return
    others = len(known_members(opened).keys() - {opened.member_id})
    if others and not alone:
        raise StorageError(
            f"{data_dir.path} is of a cluster of etcd {version} with {others} more members, which "
            "this release cannot talk to: --force-new-cluster goes on without them"
        )


def _cluster_version(opened: OpenedLog) -> str | None:
    """What the members agreed on last, None where they have not yet."""
    tail = opened.tail
    first, last = tail.first_index(), tail.last_index()
    for entry in reversed(tail.entries(first, last + 1, None) if last >= first else []):
        if entry.type == EntryType.NORMAL and entry.data:
            _, request = decode_request(entry.data, entry.index)
            if isinstance(request, Request) and request.Path == VERSION_PATH:
                return request.Val
    if not opened.snapshot.index:
        return None
    tree = V2Store(lambda: 0)
    try:
        recover(tree, opened.snapshot.data or b"")
    except ValueError as error:
        raise CorruptError(f"the snapshot at index {opened.snapshot.index}: {error}") from error
    return tree.peek(VERSION_PATH)
