"""Going on with what a stopped etcd left, or with what ``etcdctl backup`` made of that."""

from __future__ import annotations

from twisted.logger import Logger

from etcdtw.app.alone import known_members, members_after
from etcdtw.app.parts import OpenedLog, check_keyspace, read_log
from etcdtw.apply.requests import decode_request
from etcdtw.errors import CorruptError, StorageError
from etcdtw.ids import format_id
from etcdtw.membership.member import VERSION_PATH
from etcdtw.pb.etcdserver_pb2 import Request
from etcdtw.raft.messages import Entry, EntryType, Snapshot
from etcdtw.storage.adopt import WRAPPED, adopt, database_index
from etcdtw.storage.backend.lmdb_backend import LmdbSettings
from etcdtw.storage.backend.lmdb_environment import CONSISTENT_INDEX, META, TERM, create
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.interfaces import IFilesystem
from etcdtw.storage.wal import decode_metadata
from etcdtw.v2store import V2Store, recover
from etcdtw.version import parsed_version

FIRST_WITH_DATABASE = (3, 0)

log = Logger(namespace="etcdtw.member")


def check_without_database(fs: IFilesystem, data_dir: DataDir, alone: bool) -> None:
    """Before the log of a locked data directory is opened: whether it is enough, if there is
    neither a database nor a keyspace. StorageError, CorruptError, OSError; nothing is changed.

    Releases before 3.0 leave no database, for they have no v3 keys. With later ones the log may
    be all that there is, as long as it is all there.
    """
    if data_dir.has_database() or fs.exists(data_dir.backend_path):
        return
    snapshot, contents = read_log(fs, data_dir)
    version = _cluster_version(snapshot, contents.entries)
    if version is None:
        return
    if parsed_version(version)[:2] >= FIRST_WITH_DATABASE:
        if snapshot.index:
            raise StorageError(
                f"database file ({data_dir.db_path}) of the backend is missing, and no keyspace "
                f"({data_dir.backend_path}) is there"
            )
        return
    own_id, _ = decode_metadata(contents.metadata or b"")
    others = members_after(snapshot.conf_state, contents.entries).keys() - {own_id}
    if others and not alone:
        raise StorageError(
            f"{data_dir.path} is of a cluster of etcd {version} with {len(others)} more members, "
            "which this release cannot talk to: --force-new-cluster goes on without them"
        )


def check_without_log(fs: IFilesystem, data_dir: DataDir) -> None:
    """Before a log is begun in a locked data directory: refuse one whose keyspace has come out of a
    log, which must be somewhere. StorageError, OSError; nothing is changed.

    A run that died before it had a log leaves no keyspace, or etcd's empty one.
    """
    if fs.exists(data_dir.backend_path):
        path = data_dir.backend_path
    elif data_dir.has_database() and database_index(data_dir.db_path):
        path = data_dir.db_path
    else:
        return
    raise StorageError(
        f"no log is in {data_dir.wal_dir}, but {path} has a keyspace: the log lies elsewhere "
        "(--wal-dir), or is lost"
    )


def _cluster_version(snapshot: Snapshot, entries: list[Entry]) -> str | None:
    """What the members agreed on last, None where they have not yet."""
    for entry in reversed(entries):
        if entry.type == EntryType.NORMAL and entry.data:
            _, request = decode_request(entry.data, entry.index)
            if isinstance(request, Request) and request.Path == VERSION_PATH:
                return request.Val
    if not snapshot.index:
        return None
    tree = V2Store(lambda: 0)
    try:
        recover(tree, snapshot.data or b"")
    except ValueError as error:
        raise CorruptError(f"the snapshot at index {snapshot.index}: {error}") from error
    return tree.peek(VERSION_PATH)


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
            fs, data_dir, keyspace, lambda index: check_database(index, opened, alone), replace
        )
        log.info("took over the database of etcd", path=aside)
    elif opened.snapshot.index and not fs.exists(keyspace.path):
        # Before the snapshot nobody had written v3 keys.
        position = [
            (CONSISTENT_INDEX, opened.snapshot.index.to_bytes(8, "big")),
            (TERM, opened.snapshot.term.to_bytes(8, "big")),
        ]
        create(fs, keyspace.path, keyspace.map_bytes, buckets=[(META, position)])


def check_database(index: int, opened: OpenedLog, alone: bool) -> int:
    """The entry up to which a database has everything, if it goes with the log. StorageError."""
    last = opened.tail.last_index()
    if last and opened.member_id not in known_members(opened):
        if not alone:
            raise StorageError(
                f"member {format_id(opened.member_id)} is not among those of its own log: what "
                "etcdctl backup made is started with --force-new-cluster"
            )
        if index >= WRAPPED:
            # etcdctl takes the entries it leaves out from the commit index, and that lags behind.
            index = opened.snapshot.index
        # A backup with v3 keys may be ahead of its log, which is filled up then (stand_alone).
        check_keyspace(min(index, last), opened)
        return index
    check_keyspace(index, opened)
    return index
