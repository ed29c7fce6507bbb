"""The durable start of a member: its log and snapshot, and the consensus core over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from etcdtw.app.settings import MemberSettings
from etcdtw.apply.quota import DEFAULT_QUOTA_BYTES
from etcdtw.bootstrap.interfaces import ClusterPlan
from etcdtw.errors import CorruptError, StorageError
from etcdtw.membership import bootstrap_entries, founding_member
from etcdtw.raft import MemoryLog, RaftConfig, RaftNode
from etcdtw.raft.messages import EMPTY_SNAPSHOT, Entry, HardState, Snapshot
from etcdtw.storage.backend.lmdb_backend import (
    BATCH_CHANGES_MAX,
    BATCH_SECONDS,
    LmdbSettings,
)
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.interfaces import IFilesystem
from etcdtw.storage.snap import SnapStore
from etcdtw.storage.wal import (
    SEGMENT_BYTES,
    Wal,
    WalContents,
    WalSnapshot,
    decode_metadata,
    encode_metadata,
    read_wal,
    valid_snapshots,
)
from etcdtw.v2store import V2Store
from etcdtw.version import ETCD_VERSION, parsed_version

OWN_VERSION = parsed_version(ETCD_VERSION)[:2]

V2_SERVED = "not-yet"
"""The phase of ``--v2-deprecation`` that serves the v2 API."""


class Dice(Protocol):
    """A source of chance: ``random.SystemRandom`` or a seeded ``random.Random``."""

    def randrange(self, start: int, stop: int = ..., /) -> int: ...

    def random(self) -> float: ...


@dataclass(frozen=True)
class OpenedLog:
    """A WAL ready for appending, its in-memory tail, whose log it is, the snapshot that the tail
    follows (its index 0: none), and how far the keyspace was that came from another member."""

    wal: Wal
    tail: MemoryLog
    member_id: int
    cluster_id: int
    snapshot: Snapshot = EMPTY_SNAPSHOT
    received_index: int = 0


def found_log(
    fs: IFilesystem, directory: str, plan: ClusterPlan, segment_bytes: int = SEGMENT_BYTES
) -> OpenedLog:
    """The log of a founding member: the same first entries on every one of them, taken for
    committed at term 1. One that joins begins with an empty log and gets all from the others."""
    metadata = encode_metadata(plan.member_id, plan.cluster_id)
    if not plan.new:
        wal = Wal.create(fs, directory, metadata, segment_bytes)
        return OpenedLog(wal, _tail(HardState(), ()), plan.member_id, plan.cluster_id)
    entries = bootstrap_entries(
        founding_member(each.name, each.peer_urls, plan.token) for each in plan.members
    )
    state = HardState(term=1, vote=0, commit=len(entries))
    wal = Wal.create(fs, directory, metadata, segment_bytes, state, entries)
    return OpenedLog(wal, _tail(state, entries), plan.member_id, plan.cluster_id)


def reopen_log(
    fs: IFilesystem, directory: str, snapshots: SnapStore, segment_bytes: int = SEGMENT_BYTES
) -> OpenedLog:
    """The log of an earlier run, from its newest snapshot on, or from its beginning."""
    snapshot = snapshots.load_newest(None) or EMPTY_SNAPSHOT
    try:
        wal, contents = _opened_at(fs, directory, snapshot, segment_bytes)
    except StorageError:
        # Nearly always left by a run that died in between; then the log is read for what it does
        # vouch for, and once more. Whatever else is wrong will be met again.
        vouched = partial(valid_snapshots, fs, directory)
        snapshot = snapshots.load_newest(vouched) or EMPTY_SNAPSHOT
        wal, contents = _opened_at(fs, directory, snapshot, segment_bytes)
    if contents.metadata is None:
        raise CorruptError(f"wal: {directory} has no metadata record")
    member, cluster = decode_metadata(contents.metadata)
    tail = _tail(contents.hard_state, contents.entries, snapshot)
    return OpenedLog(wal, tail, member, cluster, snapshot, snapshots.received_index())


def _opened_at(
    fs: IFilesystem, directory: str, snapshot: Snapshot, segment_bytes: int
) -> tuple[Wal, WalContents]:
    """StorageError also if the log does not vouch for the snapshot: has no record of it, or none
    that it was committed."""
    start = WalSnapshot(snapshot.index, snapshot.term)
    wal, contents = Wal.open(fs, directory, start, segment_bytes)
    if contents.hard_state.commit < snapshot.index:
        wal.close()
        raise StorageError(f"wal: the snapshot at index {snapshot.index} is not committed")
    return wal, contents


def read_log(fs: IFilesystem, data_dir: DataDir) -> tuple[Snapshot, WalContents]:
    """What ``reopen_log`` would begin with, while nothing is locked, repaired or changed."""
    snapshot = EMPTY_SNAPSHOT
    if fs.isdir(data_dir.snap_dir):
        valid = partial(valid_snapshots, fs, data_dir.wal_dir)
        found = SnapStore(fs, data_dir.snap_dir).load_newest(valid, only_look=True)
        snapshot = found or EMPTY_SNAPSHOT
    start = WalSnapshot(snapshot.index, snapshot.term)
    return snapshot, read_wal(fs, data_dir.wal_dir, start)


def check_keyspace(index: int, opened: OpenedLog) -> None:
    """Refuse a keyspace as of entry ``index`` that does not belong to the log: one that lacks what
    the snapshot stands on, or has what the log does not, unless it came so from another member,
    whose log has it. StorageError."""
    if index < opened.snapshot.index:
        raise StorageError(
            "failed to recover v3 backend from snapshot: snap: snapshot file doesn't exist: the "
            f"snapshot is at index {opened.snapshot.index}, the keyspace at {index}"
        )
    last = opened.tail.last_index()
    if index > max(last, opened.received_index):
        raise StorageError(
            f"the keyspace is at index {index}, the log ends at {last}: the log has lost entries, "
            "or belongs to another keyspace"
        )


def check_v2_keys(v2store: V2Store, phase: str) -> None:
    """Refuse a snapshot with keys of the v2 API where the operator has given them up, however far,
    as etcd 3.5 does. StorageError."""
    if phase != V2_SERVED and v2store.holds_keys():
        raise StorageError(
            "detected disallowed custom content in v2store for stage --v2-deprecation=write-only"
        )


def check_version(determined: str | None) -> None:
    """Refuse data of a cluster that has agreed on a later version than this is. StorageError."""
    try:
        later = determined is not None and parsed_version(determined)[:2] > OWN_VERSION
    except ValueError:
        later = False  # nothing that a member wrote
    if later:
        raise StorageError(
            "invalid downgrade; server version is lower than determined cluster version: "
            f"current server version {ETCD_VERSION}, determined cluster version {determined}"
        )


def keyspace_settings(settings: MemberSettings, path: str) -> LmdbSettings:
    """etcd's flags for its backend, as this one understands them."""
    return LmdbSettings(
        path,
        quota_bytes=max(settings.quota_backend_bytes, 0) or DEFAULT_QUOTA_BYTES,
        batch_seconds=settings.backend_batch_interval or BATCH_SECONDS,
        batch_changes=settings.backend_batch_limit or BATCH_CHANGES_MAX,
        sync=not settings.unsafe_no_fsync,
    )


def consensus(opened: OpenedLog, config: RaftConfig, dice: Dice) -> RaftNode:
    return RaftNode(config, opened.tail, dice)


def _tail(
    state: HardState, entries: Sequence[Entry], snapshot: Snapshot = EMPTY_SNAPSHOT
) -> MemoryLog:
    tail = MemoryLog(state)
    if snapshot.index:
        tail.apply_snapshot(snapshot)
    tail.append(list(entries))
    return tail
