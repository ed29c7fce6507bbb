"""Joining the cluster that a member was in before."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from etcdtw.app.known_members import KnownMembers, kept_for
from etcdtw.bootstrap.factories import BootstrapFactory
from etcdtw.bootstrap.interfaces import (
    BootstrapSettings,
    ClusterPlan,
    IBootstrapProvider,
    ReactorView,
)
from etcdtw.bootstrap.known_cluster import KnownCluster, known_path
from etcdtw.bootstrap.last_known_good import LastKnownGood, join_known, read_known
from etcdtw.bootstrap.refusal import BootstrapError, BootstrapUnavailable
from etcdtw.config.load import member_settings
from etcdtw.ids import format_id
from etcdtw.membership import Member, Members, add_change, remove_change
from etcdtw.peer.calling import Answered
from etcdtw.testing.bootstrap_conformance import BootstrapConformance
from etcdtw.testing.disk import SimDisk
from etcdtw.testing.time import VirtualTime
from etcdtw.testing.worker import SimWorker
from etcdtw.v2store import V2Store
from tests.bootstrap.test_static import NamedHosts

CLUSTER = 0xABC
URLS = {name: (f"http://10.0.1.1{n}:2380",) for n, name in enumerate("abcd")}
URLS[""] = ("http://10.0.1.14:2380",)
KNOWN = KnownCluster(CLUSTER, (("a", URLS["a"]), ("b", URLS["b"]), ("c", URLS["c"])))


def shown(name: str, id: int, started: bool = True) -> dict[str, Any]:
    """A member as ``/members`` shows it."""
    found = {"id": id, "peerURLs": list(URLS[name]), "name": name}
    return {**found, "clientURLs": ["http://10.0.1.9:2379"]} if started else found


class Peers:
    """Those of the others that are up, with what they show."""

    def __init__(self, up: str = "bc", cluster: int = CLUSTER, *members: dict[str, Any]) -> None:
        self.up = up
        self.cluster = cluster
        self.members = members or (shown("a", 9, False), shown("b", 2), shown("c", 3))
        self.asked: list[str] = []

    def call(
        self, method: bytes, url: str, headers: Mapping[bytes, bytes], body: bytes, seconds: float
    ) -> Deferred[Answered]:
        self.asked.append(url)
        if any(url == f"{peer}/members" for name in self.up for peer in URLS[name]):
            shown = json.dumps(self.members).encode()
            identity = format_id(self.cluster).encode()
            return succeed(Answered(200, {b"x-etcd-cluster-id": identity}, shown))
        return fail(ConnectionRefusedError())


class JoinTests(SynchronousTestCase):
    def begin(self, peers: Peers, **others: Any) -> Deferred[ClusterPlan]:
        self.reactor = NamedHosts(**{"a.test": "10.0.1.10"})
        settings = BootstrapSettings(
            **{"name": "a", "peer_urls": URLS["a"], "data_dir": "/data/a.etcd", **others}
        )
        return Deferred.fromCoroutine(join_known(KNOWN, settings, peers, self.reactor))

    def refusal(self, peers: Peers) -> BootstrapError:
        error = self.failureResultOf(self.begin(peers), BootstrapError).value
        assert isinstance(error, BootstrapError)
        return error

    def test_joins(self) -> None:
        """P31: who was added again joins with the id that he got, whoever else there is by now;
        he founds nothing."""
        peers = Peers("c", CLUSTER, shown("a", 9, False), shown("c", 3), shown("d", 4))
        plan = self.successResultOf(self.begin(peers))
        self.assertEqual((plan.cluster_id, plan.member_id, plan.new), (CLUSTER, 9, False))
        self.assertEqual([each.id for each in plan.members], [3, 4, 9])
        self.assertEqual(peers.asked[:2], [f"{URLS[each][0]}/members" for each in "bc"])

    def test_by_address(self) -> None:
        """Own URLs are compared by address where the texts differ."""
        plan = self.successResultOf(self.begin(Peers(), peer_urls=("http://a.test:2380",)))
        self.assertEqual(plan.member_id, 9)

    def test_not_added(self) -> None:
        """Who was not added is told how; nothing falls through to another provider."""
        error = self.refusal(Peers("b", CLUSTER, shown("b", 2), shown("c", 3)))
        self.assertNotIsInstance(error, BootstrapUnavailable)
        self.assertEqual(error.reason, "member a is not in the cluster abc")
        self.assertIn("etcdctl member add a --peer-urls=http://10.0.1.10:2380", error.hint)

    def test_started_before(self) -> None:
        """Who comes back under an id that has voted is refused, as anywhere else."""
        error = self.refusal(Peers("b", CLUSTER, shown("a", 1), shown("b", 2)))
        self.assertEqual(error.reason, "member 1 has already been bootstrapped")

    def test_other_cluster(self) -> None:
        """Members that founded another cluster meanwhile are not joined."""
        error = self.refusal(Peers("b", 0xDEF))
        self.assertNotIsInstance(error, BootstrapUnavailable)
        self.assertIn("conflicting cluster ID to the target cluster (def != abc)", error.reason)

    def test_nobody(self) -> None:
        """If nobody answers another provider may be asked, who is told of the cluster."""
        error = self.refusal(Peers(""))
        assert isinstance(error, BootstrapUnavailable)
        self.assertEqual(error.known_cluster, CLUSTER)

    def test_patience(self) -> None:
        """P4: with a deadline of the operator's own they are asked again until then."""
        peers = Peers("")
        begun = self.begin(peers, timeout_seconds=5.0)
        self.reactor.clock.pump([1.0] * 3)
        self.assertNoResult(begun)
        peers.up = "b"
        self.reactor.clock.advance(1)
        self.assertEqual(self.successResultOf(begun).member_id, 9)


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(os.path.abspath(self.mktemp()))

    def test_round_trip(self) -> None:
        """What is written is read."""
        self.path.write_text(KNOWN.text())
        self.assertEqual(read_known(str(self.path)), KNOWN)

    def test_missing(self) -> None:
        """Without a file nothing is known, and that at once."""
        settings = BootstrapSettings(
            name="a", peer_urls=URLS["a"], provider_argument=str(self.path)
        )
        failed = LastKnownGood(NamedHosts()).plan(settings)
        error = self.failureResultOf(failed, BootstrapUnavailable).value
        self.assertIn(f"{self.path} is not there", str(error))

    def test_damaged(self) -> None:
        """A file that tells of some cluster but cannot be read stops the start."""
        for text in ("", "[]", '{"cluster-id": "x", "members": []}', '{"members": []}', "\udcff"):
            self.path.write_text(text, errors="surrogateescape")
            error = self.assertRaises(BootstrapError, read_known, str(self.path))
            self.assertNotIsInstance(error, BootstrapUnavailable)
            self.assertIn("is no list of members last seen", error.reason)

    def test_place(self) -> None:
        """It is beside the data directory, or where the argument says."""
        settings = member_settings("/here", bootstrap_provider="chain:last-known-good,dns-srv")
        asked = kept_for(settings)
        assert asked is not None
        self.assertEqual(known_path(asked), "/here/default.etcd.members")
        settings = member_settings("/here", bootstrap_provider="last-known-good:kept")
        asked = kept_for(settings)
        assert asked is not None
        self.assertEqual(known_path(asked), "/here/kept")
        self.assertIsNone(kept_for(member_settings("/here")))


