"""What the leader makes of the members' versions."""

from __future__ import annotations

import json
from collections.abc import Mapping

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.cluster_version import VersionMonitor, propose_version
from etcdtw.app.downgrading import end_downgrade
from etcdtw.errors import NoLeader
from etcdtw.membership import Member, Members
from etcdtw.peer.calling import Answered, HttpCaller
from etcdtw.raft.messages import ConfChange, ConfChangeType, MessageType
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.testing.disk import SimDisk
from etcdtw.v2store import V2Store
from tests.app.simulated_member import SimulatedMember
from tests.replica.floor import OTHER, OWN, REQUEST_SECONDS, THIRD, TICK_SECONDS, Floor


class FakeCaller(HttpCaller):
    """Answers for the members of the given versions, by URL."""

    def __init__(self, **versions: str) -> None:
        super().__init__(Clock(), 1.0)
        self.versions = versions

    def call(
        self,
        method: bytes,
        url: str,
        headers: Mapping[bytes, bytes],
        body: bytes = b"",
        seconds: float = 5.0,
    ) -> Deferred[Answered]:
        host = url.removeprefix("http://").partition("/")[0]
        if host not in self.versions:
            return fail(OSError("nobody is there"))
        answer = json.dumps({"etcdserver": self.versions[host], "etcdcluster": "3.5.0"})
        return succeed(Answered(200, {}, answer.encode()))


class VersionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.members = Members(V2Store(lambda: 0), MemoryBackend(durable=True))
        for number, name in enumerate(("a", "b", "c"), 1):
            context = Member(number, (f"http://{name}",)).json().encode()
            self.members.apply(ConfChange(0, ConfChangeType.ADD_NODE, number, context))

    def proposed(self, most: str = "", **versions: str) -> list[str]:
        found: list[str] = []
        caller = FakeCaller(**versions)
        monitor = VersionMonitor(1, self.members, caller, found.append, most)
        monitor.lead()
        monitor.follow()
        self.assertEqual(caller.reactor.getDelayedCalls(), [])
        return found

    def test_proposed_once(self) -> None:
        """A version that could not be set is not proposed again by and by: whoever leads then may
        have set a later one."""
        floor = Floor((OWN, OTHER, THIRD))
        floor.start()
        propose_version(floor.replica, "3.0.0")
        floor.tick(round(REQUEST_SECONDS / TICK_SECONDS) + 1)
        floor.hear(MessageType.HEARTBEAT, term=9)
        floor.tick(5)
        kinds = [each.type for each in floor.peers.sent]
        self.assertNotIn(MessageType.PROP, kinds)

    def test_least(self) -> None:
        """It is what the oldest member is, and undecided while one does not say."""
        self.assertEqual(self.proposed(b="3.5.9"), ["3.0.0"])
        self.assertEqual(self.proposed(b="3.5.9", c="3.4.23"), ["3.4.0"])
        self.assertEqual(self.proposed(b="3.5.9", c="3.6.1"), ["3.5.0"])
        self.members.set_version("3.4.0")
        self.assertEqual(self.proposed(b="3.5.9"), [])
        self.assertEqual(self.proposed(b="3.5.9", c="3.4.23"), [])
        self.assertEqual(self.proposed(b="3.5.9", c="3.5.1"), ["3.5.0"])

    def test_falls(self) -> None:
        """It falls one minor step when a member is that much older, no more."""
        self.members.set_version("3.5.0")
        self.assertEqual(self.proposed(b="3.5.9", c="3.4.33"), ["3.4.0"])
        self.assertEqual(self.proposed(b="3.5.9", c="3.3.1"), [])

    def test_most(self) -> None:
        """``--max-cluster-version`` keeps it from rising; it does not let it fall."""
        versions = {"b": "3.5.1", "c": "3.5.1"}
        self.assertEqual(self.proposed("3.4", **versions), ["3.4.0"])
        self.members.set_version("3.4.0")
        self.assertEqual(self.proposed("3.4", **versions), [])
        self.members.set_version("3.5.0")
        self.assertEqual(self.proposed("3.4", **versions), [])


class DowngradeEndTests(SynchronousTestCase):
    """A downgrade is over when the cluster's version is its target."""

    def setUp(self) -> None:
        self.member = SimulatedMember(SimDisk())
        self.members = self.member.core.members

    def looked(self) -> Deferred[None]:
        looked = Deferred.fromCoroutine(end_downgrade(self.member.core))
        self.member.settle()
        return looked

    def test_end(self) -> None:
        """Only then is it ended, by an entry."""
        self.members.set_version("3.5.0")
        self.successResultOf(self.looked())
        self.members.set_downgrade(True, "3.4.0")
        self.successResultOf(self.looked())
        self.assertEqual(self.members.downgrade_target, "3.4.0")
        self.members.set_version("3.4.0")
        self.successResultOf(self.looked())
        self.assertIsNone(self.members.downgrade_target)

    def test_failure(self) -> None:
        """One that cannot be noted is told of."""
        self.members.set_version("3.4.0")
        self.members.set_downgrade(True, "3.4.0")
        replica = self.member.core.replica
        self.patch(replica, "propose", lambda proposal: proposal.done(NoLeader()))
        self.failureResultOf(self.looked(), NoLeader)
