"""Changes of a running cluster that no other test has."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import grpc
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.rpc_pb2 import PutRequest
from tests.process.cluster import Cluster, until
from tests.process.member import Member, etcdctl, free_ports, server_under_test


class ChangeTests(SynchronousTestCase):
    timeout = 180

    def cluster(self, count: int) -> Cluster:
        cluster = Cluster(*[server_under_test()] * count)
        self.addCleanup(cluster.close)
        cluster.start()
        return cluster

    def ctl(self, member: Member, *words: str) -> str:
        done = subprocess.run(
            [etcdctl(), f"--endpoints={member.endpoint}", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.stdout if done.returncode == 0 else done.stderr

    def members(self, member: Member) -> dict[str, Any]:
        listed = json.loads(self.ctl(member, "member", "list", "-w", "json"))["members"]
        return {each.get("name", ""): each for each in listed}

    def changed(self, member: Member, said: str, *words: str) -> str:
        """Until the cluster takes it, which wants its members connected for a while."""
        outcome: list[str] = []

        def taken() -> bool:
            outcome[:] = [self.ctl(member, *words)]
            # etcdctl pads ids that are short.
            return said in " ".join(outcome[0].split())

        until(taken, lambda: f"{words}: {outcome}")
        return outcome[0]

    def test_other_client_urls(self) -> None:
        """RC2, ST17: a member that comes back with other client URLs publishes them itself."""
        cluster = self.cluster(3)
        moved = cluster.members[2]
        moved.stop()
        url = moved.endpoint.replace("127.0.0.1", "localhost")
        moved.add_flags(f"--advertise-client-urls=http://{url}")
        moved.start()
        for each in cluster.members:
            until(
                lambda each=each: self.members(each)["m2"]["clientURLs"] == [f"http://{url}"],  # type: ignore[misc]
                "everybody knows",
            )

    def test_other_peer_url(self) -> None:
        """RC3: a member is told its new peer URL, and started there; the others find it."""
        cluster = self.cluster(3)
        asked, moved = cluster.members[0], cluster.members[2]
        identity = f"{self.members(asked)['m2']['ID']:x}"
        url = f"http://127.0.0.1:{free_ports(1)[0]}"
        self.changed(
            asked, f"Member {identity} updated", "member", "update", identity, f"--peer-urls={url}"
        )
        moved.stop()
        moved.add_flags(f"--listen-peer-urls={url}", f"--initial-advertise-peer-urls={url}")
        moved.start()
        self.assertEqual(self.members(moved)["m2"]["peerURLs"], [url])
        self.ctl(asked, "put", "k", "v")
        self.assertEqual(len(set(cluster.hashes())), 1)

    def test_leader_removed(self) -> None:
        """RC4, RC6: the leader may be removed; after an election the others go on."""
        cluster = self.cluster(3)
        leader = cluster.leader()
        other = cluster.members[(leader + 1) % 3]
        identity = f"{self.members(other)[f'm{leader}']['ID']:x}"
        self.changed(other, f"Member {identity} removed", "member", "remove", identity)
        until(lambda: not cluster.members[leader].running, "it has ended")
        until(lambda: "OK" in self.ctl(other, "put", "k", "v"), "the others go on")
        self.assertEqual(len(self.members(other)), 2)

    def test_added_in_words(self) -> None:
        """RC7, RC15: what ``member add`` prints is what the new member needs, here in the place of
        one that is gone."""
        cluster = self.cluster(3)
        asked, gone = cluster.members[0], cluster.members[2]
        self.ctl(asked, "put", "k", "v")
        identity = f"{self.members(asked)['m2']['ID']:x}"
        gone.kill()
        self.changed(asked, "removed", "member", "remove", identity)
        added = Member(server_under_test())
        cluster.members[2] = added
        gone.close()
        words = ("member", "add", "m2", f"--peer-urls={added.peer_url}")
        said = self.changed(asked, "ETCD_INITIAL_CLUSTER_STATE", *words)
        printed = dict(line.split("=", 1) for line in said.splitlines() if line.startswith("ETCD_"))
        found = {name: value.strip('"') for name, value in printed.items()}
        self.assertEqual(found["ETCD_NAME"], "m2")
        self.assertEqual(found["ETCD_INITIAL_CLUSTER_STATE"], "existing")
        added.add_flags(
            f"--name={found['ETCD_NAME']}",
            f"--initial-cluster={found['ETCD_INITIAL_CLUSTER']}",
            f"--initial-advertise-peer-urls={found['ETCD_INITIAL_ADVERTISE_PEER_URLS']}",
            f"--initial-cluster-state={found['ETCD_INITIAL_CLUSTER_STATE']}",
        )
        added.start()
        self.assertEqual(len(set(cluster.hashes())), 1)

    def test_strict(self) -> None:
        """RC12, RC13: while the second of two members has not been started nothing is written, and
        no third is taken; then both go."""
        cluster = self.cluster(1)
        first = cluster.members[0]
        second = Member(server_under_test())
        cluster.members.append(second)
        self.changed(
            first, "added to cluster", "member", "add", "m1", f"--peer-urls={second.peer_url}"
        )
        with cluster.client(0) as client, self.assertRaises(grpc.RpcError):
            client.send("KV.Put", PutRequest(key=b"waits", value=b"1"), seconds=1.0)
        refused = self.ctl(first, "member", "add", "m2", "--peer-urls=http://127.0.0.1:1")
        self.assertIn("re-configuration failed due to not enough started members", refused)
        second.add_flags(
            f"--initial-cluster=m0={first.peer_url},m1={second.peer_url}",
            *("--name=m1", "--initial-cluster-state=existing"),
        )
        second.start()
        self.assertIn("OK", self.ctl(first, "put", "k", "v"))
        self.assertEqual(len(set(cluster.hashes())), 1)
