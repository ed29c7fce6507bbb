"""Clusters of three: of our members alone, and mixed with real ones."""

from __future__ import annotations

import json
import signal
import threading
import urllib.request
from collections.abc import Sequence

import grpc
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.rpc_pb2 import DowngradeRequest, WatchCreateRequest, WatchRequest
from tests.process.cluster import Cluster, until
from tests.process.foreign import ForeignClient
from tests.process.member import old_etcd, real_etcd, server_under_test

WRITES = 200


class ClusterTestCase(SynchronousTestCase):
    timeout = 180

    def cluster(self, *commands: Sequence[str], flags: Sequence[str] = ()) -> Cluster:
        cluster = Cluster(*commands, flags=flags)
        self.addCleanup(cluster.close)
        cluster.start()
        return cluster

    def check_everything(self, cluster: Cluster) -> None:
        """Writes, reads, leases and watches at each member; then all hold the same."""
        for number in range(3):
            with cluster.client(number) as client:
                key = b"k%d" % number
                client.call("KV.Put", key=key, value=b"1")
                self.assertEqual(client.call("KV.Range", key=key).kvs[0].value, b"1")
                lease = client.call("Lease.LeaseGrant", TTL=60).ID
                client.call("KV.Put", key=b"leased", value=b"1", lease=lease)
                left = client.call("Lease.LeaseTimeToLive", ID=lease, keys=True)
                self.assertEqual((list(left.keys), 50 < left.TTL <= 60), ([b"leased"], True))
                client.call("Lease.LeaseRevoke", ID=lease)
                self.assertEqual(client.call("KV.Range", key=b"leased").count, 0)
                members = client.members()
                until(
                    lambda: all(m.name for m in client.members()),
                    "all members have published themselves",
                )
                self.assertEqual(len(members), 3)
        hashes = cluster.hashes()
        self.assertEqual(len(hashes), 3)
        self.assertEqual(len(set(hashes)), 1, hashes)


class OwnTests(ClusterTestCase):
    def test_serves(self) -> None:
        """Three of ours serve at every member, and agree."""
        self.check_everything(self.cluster(*[server_under_test()] * 3))

    def test_leader_killed(self) -> None:
        """Whoever leads is killed, again and again, under writes: others lead on, nothing that was
        acknowledged is lost, and who comes back catches up."""
        cluster = self.cluster(*[server_under_test()] * 3)
        acknowledged: dict[bytes, bytes] = {}
        for turn in range(3):
            leader = cluster.leader()
            other = (leader + 1) % 3
            with cluster.client(other) as client:
                self._write(client, acknowledged, turn, WRITES)
                cluster.members[leader].kill()
                self._write(client, acknowledged, turn + 100, WRITES)
            cluster.members[leader].launch()
            cluster.wait_healthy()
        with cluster.client(cluster.leader()) as client:
            found = client.call("KV.Range", key=b"\0", range_end=b"\0")
            self.assertEqual({kv.key: kv.value for kv in found.kvs}, acknowledged)
        self.assertEqual(len(set(cluster.hashes())), 1)

    def _write(
        self, client: ForeignClient, acknowledged: dict[bytes, bytes], turn: int, count: int
    ) -> None:
        """Each write until it is acknowledged; a repeated one does no harm."""
        for number in range(count):
            key, value = b"%d/%d" % (turn, number), b"%d" % number

            def written(key: bytes = key, value: bytes = value) -> bool:
                try:
                    client.call("KV.Put", key=key, value=value)
                except grpc.RpcError:
                    return False
                return True

            until(written, f"{key!r} written")
            acknowledged[key] = value

    def test_minority(self) -> None:
        """One of three alone refuses what needs a majority, and still gives what it has."""
        cluster = self.cluster(*[server_under_test()] * 3)
        with cluster.client(0) as client:
            client.call("KV.Put", key=b"k", value=b"1")
            cluster.members[1].kill()
            cluster.members[2].kill()
            until(lambda: not cluster.members[0].healthy(), "alone is not healthy")
            with self.assertRaises(grpc.RpcError):
                client.call("KV.Put", key=b"k", value=b"2")
            found = client.call("KV.Range", key=b"k", serializable=True)
            self.assertEqual(found.kvs[0].value, b"1")
            cluster.members[1].launch()
            cluster.wait_healthy(cluster.members[:2])
            client.call("KV.Put", key=b"k", value=b"3")

    def test_moved_leader(self) -> None:
        """The leader hands over to whom it is told."""
        cluster = self.cluster(*[server_under_test()] * 3)
        cluster.move_leader((cluster.leader() + 1) % 3)

    def test_stopped_leader(self) -> None:
        """A leader that is told to stop hands over first: one term later another leads, without
        the wait for an election."""
        cluster = self.cluster(*[server_under_test()] * 3)
        leader = cluster.leader()
        terms = {status.raftTerm for _, status in cluster.statuses()}
        cluster.members[leader].stop()
        self.assertIn("leadership transfer finished", cluster.members[leader].output())
        cluster.leader()
        later = {status.raftTerm for _, status in cluster.statuses()}
        self.assertEqual(later, {each + 1 for each in terms})

    def test_head_start(self) -> None:
        """A fresh cluster does not wait for the whole first election timeout, unless told to."""
        line = "fast-forwarding election ticks"
        cluster = self.cluster(*[server_under_test()] * 3)
        until(lambda: all(line in each.output(1 << 20) for each in cluster.members), line)
        cluster.close()
        told = ("--initial-election-tick-advance=false",)
        cluster = self.cluster(*[server_under_test()] * 3, flags=told)
        self.assertNotIn(line, "".join(each.output(1 << 20) for each in cluster.members))

    def test_wiped(self) -> None:
        """RC16: a member that lost its data does not found the cluster again."""
        cluster = self.cluster(server_under_test(), real_etcd(), server_under_test())
        until(lambda: all(self._names(cluster)), "all have published themselves")
        member = cluster.members[0]
        member.stop()
        member.wipe()
        member.launch()
        self.assertEqual(member.process.wait(30), 1)
        self.assertIn("has already been bootstrapped", member.output())

    def _names(self, cluster: Cluster) -> list[str]:
        with cluster.client(2) as client:
            return [each.name for each in client.members()]

    def test_stopped_together(self) -> None:
        """When all are told to stop at once nobody waits long for somebody to lead."""
        cluster = self.cluster(*[server_under_test()] * 3)
        for each in cluster.members:
            each.process.terminate()
        ends = [each.process.wait(30) for each in cluster.members]
        self.assertEqual(ends, [-signal.SIGTERM] * 3)


