"""One data directory, two programs: real etcd and ours, one after the other."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import grpc
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.rpc_pb2 import RequestOp
from tests.process.foreign import ForeignClient
from tests.process.member import Member, NotReady, etcdctl, old_etcd, real_etcd, server_under_test

HEAVY = bool(os.environ.get("ETCDTW_HEAVY"))
TXNS = 1000 if HEAVY else 100
OPERATIONS_PER_TXN = 50
# With the heavy number of transactions more than two segments of the log.
VALUE_BYTES = 3000
SNAPSHOT_COUNT = 50
SEGMENT_BYTES = 64_000_000
LARGE_VALUE_BYTES = 1_400_000

# HashKV per revision, and everything else.
Look = tuple[dict[int, tuple[int, int]], object]


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
        hashes: dict[int, tuple[int, int]] = {}
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
        if each.is_file() and not each.name.endswith("-lock")
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
        """Real etcd starts on an exported copy of our data directory, whose keyspace was behind its
        log, and has the same hashes, keys, leases and revision; so it does on what is left when
        the keyspace is removed, as long as the log is complete."""
        ours, real = self.member(server_under_test()), self.member(real_etcd())
        ours.start()
        with closing(ForeignClient(ours.endpoint)) as client:
            fill(client)
        expected = look(ours)
        ours.kill()
        self.copied(ours, real)
        if HEAVY:
            self.assertGreater(len(list((real.data_dir / "member/wal").glob("*.wal"))), 2)
        self.export(real)
        real.start()
        self.assert_same(real, expected)
        real.stop()
        self.copied(ours, real)
        for name in ("db", "kv.lmdb"):
            (real.data_dir / "member/snap" / name).unlink()
        real.start()
        self.assert_same(real, expected)

    def test_there_and_back_3_4(self) -> None:
        """So it is with the directory of an etcd 3.4, where that is installed, as long as the
        cluster's version is held."""
        self.there_and_back(old_etcd(), "--max-cluster-version=3.4")

    def test_from_3_4_to_3_5(self) -> None:
        """Else the version rises with the member's, as in etcd, and only 3.5 goes on from there."""
        real, ours = self.member(old_etcd()), self.member(server_under_test())
        real.start()
        real.stop()
        self.copied(real, ours)
        ours.start()
        with closing(ForeignClient(ours.endpoint)) as client:
            client.call("KV.Put", key=b"a", value=b"1")
        expected = look(ours)
        ours.stop()
        heir = self.member(real_etcd())
        for each in (real, heir):
            self.copied(ours, each)
            self.export(each)
        self.assertRaises(NotReady, real.start)
        self.assertIn("cluster cannot be downgraded", real.output())
        heir.start()
        self.assert_same(heir, expected)

    def test_there_and_back(self) -> None:
        """Our member starts on a copy of a stopped real etcd's directory, snapshots included; it
        has the same content and writes on, and real etcd goes on from there once it is exported."""
        self.there_and_back(real_etcd())

    def there_and_back(self, command: list[str], *only_ours: str) -> None:
        flag = f"--snapshot-count={SNAPSHOT_COUNT}"
        real, ours = self.member(command, flag), self.member(server_under_test(), flag, *only_ours)
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
        heir = self.member(command)
        self.copied(ours, heir)
        self.export(heir)
        for directory in (ours.data_dir, heir.data_dir):
            self.assert_same_offline(directory, expected)
        heir.start()
        self.assert_same(heir, expected)

    def assert_same_offline(self, directory: Path, expected: Look) -> None:
        """``ctl hashkv`` says of a directory, ours or etcd's, what its member said."""
        for revision, (number, compacted) in expected[0].items():
            said = self.ctl("hashkv", str(directory), f"--rev={revision}", "-w=json")
            self.assertEqual(
                json.loads(said),
                {"hash": number, "hashRevision": revision, "compactRevision": compacted},
            )

    def test_auth(self) -> None:
        """Users, roles and leases of a real etcd whose auth is on survive the way through our
        member, which serves nobody meanwhile and says why."""
        real, ours = self.member(real_etcd()), self.member(server_under_test())
        real.start()
        root = ("--user", "root:secret")
        for words in (
            ("user", "add", "root:secret"),
            ("role", "add", "reader"),
            ("role", "grant-permission", "reader", "read", "a", "b"),
            ("user", "add", "u:pw"),
            ("user", "grant-role", "root", "root"),
            ("user", "grant-role", "u", "reader"),
            ("put", "a", "1"),
            ("auth", "enable"),
        ):
            self.etcdctl(real, *words)
        expected = self.etcdctl(real, *root, "user", "get", "u")
        real.stop()
        self.copied(real, ours)
        ours.start()
        with closing(ForeignClient(ours.endpoint)) as client:
            for method in ("KV.Range", "KV.Put", "Lease.LeaseGrant", "Maintenance.Status"):
                with self.assertRaises(grpc.RpcError) as caught:
                    client.call(method)
                self.assertIn("authentication is enabled", caught.exception.details())
        ours.stop()
        self.copied(ours, real)
        self.export(real)
        real.start()
        self.assertEqual(self.etcdctl(real, *root, "user", "get", "u"), expected)
        self.assertEqual(self.etcdctl(real, "--user", "u:pw", "get", "a"), "a\n1\n")
        with self.assertRaises(subprocess.CalledProcessError):
            self.etcdctl(real, "--user", "u:pw", "put", "a", "2")

    def etcdctl(self, member: Member, *words: str) -> str:
        command = [etcdctl(), f"--endpoints={member.endpoint}", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def test_purged_log(self) -> None:
        """Where real etcd has purged the beginning of its log, its database and snapshot take its
        place."""
        real = self.member(real_etcd(), "--snapshot-count=20")
        ours = self.member(server_under_test())
        real.start()
        with closing(ForeignClient(real.endpoint)) as client:
            for _ in range(SEGMENT_BYTES // LARGE_VALUE_BYTES + 25):
                client.call("KV.Put", key=b"large", value=bytes(LARGE_VALUE_BYTES))
        expected = look(real)
        real.stop()
        self.copied(real, ours)
        min((ours.data_dir / "member/wal").glob("*.wal")).unlink()
        ours.start()
        self.assert_same(ours, expected)
        self.assertTrue((ours.data_dir / "member/snap/db.adopted").exists())

    def test_killed_while_installing(self) -> None:
        """An etcd that died when it had recorded a snapshot from its leader, and not yet put the
        database that came with it in the place of its own, would have done so at its next start;
        ours starts with the one that came as well."""
        real = self.member(real_etcd(), "--snapshot-count=20")
        ours = self.member(server_under_test())
        snap = real.data_dir / "member/snap"
        self.write(real, b"before", 1)
        older = (snap / "db").read_bytes()
        expected = self.write(real, b"after", 50)
        index = max(snap.glob("*.snap")).stem.partition("-")[2]
        (snap / "db").rename(snap / f"{index}.snap.db")
        (snap / "db").write_bytes(older)
        self.copied(real, ours)
        ours.start()
        self.assert_same(ours, expected)
        ours.stop()
        names = {each.name for each in (ours.data_dir / "member/snap").glob("*db*")}
        self.assertEqual(names, {"db", "db.adopted", "kv.lmdb", "kv.lmdb-lock"})
        ours.start()
        self.assert_same(ours, expected)

    def write(self, member: Member, key: bytes, count: int) -> Look:
        """Have a member run for so many writes; what it has then."""
        member.start()
        with closing(ForeignClient(member.endpoint)) as client:
            for number in range(count):
                client.call("KV.Put", key=key, value=b"%d" % number)
        found = look(member, [2])
        member.stop()
        return found

    def test_unexported(self) -> None:
        """Real etcd and etcdctl refuse what is ours before they change anything."""
        ours, real = self.member(server_under_test()), self.member(real_etcd())
        ours.start()
        ours.stop()
        self.copied(ours, real)
        before = contents(real.data_dir)
        self.assertRaises(NotReady, real.start)
        self.assertIn("invalid database", real.output())
        database = real.data_dir / "member/snap/db"
        said = subprocess.run(
            [etcdctl(), "snapshot", "status", str(database)], capture_output=True, check=False
        )
        self.assertNotEqual(said.returncode, 0)
        self.assertEqual(contents(real.data_dir), before)
        self.assertIn(b"etcdtw ctl export-db", database.read_bytes())

    def test_both_keyspaces(self) -> None:
        """A database of etcd beside a keyspace of ours is refused, naming both and their indexes;
        with ``--adopt`` the database is taken."""
        ours = self.member(server_under_test())
        ours.start()
        with closing(ForeignClient(ours.endpoint)) as client:
            client.call("KV.Put", key=b"a", value=b"1")
        expected = look(ours)
        ours.stop()
        keyspace = ours.data_dir / "member/snap/kv.lmdb"
        kept = keyspace.read_bytes()
        self.export(ours)
        keyspace.write_bytes(kept)
        before = contents(ours.data_dir)
        self.assertRaises(NotReady, ours.start)
        self.assertRegex(
            ours.output().splitlines()[-1],
            r"snap/db \(at index \d+\) is a database of etcd, and \S+/kv.lmdb \(at index \d+\)",
        )
        self.assertEqual(contents(ours.data_dir), before)
        adopting = self.member(server_under_test(), "--adopt")
        self.copied(ours, adopting)
        adopting.start()
        self.assert_same(adopting, expected)

    def test_snapshot_restored(self) -> None:
        """A snapshot that etcdctl saved from real etcd becomes a member of ours with the same
        keys, at the same revision."""
        real = self.member(real_etcd())
        ours = self.member(server_under_test())
        real.start()
        with closing(ForeignClient(real.endpoint)) as client:
            fill(client)
        expected = look(real)
        saved = os.path.abspath(self.mktemp())
        subprocess.run(
            [etcdctl(), f"--endpoints={real.endpoint}", "snapshot", "save", saved],
            check=True,
            capture_output=True,
        )
        self.ctl("snapshot", "restore", saved, f"--data-dir={ours.data_dir}")
        ours.start()
        self.assert_same(ours, expected)

    def test_snapshot_of_ours(self) -> None:
        """A snapshot that etcdctl saves from our member while it is written to is restored by
        etcdctl, and real etcd has the same hash at the revision that was there before."""
        real = self.member(real_etcd())
        ours = self.member(server_under_test())
        ours.start()
        with closing(ForeignClient(ours.endpoint)) as client:
            fill(client)
        (revision, expected), *_ = look(ours)[0].items()
        saved = os.path.abspath(self.mktemp())
        save = [etcdctl(), f"--endpoints={ours.endpoint}", "snapshot", "save", saved]
        with (
            closing(ForeignClient(ours.endpoint)) as client,
            subprocess.Popen(save, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as saving,
        ):
            while saving.poll() is None:
                client.call("KV.Put", key=b"meanwhile", value=b"x")
        self.assertEqual(saving.returncode, 0)
        subprocess.run(
            [etcdctl(), "snapshot", "restore", saved, f"--data-dir={real.data_dir}"],
            check=True,
            capture_output=True,
        )
        real.start()
        self.assertEqual(look(real, [revision])[0], {revision: expected})

    def export(self, member: Member) -> None:
        self.ctl("export-db", f"--data-dir={member.data_dir}")

    def ctl(self, *words: str) -> str:
        command = [*server_under_test(), "ctl", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
