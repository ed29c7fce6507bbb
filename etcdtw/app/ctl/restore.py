"""Restoring a snapshot: a data directory with the snapshot's keys and a cluster of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256

from etcdtw.app.ctl.making import new_data_dir
from etcdtw.bootstrap.interfaces import ClusterPlan
from etcdtw.errors import StorageError
from etcdtw.membership import Members, add_change, bootstrap_entries, founding_member
from etcdtw.raft.messages import ConfState, HardState, Snapshot
from etcdtw.storage.backend.lmdb_environment import CONSISTENT_INDEX, META, TERM, create, map_bytes
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.storage.bolt import BoltFile
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.interfaces import IFilesystem
from etcdtw.storage.snap import SnapStore
from etcdtw.storage.wal import Wal, WalSnapshot, encode_metadata
from etcdtw.v2store import V2Store, save

DIGEST_BYTES = 32
_SECTOR_BYTES = 512
_READ_BYTES = 1 << 20
_MEMBERS, _REMOVED = b"members", b"members_removed"
_TERM = 1


def check_digest(path: str, skip: bool = False) -> None:
    """Check the SHA-256 that ends a snapshot from a client; StorageError when it is wrong, or
    missing and not to be skipped. A copy of a database has none."""
    size = os.path.getsize(path)
    has_digest = size % _SECTOR_BYTES == DIGEST_BYTES
    if not has_digest and not skip:
        raise StorageError("snapshot missing hash but --skip-hash-check=false")
    if not has_digest or skip:
        return
    digest = sha256()
    with open(path, "rb") as file:
        left = size - DIGEST_BYTES
        while left:
            piece = file.read(min(_READ_BYTES, left))
            digest.update(piece)
            left -= len(piece)
        expected = file.read(DIGEST_BYTES)
    if digest.digest() != expected:
        raise StorageError(f"expected sha256 {expected.hex()}, got {digest.hexdigest()}")


def restore(snapshot: str, plan: ClusterPlan, directory: str, wal_dir: str | None = None) -> None:
    """Make ``directory`` the data directory of ``plan``'s own member, with the records of the
    snapshot and the members of the plan; what etcd's restore makes, but for our keyspace file.

    StorageError when it exists already, OSError, CorruptError for a damaged snapshot.
    """
    with (
        new_data_dir(OsFilesystem(), directory, wal_dir) as data_dir,
        BoltFile.open(snapshot) as source,
    ):
        _build(OsFilesystem(), data_dir, source, plan)


def _build(fs: IFilesystem, data_dir: DataDir, source: BoltFile, plan: ClusterPlan) -> None:
    founders = [founding_member(each.name, each.peer_urls, plan.token) for each in plan.members]
    tree, records = V2Store(lambda: 0), MemoryBackend()
    members = Members(tree, records)
    for founder in founders:
        members.apply(add_change(0, founder))
    count = len(founders)

    def scan(bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
        if bucket in (_MEMBERS, _REMOVED):
            return records.scan(bucket, b"", None)
        if bucket == META:
            meta = dict(source.scan(META))
            meta[CONSISTENT_INDEX] = count.to_bytes(8, "big")
            meta[TERM] = _TERM.to_bytes(8, "big")
            return iter(sorted(meta.items()))
        return source.scan(bucket)

    buckets = sorted({*source.buckets(), _MEMBERS, META})
    create(
        fs,
        data_dir.backend_path,
        map_bytes(source.size),
        buckets=((name, scan(name)) for name in buckets),
    )
    voters = tuple(founder.id for founder in founders)
    conf_state = ConfState(voters=voters)
    wal = Wal.create(fs, data_dir.wal_dir, encode_metadata(plan.member_id, plan.cluster_id))
    wal.append(HardState(_TERM, voters[0], count), bootstrap_entries(founders))
    SnapStore(fs, data_dir.snap_dir).save(Snapshot(count, _TERM, conf_state, save(tree)))
    wal.save_snapshot(WalSnapshot(count, _TERM, conf_state))
    wal.sync()
    wal.close()
