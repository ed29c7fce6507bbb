"""Restoring a snapshot: a data directory with the snapshot's keys and a cluster of its own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from hashlib import sha256

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError

from etcdtw.app.ctl.making import new_data_dir
from etcdtw.bootstrap.addresses import Addresses, compare_by_address
from etcdtw.bootstrap.interfaces import BootstrapSettings, ClusterPlan
from etcdtw.bootstrap.static import differing_urls, listed_urls
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


class _SystemAddresses(Addresses):
    """Those that the system knows: there is no reactor here, and nobody who would wait."""

    def __init__(self) -> None:
        """Nothing is kept."""

    async def _resolve(self, host: str) -> str:
        try:
            return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
        except (OSError, UnicodeError) as error:
            raise DNSLookupError(f"lookup {host}: {error}") from None


def check_advertised(settings: BootstrapSettings) -> None:
    """The member's URLs must be those that the list has for it: with others nobody would find it.
    BootstrapError."""
    listed = listed_urls(settings)
    if sorted(settings.peer_urls) == sorted(listed):
        return
    comparing = compare_by_address(_SystemAddresses(), settings.peer_urls, listed)
    difference: list[str] = []
    Deferred.fromCoroutine(comparing).addCallback(difference.append)
    if difference[0]:
        raise differing_urls(settings, difference[0])


def restore(snapshot: str, plan: ClusterPlan, directory: str, wal_dir: str | None = None) -> None:
    """Make ``directory`` the data directory of ``plan``'s own member, with the records of the
    snapshot and the members of the plan; what etcd's restore makes, but for our keyspace file.

    StorageError when it exists already, OSError, CorruptError for a damaged snapshot.
    """
    with (
        BoltFile.open(snapshot) as source,
        new_data_dir(OsFilesystem(), directory, wal_dir) as data_dir,
    ):
        # Leaves the stand-in by which etcd's own programs know that this is not theirs.
        data_dir.lock()
        try:
            _build(OsFilesystem(), data_dir, source, plan)
        finally:
            data_dir.unlock()


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