class KeepingTests(SynchronousTestCase):
    """A running member writes them."""

    def setUp(self) -> None:
        self.disk = SimDisk()
        self.disk.makedirs("/data")
        self.disk.sync_dir("/")
        self.time = VirtualTime(1)
        self.worker = SimWorker(self.time.view())
        self.members = Members(V2Store(lambda: 0))
        settings = BootstrapSettings(name="a", peer_urls=URLS["a"], data_dir="/data/a.etcd")
        self.known = KnownMembers(settings, CLUSTER, self.members, self.disk, self.worker)

    def add(self, id: int, name: str) -> None:
        self.members.apply(add_change(1, Member(id, URLS[name], name)))
        self.known.keep()
        self.time.run_until(self.time.now + 1)

    def kept(self) -> dict[str, Any]:
        file = self.disk.open_readonly("/data/a.etcd.members")
        found: dict[str, Any] = json.loads(file.pread(file.size(), 0))
        file.close()
        return found

    def test_follows(self) -> None:
        """Members that come and go are in the file, or not; it survives a power cut whole."""
        self.add(1, "a")
        self.add(2, "")
        self.assertEqual(
            self.kept(),
            {
                "cluster-id": "abc",
                "members": [
                    {"name": "a", "peer-urls": ["http://10.0.1.10:2380"]},
                    {"name": "2", "peer-urls": ["http://10.0.1.14:2380"]},
                ],
            },
        )
        self.members.apply(remove_change(1, 2))
        self.known.keep()
        self.time.run_until(self.time.now + 1)
        self.disk.crash(random.Random(1))
        self.assertEqual([each["name"] for each in self.kept()["members"]], ["a"])
        self.assertEqual(self.disk.listdir("/data"), ["a.etcd.members"])

    def test_fails(self) -> None:
        """A disk that is full is told, and asked again with the next change."""
        self.worker.fail_next(OSError(28, "No space left on device"))
        self.add(1, "a")
        self.known.keep()
        self.time.run_until(self.time.now + 1)
        self.assertEqual(len(self.kept()["members"]), 1)


@implementer(IBootstrapProvider)
class InMemory:
    """The provider with peers in memory, for the suite: all were added and none has started."""

    def __init__(self, reactor: ReactorView) -> None:
        self._reactor = reactor

    def plan(self, settings: BootstrapSettings) -> Deferred[ClusterPlan]:
        members = [shown(name, id, False) for id, name in enumerate("abc", 1)]
        peers = Peers("abc", CLUSTER, *members)
        return Deferred.fromCoroutine(join_known(KNOWN, settings, peers, self._reactor))


class LastKnownGoodConformanceTests(BootstrapConformance, SynchronousTestCase):
    def make_factory(self) -> Any:
        return BootstrapFactory(
            "last-known-good",
            "the members last seen are joined",
            ("bootstrap-provider",),
            "etcdtw.bootstrap.factories.claims_nothing",
            "tests.bootstrap.test_last_known_good.InMemory",
        )

    def make_settings(self) -> BootstrapSettings:
        return BootstrapSettings(name="a", peer_urls=URLS["a"], provider="last-known-good")
