"""Members that are added, removed, updated and promoted while the cluster runs."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import grpc
from twisted.trial.unittest import SynchronousTestCase

from tests.process.cluster import Cluster, until
from tests.process.foreign import ForeignClient
from tests.process.member import Member, real_etcd, server_under_test


class ReconfigurationTests(SynchronousTestCase):
    timeout = 180

    def founded(self, *commands: Sequence[str], flags: Sequence[str] = ()) -> Cluster:
        cluster = Cluster(*commands, flags=flags)
        self.addCleanup(cluster.close)
        cluster.start()
        return cluster

    def member(self, cluster: Cluster, command: Sequence[str], flags: Sequence[str] = ()) -> Member:
        """A member that is to join; the cluster closes it."""
        member = Member(command)
        cluster.members.append(member)
        number = len(cluster.members) - 1
        listed = ",".join(f"m{n}={each.peer_url}" for n, each in enumerate(cluster.members))
        member.add_flags(
            f"--name=m{number}",
            f"--initial-cluster={listed}",
            "--initial-cluster-state=existing",
            *flags,
        )
        return member

    def join(
        self, cluster: Cluster, command: Sequence[str], flags: Sequence[str] = (), **request: Any
    ) -> int:
        """Add a member, start it, and wait until it serves; its id."""
        member = self.member(cluster, command, flags)
        with cluster.client(0) as client:
            # Others must have been connected for a while.
            added: list[Any] = []

            def try_adding() -> bool:
                try:
                    added.append(
                        client.call("Cluster.MemberAdd", peerURLs=[member.peer_url], **request)
                    )
                except grpc.RpcError as error:
                    self.assertIn(
                        error.details(),
                        ("etcdserver: unhealthy cluster", "etcdserver: too many requests"),
                    )
                return bool(added)

            until(try_adding, "the member is added")
        member.start()
        identity: int = added[0].member.ID
        return identity

    def removed(self, client: ForeignClient, identity: int) -> list[Any]:
        """Remove a member, once all have been connected for a while; who is left."""
        found: list[Any] = []

        def try_removing() -> bool:
            try:
                found.append(client.call("Cluster.MemberRemove", ID=identity))
            except grpc.RpcError as error:
                self.assertEqual(error.details(), "etcdserver: unhealthy cluster")
            return bool(found)

        until(try_removing, "the member is removed")
        return list(found[0].members)

    def test_grows_and_shrinks(self) -> None:
        """RC4, RC5, RC11: one member becomes three, each with all that was written, and one again;
        a removed member ends by itself, exit code 0, and cannot come back."""
        cluster = self.founded(server_under_test())
        with cluster.client(0) as client:
            for number in range(100):
                client.call("KV.Put", key=b"%d" % number, value=b"1")
            ids = [self.join(cluster, server_under_test()) for _ in range(2)]
            self.assertEqual(len(set(cluster.hashes())), 1)
            for number, identity in zip((2, 1), reversed(ids), strict=True):
                self.assertEqual(len(self.removed(client, identity)), number)
                gone = cluster.members[number]
                until(lambda gone=gone: not gone.running, "the removed member has ended")  # type: ignore[misc]
                self.assertEqual(gone.process.returncode, 0, gone.output())
                self.assertIn("permanently removed", gone.output())
            client.call("KV.Put", key=b"after", value=b"1")
            again = cluster.members[1]
            again.launch()
            until(lambda: not again.running, "a removed member does not come back")
            self.assertEqual(again.process.returncode, 0, again.output())

    def test_auto(self) -> None:
        """ST25: with ``--initial-cluster-state auto`` the same flags found a cluster, join it, and
        start again; whoever lost his data is told so."""
        cluster = Cluster(*[server_under_test()] * 2, flags=["--initial-cluster-state=auto"])
        self.addCleanup(cluster.close)
        cluster.start()
        self.join(cluster, server_under_test(), flags=["--initial-cluster-state=auto"])
        joined = cluster.members[2]
        self.assertIn('"state":"existing"', joined.output(100_000))
        self.assertEqual(len(set(cluster.hashes())), 1)
        joined.stop()
        joined.start()
        lost = cluster.members[1]
        lost.kill()
        lost.wipe()
        lost.launch()
        until(lambda: not lost.running, "it has given up")
        self.assertIn("has already been bootstrapped", lost.output())

    def test_grows_to_five(self) -> None:
        """OV5, ST27, RC18: one, three, five members and back, under writes at each size; nothing is
        lost."""
        cluster = self.founded(server_under_test())
        ids = []
        written = 0
        with cluster.client(0) as client:
            for size in range(1, 5):
                for _ in range(50):
                    client.call("KV.Put", key=b"%d" % written, value=b"1")
                    written += 1
                ids.append(self.join(cluster, server_under_test()))
                self.assertEqual(len(client.members()), size + 1)
            self.assertEqual(len(set(cluster.hashes())), 1)
            for identity in reversed(ids):
                client.call("KV.Put", key=b"%d" % written, value=b"1")
                written += 1
                self.removed(client, identity)
            found = client.call("KV.Range", key=b"\0", range_end=b"\0", count_only=True)
            self.assertEqual(found.count, written)

    def test_real_member_joins_ours(self) -> None:
        """Real etcd joins a cluster that one of ours founded, and has its hash."""
        cluster = self.founded(server_under_test())
        with cluster.client(0) as client:
            client.call("KV.Put", key=b"k", value=b"1")
        self.join(cluster, real_etcd())
        self.assertEqual(len(set(cluster.hashes())), 1)

    def test_ours_joins_real_members(self) -> None:
        """Ours joins a cluster that real etcd founded, serves what is there, by both APIs, and has
        its hash."""
        cluster = self.founded(real_etcd(), flags=["--enable-v2=true"])
        with cluster.client(0) as client:
            client.call("KV.Put", key=b"k", value=b"1")
        with closing(HTTPConnection(cluster.members[0].endpoint)) as v2:
            v2.request("PUT", "/v2/keys/old?value=1")
            self.assertEqual(v2.getresponse().status, 201)
        self.join(cluster, server_under_test())
        self.assertEqual(len(set(cluster.hashes())), 1)
        with closing(HTTPConnection(cluster.members[1].endpoint)) as v2:
            v2.request("GET", "/v2/keys/old")
            self.assertIn(b'"value":"1"', v2.getresponse().read())

    def test_learner(self) -> None:
        """LR1, RC20: a learner serves serializable reads only; promoted through any member it
        votes."""
        cluster = self.founded(*[server_under_test()] * 2)
        identity = self.join(cluster, server_under_test(), isLearner=True)
        with cluster.client(0) as client:
            listed = {each.ID: each.isLearner for each in client.members()}
            self.assertTrue(listed[identity])
            with self.assertRaises(grpc.RpcError) as caught:
                client.call("Cluster.MemberAdd", peerURLs=["http://127.0.0.1:1"], isLearner=True)
            self.assertEqual(
                caught.exception.details(), "etcdserver: too many learner members in cluster"
            )
        follower = 1 - cluster.leader()
        with cluster.client(follower) as client:
            client.call("Cluster.MemberPromote", ID=identity)
            listed = {each.ID: each.isLearner for each in client.members()}
            self.assertFalse(listed[identity])

    def test_replaced(self) -> None:
        """P11: one of three is gone; ``etcdtw ctl member replace`` says with which flags to
        start another one, and makes it a voter; interrupted it goes on."""
        cluster = self.founded(*[server_under_test()] * 3)
        with cluster.client(0) as client:
            for number in range(100):
                client.call("KV.Put", key=b"%d" % number, value=b"1")
        cluster.members[2].kill()
        new = Member(server_under_test())
        self.addCleanup(new.close)
        first = self.replacing(cluster, "m2", new)
        said: list[str] = []
        assert first.stdout is not None
        for line in first.stdout:
            said += line.rstrip("\\\n").split()
            if "--initial-cluster" in said:
                break
        first.kill()
        first.wait()
        flags = said[said.index("--name") :]
        self.assertEqual(flags[1], "m3")
        new.add_flags(*flags)
        cluster.members[2] = new
        new.launch()
        second = self.replacing(cluster, "m2", new, "--removed")
        out, error = second.communicate(timeout=60)
        self.assertEqual((second.returncode, error), (0, ""), out)
        self.assertIn("m3 is a voting member in the place of m2", out)
        with cluster.client(1) as client:
            listed = client.members()
            self.assertEqual({each.name for each in listed}, {"m0", "m1", "m3"})
            self.assertFalse(any(each.isLearner for each in listed))
        cluster.wait_healthy()
        self.assertEqual(len(set(cluster.hashes())), 1)

    def replacing(
        self, cluster: Cluster, old: str, new: Member, *flags: str
    ) -> subprocess.Popen[str]:
        endpoints = ",".join(each.endpoint for each in cluster.members[:2])
        process = subprocess.Popen(
            [
                *(*server_under_test(), "ctl", "member", "replace", old, *flags),
                *("--name=m3", f"--peer-urls={new.peer_url}", f"--endpoints={endpoints}"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None and process.stderr is not None
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_refusals(self) -> None:
        """RC14: what may not be done is refused in etcd's words."""
        cluster = self.founded(server_under_test())
        with cluster.client(0) as client:
            own = client.members()[0]
            for rpc, request, text in (
                ("MemberAdd", {"peerURLs": []}, "etcdserver: given member URLs are invalid"),
                ("MemberAdd", {"peerURLs": ["x"]}, "etcdserver: given member URLs are invalid"),
                (
                    "MemberAdd",
                    {"peerURLs": list(own.peerURLs)},
                    "etcdserver: Peer URLs already exists",
                ),
                ("MemberRemove", {"ID": 5}, "etcdserver: member not found"),
                (
                    "MemberUpdate",
                    {"ID": 5, "peerURLs": ["http://127.0.0.1:1"]},
                    "etcdserver: member not found",
                ),
                ("MemberPromote", {"ID": 5}, "etcdserver: member not found"),
                (
                    "MemberPromote",
                    {"ID": own.ID},
                    "etcdserver: can only promote a learner member",
                ),
            ):
                with self.assertRaises(grpc.RpcError) as caught:
                    client.call(f"Cluster.{rpc}", **request)
                self.assertEqual(caught.exception.details(), text, rpc)

    def test_not_added_first(self) -> None:
        """RC8, RC9, ER5: a member that nobody added is refused with etcd's sentence; nothing is
        left behind."""
        cluster = self.founded(server_under_test())
        member = self.member(cluster, server_under_test())
        member.launch()
        until(lambda: not member.running, "the member has given up")
        self.assertEqual(member.process.returncode, 1)
        self.assertIn("member count is unequal", member.output())
        self.assertFalse((member.data_dir / "member").exists())
