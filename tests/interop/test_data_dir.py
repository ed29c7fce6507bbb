"""One data directory, two programs: real etcd and ours, one after the other."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.rpc_pb2 import RequestOp
from tests.process.foreign import ForeignClient
from tests.process.member import Member, NotReady, real_etcd, server_under_test

HEAVY = bool(os.environ.get("ETCDTW_HEAVY"))
TXNS = 1000 if HEAVY else 100
OPERATIONS_PER_TXN = 50
# With the heavy number of transactions more than two segments of the log.
VALUE_BYTES = 3000
SNAPSHOT_COUNT = 50
SEGMENT_BYTES = 64_000_000
LARGE_VALUE_BYTES = 1_400_000

# HashKV per revision, and everything else.
Look = tuple[dict[int, object], object]


def fill(client: ForeignClient) -> None:
    """All kinds of changes that a log may hold, with answers that depend on what was there."""
    dice = random.Random(10)
    leases = [client.call("Lease.LeaseGrant", TTL=10_000 + n).ID for n in range(5)]
    revisions = []
    for number in range(TXNS):
        operations = [
            RequestOp(
                request_put={
                    "key": b"key/%05d" % dice.randrange(20_000),
                    "value": bytes((dice.randrange(256),)) * dice.randrange(2 * VALUE_BYTES),
                    "lease": dice.choice([0, 0, *leases]),
                }
            )
            for _ in range(OPERATIONS_PER_TXN)
        ]
        different = {op.request_put.key: op for op in operations}
        revisions.append(client.call("KV.Txn", success=list(different.values())).header.revision)
        if number % 10 == 5:
            begin = dice.randrange(20_000)
            client.call(
                "KV.DeleteRange", key=b"key/%05d" % begin, range_end=b"key/%05d" % (begin + 500)
            )
        if number in (TXNS // 3, TXNS // 2):
            client.call("KV.Compact", revision=revisions[-7], physical=True)
    client.call("Lease.LeaseRevoke", ID=leases[0])
    client.call("KV.Put", key=b"key/last", value=b"the end")


def look(member: Member, revisions: list[int] | None = None) -> Look:
    """HashKV at some revisions (default: the last, a few before and one far back), and all keys
    and leases."""
    with closing(ForeignClient(member.endpoint)) as client:
        everything = client.call("KV.Range", key=b"\0", range_end=b"\0")
        newest = everything.header.revision
        hashes: dict[int, object] = {}
        for revision in revisions or [newest, newest - 1, newest - 30]:
            found = client.call("Maintenance.HashKV", revision=revision)
            hashes[revision] = (found.hash, found.compact_revision)
        leases = {
            each.ID: client.call("Lease.LeaseTimeToLive", ID=each.ID, keys=True)
            for each in client.call("Lease.LeaseLeases").leases
        }
        of_leases = {number: (each.grantedTTL, set(each.keys)) for number, each in leases.items()}
        return hashes, (newest, list(everything.kvs), of_leases)


def contents(directory: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file."""
    return {
        str(each.relative_to(directory)): (each.stat().st_size, each.stat().st_mtime_ns)
        for each in directory.rglob("*")
        if each.is_file()
    }


class DataDirTests(SynchronousTestCase):
    timeout = 240

    def member(self, command: list[str], *flags: str) -> Member:
        member = Member(command, *flags)
        self.addCleanup(member.close)
        return member

    def copied(self, source: Member, target: Member) -> None:
        """Give a member the data directory of one that does not run any more."""
        shutil.rmtree(target.data_dir, ignore_errors=True)
        shutil.copytree(source.data_dir, target.data_dir)

    def assert_same(self, member: Member, expected: Look) -> None:
        hashes, rest = look(member, list(expected[0]))
        self.assertEqual(hashes, expected[0])
        self.assertEqual(rest, expected[1])

    def test_ours_read_by_etcd(self) -> None:
        """Real etcd starts on a copy of our data directory, rebuilds the store from our log, and
        has the same hashes, keys, leases and revision."""
        ours, real = self.member(server_under_test()), self.member(real_etcd())
        ours.start()
        with closing(ForeignClient(ours.endpoint)) as client:
            fill(client)
        expected = look(ours)
        ours.kill()
        self.copied(ours, real)
        if HEAVY:
            self.assertGreater(len(list((real.data_dir / "member/wal").glob("*.wal"))), 2)
        real.start()
        self.assert_same(real, expected)

    def test_there_and_back(self) -> None:
        """Our member starts on a copy of a stopped real etcd's directory, snapshots included, as
        long as its log is complete; it has the same content and writes on, and real etcd goes on
        from there."""
        real = self.member(real_etcd(), f"--snapshot-count={SNAPSHOT_COUNT}")
        ours = self.member(server_under_test())
        real.start()
        with closing(ForeignClient(real.endpoint)) as client:
            fill(client)
        expected = look(real)
        real.stop()
        self.assertTrue(list((real.data_dir / "member/snap").glob("*.snap")))
        self.copied(real, ours)
        ours.start()
        self.assert_same(ours, expected)
        with closing(ForeignClient(ours.endpoint)) as client:
            fill(client)
        expected = look(ours)
        ours.stop()
        self.copied(ours, real)
        real.start()
        self.assert_same(real, expected)

    def test_incomplete_log(self) -> None:
        """Where real etcd has purged the beginning of its log, its keyspace is only in bbolt's
        file, which this build does not read: the start is refused, and nothing is changed."""
        real, ours = self.member(real_etcd()), self.member(server_under_test())
        real.start()
        with closing(ForeignClient(real.endpoint)) as client:
            for _ in range(SEGMENT_BYTES // LARGE_VALUE_BYTES + 1):
                client.call("KV.Put", key=b"large", value=bytes(LARGE_VALUE_BYTES))
        real.stop()
        self.copied(real, ours)
        first = min((ours.data_dir / "member/wal").glob("*.wal"))
        first.unlink()
        before = contents(ours.data_dir)
        self.assertRaises(NotReady, ours.start)
        self.assertEqual(ours.process.returncode, 1)
        last = ours.output().splitlines()[-1]
        self.assertIn(f"{ours.data_dir}/member/wal", last)
        self.assertEqual(contents(ours.data_dir), before)