class MixedTests(ClusterTestCase):
    def test_one_of_ours(self) -> None:
        """One of ours among real 3.5.1."""
        self.check_everything(self.cluster(server_under_test(), real_etcd(), real_etcd()))

    def test_two_of_ours(self) -> None:
        """Two of ours with a real 3.5.1."""
        self.check_everything(self.cluster(server_under_test(), server_under_test(), real_etcd()))

    def test_downgrades(self) -> None:
        """A downgrade that a real member enables goes into the log of all, and so does one of
        ours; all keep it, say so to their peers, and go on."""
        cluster = self.cluster(real_etcd(), server_under_test(), server_under_test())
        with cluster.client(0) as client, cluster.client(1) as ours:
            until(
                lambda: (
                    client.call("Maintenance.Status").version == "3.5.1"
                    and self._cluster_version(cluster) == "3.5.0"
                ),
                "the cluster has a version",
            )
            self._downgrade(client, DowngradeRequest(action="ENABLE", version="3.4.0"))

            def told(what: bytes) -> bool:
                said = []
                for member in cluster.members:
                    url = f"{member.peer_url}/downgrade/enabled"
                    with urllib.request.urlopen(url, timeout=5) as answer:
                        said.append(answer.read())
                return said == [what] * 3

            until(lambda: told(b"true"), "all have it")
            ours.send("Maintenance.Downgrade", DowngradeRequest(action="CANCEL"))
            until(lambda: told(b"false"), "all know of its end")
            wanted = DowngradeRequest(action="ENABLE", version="3.4.0")
            self.assertEqual(ours.send("Maintenance.Downgrade", wanted).version, "3.5.0")
            until(lambda: told(b"true"), "all have it")
            self._downgrade(client, DowngradeRequest(action="CANCEL"))
            until(lambda: told(b"false"), "all know of its end")
        self.check_everything(cluster)

    @staticmethod
    def _downgrade(client: ForeignClient, request: DowngradeRequest) -> None:
        """etcd 3.5.1 does it, and answers that it timed out."""
        try:
            client.send("Maintenance.Downgrade", request, seconds=1.0)
        except grpc.RpcError:
            pass

    @staticmethod
    def _cluster_version(cluster: Cluster) -> str:
        with urllib.request.urlopen(f"{cluster.members[0].peer_url}/version", timeout=5) as answer:
            version: str = json.loads(answer.read())["etcdcluster"]
        return version

    def test_with_3_4(self) -> None:
        """One of ours with a real 3.5.1 and a real 3.4: the cluster's version is 3.4."""
        cluster = self.cluster(server_under_test(), real_etcd(), [*old_etcd(), "--logger=zap"])
        self.check_everything(cluster)

    def test_either_leads(self) -> None:
        """Leadership goes from ours to real etcd and back, writes and all."""
        cluster = self.cluster(server_under_test(), real_etcd(), server_under_test())
        for to in (1, 0, 2, 1, 2):
            cluster.move_leader(to)
            for number in range(3):
                with cluster.client(number) as client:
                    client.call("KV.Put", key=b"%d/%d" % (to, number), value=b"1")
        self.check_everything(cluster)


