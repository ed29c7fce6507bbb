"""Whole logs of real members, auth included: replayed, they give the recorded databases."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.apply.alarms import Alarms
from etcdtw.apply.applier import Applier
from etcdtw.apply.header import HeaderSource
from etcdtw.apply.kv import KvApplier
from etcdtw.apply.quota import Quota
from etcdtw.auth import AuthStore
from etcdtw.lease.apply import LeaseApplier
from etcdtw.lease.lessor import Lessor
from etcdtw.membership import Members
from etcdtw.mvcc.compaction import Compaction
from etcdtw.mvcc.store import Store
from etcdtw.raft.codec import decode_conf_change
from etcdtw.raft.messages import ConfState, Entry, EntryType
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.storage.bolt import BoltFile
from etcdtw.storage.wal import WalSnapshot, read_wal
from etcdtw.testing.disk import SimDisk
from etcdtw.v2store import V2Store
from tests.storage.recorded import recorded

SNAPSHOTS = Path(__file__).parents[1] / "storage_bolt/vectors"


class Replayed:
    """The state of a member that applied the entries of a log."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        lessor = Lessor(self.backend, 2)
        store = Store(self.backend, lessor)
        header = HeaderSource(1, 1)
        tree = V2Store(lambda: 0)
        self.auth = AuthStore(self.backend, lambda password: b"hash of " + password)
        self.applier = Applier(
            self.backend,
            KvApplier(store, lessor, header),
            LeaseApplier(lessor, store, header, lambda: 0.0),
            tree,
            Members(tree, self.backend),
            Alarms(self.backend),
            Quota(self.backend.size, -1),
            self.auth,
        )
        self.applier.on_compaction.append(_finish)
        self.results: list[object] = []
        self._voters: list[int] = []

    def apply(self, entry: Entry) -> None:
        if entry.type == EntryType.NORMAL:
            self.results.append(self.applier.apply(entry, None))
            return
        change = decode_conf_change(entry.data or b"")
        self._voters = sorted({*self._voters, change.node_id})
        state = ConfState(voters=tuple(self._voters))
        self.applier.apply_conf_change(entry, change, state, None)

    def records(self, bucket: bytes) -> dict[bytes, bytes]:
        return dict(self.backend.scan(bucket, b"", None))


def _finish(job: Compaction) -> None:
    while not job.step():
        pass


class RealLogTests(SynchronousTestCase):
    def replay(self, log: str, snapshot: str) -> tuple[Replayed, dict[bytes, dict[bytes, bytes]]]:
        """The log replayed to its end, which is where the database was saved, and the database."""
        path = os.path.abspath(self.mktemp())
        packed = (SNAPSHOTS / f"{snapshot}.snapshot.db.xz").read_bytes()
        Path(path).write_bytes(lzma.decompress(packed))
        with BoltFile.open(path) as file:
            database = {bucket: dict(file.scan(bucket)) for bucket in file.buckets()}
        member = Replayed()
        disk = SimDisk()
        recorded(log).put_on(disk, "/data")
        for entry in read_wal(disk, "/data/member/wal", WalSnapshot()).entries:
            member.apply(entry)
        return member, database

    def test_3_5(self) -> None:
        """Single member and one of three of etcd 3.5.1: every bucket is equal but for what 3.5.1
        does not write into ``members`` and its own position."""
        for log, snapshot in (
            ("wal-3.5/single.crash", "single-3.5"),
            ("wal-3.5/three-m0", "three-3.5"),
        ):
            member, database = self.replay(log, snapshot)
            for bucket in database.keys() - {b"members", b"meta"}:
                self.assertEqual(member.records(bucket), database[bucket], (log, bucket))
            for key in (b"scheduledCompactRev", b"finishedCompactRev", b"confState"):
                found = member.records(b"meta").get(key)
                self.assertEqual(found, database[b"meta"].get(key), (log, key))

    def test_3_4(self) -> None:
        """Of etcd 3.4.23 as well, but for the salt of hashed passwords."""
        for log, snapshot in (
            ("wal-3.4/single.crash", "single-3.4"),
            ("wal-3.4/three-m0", "three-3.4"),
        ):
            member, database = self.replay(log, snapshot)
            for bucket in (b"key", b"lease", b"auth", b"authRoles", b"alarm"):
                found = database.get(bucket, {})
                self.assertEqual(member.records(bucket), found, (log, bucket))
            users = member.records(b"authUsers")
            self.assertEqual(users.keys(), database[b"authUsers"].keys())
            self.assertIn(b"hash of alicepw", users[b"alice"])

    def test_denied(self) -> None:
        """The put that alice had no right to is refused in the log as it was then."""
        member, _ = self.replay("wal-3.5/single.crash", "single-3.5")
        texts = [str(each) for each in member.results if isinstance(each, Exception)]
        self.assertEqual(texts, ["etcdserver: permission denied"])
