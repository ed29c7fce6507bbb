"""A cluster that has lost its majority, and how its data goes on."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import grpc
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.storage.backend.lmdb_environment import open_environment
from tests.process.cluster import Cluster, until
from tests.process.member import (
    Member,
    etcdctl,
    real_etcd,
    server_under_test,
    wheel_binary,
)


class DisasterTests(SynchronousTestCase):
    timeout = 180

    def founded(self, count: int) -> Cluster:
        cluster = Cluster(*[server_under_test()] * count)
        self.addCleanup(cluster.close)
        cluster.start()
        return cluster

    def lose_majority(self, cluster: Cluster) -> Member:
        """Two of three members are gone for good; the one that is left, stopped."""
        for each in cluster.members[1:]:
            each.kill()
            each.wipe()
        left = cluster.members[0]
        left.kill()
        return left

    def test_forced_alone(self) -> None:
        """RC17: what is left of a lost cluster goes on alone by ``--force-new-cluster``, keeps all
        data and its ids, and grows again."""
        cluster = self.founded(3)
        with cluster.client(1) as client:
            for number in range(200):
                client.call("KV.Put", key=b"%d" % number, value=b"1")
        ((revision, _),) = cluster.hashes()[:1]
        with cluster.client(0) as client:
            before = client.call("Maintenance.Status")
        left = self.lose_majority(cluster)
        left.add_flags("--force-new-cluster")
        left.start()
        with cluster.client(0) as client:
            listed = client.members()
            self.assertEqual([each.name for each in listed], ["m0"])
            after = client.call("Maintenance.Status")
            self.assertEqual(after.header.cluster_id, before.header.cluster_id)
            self.assertEqual(after.header.member_id, before.header.member_id)
            found = client.call("KV.Range", key=b"\0", range_end=b"\0", count_only=True)
            self.assertEqual((found.count, found.header.revision), (200, revision))
            client.call("KV.Put", key=b"alone", value=b"1")
            added = Member(server_under_test())
            cluster.members[1:] = [added]
            client.call("Cluster.MemberAdd", peerURLs=[added.peer_url])
        listed_urls = f"m0={left.peer_url},m1={added.peer_url}"
        added.add_flags(
            "--name=m1", f"--initial-cluster={listed_urls}", "--initial-cluster-state=existing"
        )
        added.start()
        self.assertEqual(len(set(cluster.hashes())), 1)

    def test_forced_twice(self) -> None:
        """The flag may stay: a start that finds itself alone already changes nothing."""
        cluster = self.founded(3)
        left = self.lose_majority(cluster)
        left.add_flags("--force-new-cluster")
        left.start()
        with cluster.client(0) as client:
            client.call("KV.Put", key=b"k", value=b"1")
        left.kill()
        left.start()
        with cluster.client(0) as client:
            self.assertEqual(client.call("KV.Range", key=b"k").count, 1)
            self.assertEqual(len(client.members()), 1)

    def test_restored(self) -> None:
        """RE1: a snapshot of a lost cluster is restored into a new one of three, two of ours and a
        real one, each from its own restore command: the same keys, another cluster."""
        lost = self.founded(1)
        with lost.client(0) as client:
            for number in range(50):
                client.call("KV.Put", key=b"%d" % number, value=b"1")
            before = client.call("Cluster.MemberList").header.cluster_id
        directory = Path(tempfile.mkdtemp(prefix="restore-"))
        self.addCleanup(shutil.rmtree, directory)
        saved = str(directory / "saved.db")
        at = f"--endpoints={lost.members[0].endpoint}"
        subprocess.run([etcdctl(), at, "snapshot", "save", saved], check=True, capture_output=True)
        lost.close()
        kinds = (server_under_test(), server_under_test(), real_etcd())
        cluster = Cluster(*kinds, flags=["--initial-cluster-token=restored"])
        self.addCleanup(cluster.close)
        listed = ",".join(f"m{n}={each.peer_url}" for n, each in enumerate(cluster.members))
        utl = wheel_binary("etcdutl")
        assert utl is not None, "it comes with etcd"
        for n, each in enumerate(cluster.members):
            tool = [utl] if n == 2 else [*server_under_test(), "ctl"]
            subprocess.run(
                [
                    *(*tool, "snapshot", "restore", saved, f"--name=m{n}"),
                    *(f"--data-dir={each.data_dir}", f"--initial-cluster={listed}"),
                    "--initial-cluster-token=restored",
                    f"--initial-advertise-peer-urls={each.peer_url}",
                ],
                check=True,
                capture_output=True,
            )
        cluster.start()
        with cluster.client(0) as client:
            found = client.call("KV.Range", key=b"\0", range_end=b"\0", count_only=True)
            self.assertEqual((found.count, found.header.revision), (50, 51))
            self.assertNotEqual(found.header.cluster_id, before)
            client.call("KV.Put", key=b"after", value=b"1")
        hashes = cluster.hashes()
        self.assertEqual((len(hashes), len(set(hashes))), (3, 1))

    def test_without_majority(self) -> None:
        """Without the flag a member whose cluster is gone does not serve, and says so."""
        cluster = self.founded(3)
        left = self.lose_majority(cluster)
        left.launch()
        until(lambda: "starting local member" in left.output(), "it has started")
        self.assertFalse(left.healthy())


class CorruptionTests(SynchronousTestCase):
    """A member whose file says something else than it was told to."""

    timeout = 180

    def corrupted(self, *flags: str) -> Cluster:
        """Three members, m2 of which is stopped and has another value under a key."""
        cluster = Cluster(*[server_under_test()] * 3, flags=flags)
        self.addCleanup(cluster.close)
        cluster.start()
        with cluster.client(0) as client:
            for number in range(5):
                client.call("KV.Put", key=b"k%d" % number, value=b"right")
        cluster.hashes()
        wrong = cluster.members[2]
        wrong.stop()
        path = str(wrong.data_dir / "member" / "snap" / "kv.lmdb")
        opened = open_environment(path, 1 << 30)
        keys = opened.databases[b"key"]
        with opened.env.begin(write=True) as txn:
            records = list(txn.cursor(keys).iternext())
            changed = [(key, value) for key, value in records if b"right" in value]
            self.assertTrue(changed, "the member has not written its keyspace")
            key, value = changed[0]
            txn.put(key, value.replace(b"right", b"wrong"), db=keys)
        opened.env.close()
        return cluster

    def test_before_serving(self) -> None:
        """With ``--experimental-initial-corrupt-check`` it does not start, and says why."""
        cluster = self.corrupted()
        wrong = cluster.members[2]
        wrong.add_flags("--experimental-initial-corrupt-check")
        wrong.launch()
        until(lambda: not wrong.running, "it has given up")
        self.assertEqual(wrong.process.returncode, 1)
        self.assertIn("found data inconsistency with peers", wrong.output())
        right = cluster.members[1]
        right.stop()
        right.add_flags("--experimental-initial-corrupt-check")
        right.start()
        self.assertIn("initial corruption checking passed", right.output(200_000))

    def test_now_and_then(self) -> None:
        """With ``--experimental-corrupt-check-time`` the leader raises CORRUPT for it, and writes
        are refused with etcd's words."""
        cluster = self.corrupted("--experimental-corrupt-check-time=1s")
        identity = self.launched(cluster)
        with cluster.client(0) as client:
            until(lambda: bool(client.call("Maintenance.Alarm").alarms), "an alarm is raised")
            (alarm,) = client.call("Maintenance.Alarm").alarms
            if cluster.leader() != 2:
                self.assertEqual((alarm.alarm, alarm.memberID), (2, identity))
            with self.assertRaises(grpc.RpcError) as caught:
                client.call("KV.Put", key=b"k", value=b"1")
            self.assertEqual(caught.exception.details(), "etcdserver: corrupt cluster")

    def launched(self, cluster: Cluster) -> int:
        """Start m2, which may never be healthy: the alarm may be there before that. Its id."""
        cluster.members[2].launch()
        found: list[int] = []
        with cluster.client(2) as client:

            def is_up() -> bool:
                try:
                    found.append(client.call("Maintenance.Status").header.member_id)
                except grpc.RpcError:
                    pass
                return bool(found)

            until(is_up, "it serves")
        return found[0]

    def test_at_compactions(self) -> None:
        """With ``--experimental-compact-hash-check-enabled`` the leader compares what was there
        at each compaction, and raises CORRUPT for who is in the minority, itself included."""
        cluster = self.corrupted(
            "--experimental-compact-hash-check-enabled",
            "--experimental-compact-hash-check-time=500ms",
        )
        identity = self.launched(cluster)
        with cluster.client(0) as client:
            client.call("KV.Compact", revision=4)
            until(lambda: bool(client.call("Maintenance.Alarm").alarms), "an alarm is raised")
            (alarm,) = client.call("Maintenance.Alarm").alarms
            self.assertEqual((alarm.alarm, alarm.memberID), (2, identity))