class SnapshotTests(ClusterTestCase):
    """A member is away for longer than the log reaches back."""

    def ours(self) -> list[str]:
        return [*server_under_test(), "--experimental-snapshot-catchup-entries=100"]

    def check_catching_up(self, *commands: Sequence[str], writes: int) -> None:
        """``m0`` leads, ``m2`` is away."""
        cluster = self.cluster(*commands, flags=["--snapshot-count=500"])
        cluster.move_leader(0)
        away = cluster.members[2]
        with cluster.client(0) as client:
            lease = client.call("Lease.LeaseGrant", TTL=600).ID
            client.call("KV.Put", key=b"kept", value=b"1", lease=lease)
            away.stop()
            client.put_many(writes)
            away.start()
            self.assertIn("snapshot", away.output(200_000))
            client.call("KV.Put", key=b"after", value=b"1")
        self.check_everything(cluster)
        with cluster.client(2) as client:
            left = client.call("Lease.LeaseTimeToLive", ID=lease, keys=True)
            self.assertEqual(list(left.keys), [b"kept"])
        away.kill()
        away.start()
        self.check_everything(cluster)

    def test_among_ours(self) -> None:
        """Ours sends, ours begins again with it, and after a kill once more."""
        self.check_catching_up(*[self.ours()] * 3, writes=1000)

    def test_ours_to_real(self) -> None:
        """Ours sends, real etcd installs."""
        self.check_catching_up(self.ours(), real_etcd(), real_etcd(), writes=1000)

    def test_real_to_ours(self) -> None:
        """Real etcd sends, ours installs."""
        self.check_catching_up(real_etcd(), real_etcd(), self.ours(), writes=7000)

    def test_others_go_on_writing(self) -> None:
        """One snapshot is enough, although while it is on its way far more is written than the log
        otherwise reaches back."""
        cluster = self.cluster(*[self.ours()] * 3)
        cluster.move_leader(0)
        away = cluster.members[2]
        has_started = threading.Event()

        def write() -> None:
            with cluster.client(0) as client:
                while not has_started.is_set():
                    client.put_many(20)

        writing = threading.Thread(target=write)
        away.stop()
        with cluster.client(0) as client:
            client.put_many(1000)
        writing.start()
        try:
            away.start()
        finally:
            has_started.set()
            writing.join()
        self.assertEqual(away.output(2_000_000).count("beginning again"), 1)
        self.check_everything(cluster)

    def test_clients_stay(self) -> None:
        """A client of the member that begins again stays connected, and is served again; its
        watch goes on where it was, and no event is missing. A watch of the v2 API is asked for
        again."""
        cluster = self.cluster(*[self.ours()] * 3, flags=["--snapshot-count=500"])
        leader = cluster.leader()
        away = (leader + 1) % 3
        with cluster.client(away) as staying, cluster.client(leader) as client:
            begun = staying.call("KV.Put", key=b"k", value=b"v").header.revision
            v2_keys = f"http://{cluster.members[away].endpoint}/v2/keys/?wait=true&recursive=true"
            v2_watch = urllib.request.urlopen(v2_keys, timeout=60)
            watch = staying.open("Watch.Watch")
            self.addCleanup(watch.close)
            everything = WatchCreateRequest(key=b"\0", range_end=b"\0")
            watch.send(WatchRequest(create_request=everything))
            self.assertTrue(watch.receive().created)
            process = cluster.members[away].process
            process.send_signal(signal.SIGSTOP)
            # One by one: the leader sends no more than 512 appends ahead, and forgets the rest.
            client.put_many(1500, at_once=1)
            revision = client.call("KV.Put", key=b"last", value=b"1").header.revision
            process.send_signal(signal.SIGCONT)

            def has_last() -> bool:
                found = staying.call("KV.Range", key=b"last", serializable=True)
                return [kv.mod_revision for kv in found.kvs] == [revision]

            until(has_last, "the member has caught up")
            seen: list[int] = []
            while not seen or seen[-1] < revision:
                seen += [each.kv.mod_revision for each in watch.receive().events]
            self.assertEqual(seen, list(range(begun + 1, revision + 1)))
        with v2_watch:
            self.assertEqual(v2_watch.read(), b"")
        self.assertIn("beginning again", cluster.members[away].output(200_000))
        self.check_everything(cluster)
