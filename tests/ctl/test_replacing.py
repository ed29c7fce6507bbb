"""Another member in the place of one, step by step."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.ctl.replacing import Refused, Wanted, replace_member
from etcdtw.errors import (
    EtcdError,
    LearnerNotReady,
    MemberNotFound,
    MemberNotLearner,
    PeerURLExists,
    TimedOut,
    TooManyLearners,
    Unhealthy,
)
from etcdtw.pb.rpc_pb2 import Member

NEW = "http://new:2380"


class FakeCluster:
    """Members by id. ``refusals`` are what a kind of change meets first, one at a time, ``lost``
    those that happen, and whose answer does not come."""

    def __init__(self, *names: str) -> None:
        self.listed = {
            number: Member(ID=number, name=name, peerURLs=[f"http://{name}:2380"])
            for number, name in enumerate(names, 1)
        }
        self.away: set[int] = set()
        self.unreadable = False
        self.refusals: dict[str, list[EtcdError]] = {}
        self.lost: set[str] = set()
        self.done: list[str] = []

    def begin(self, kind: str) -> None:
        if self.refusals.get(kind):
            raise self.refusals[kind].pop(0)

    def end(self, kind: str) -> None:
        self.done.append(kind)
        if kind in self.lost:
            raise TimedOut

    async def members(self) -> list[Member]:
        if self.unreadable:
            raise TimedOut
        return list(self.listed.values())

    async def answering(self, members: Sequence[Member]) -> set[int]:
        return {each.ID for each in members} - self.away

    async def add_learner(self, peer_urls: list[str]) -> None:
        self.begin("add")
        if any(set(each.peerURLs) & set(peer_urls) for each in self.listed.values()):
            raise PeerURLExists
        self.listed[9] = Member(ID=9, peerURLs=peer_urls, isLearner=True)
        self.end("add")

    async def promote(self, member_id: int) -> None:
        self.begin("promote")
        if not self.listed[member_id].isLearner:
            raise MemberNotLearner
        self.listed[member_id].isLearner = False
        self.end("promote")

    async def remove(self, member_id: int) -> None:
        self.begin("remove")
        if member_id not in self.listed:
            raise MemberNotFound
        del self.listed[member_id]
        self.end("remove")


class ReplacingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.cluster = FakeCluster("a", "b", "c")
        self.said: list[str] = []

    def begun(self, old: str = "c", removed: bool = False) -> Deferred[None]:
        wanted = Wanted(old, "n", (NEW,), 60.0, removed)
        work = replace_member(self.cluster, wanted, self.said.append, self.clock)
        return Deferred.fromCoroutine(work)

    def replaced(self, old: str = "c", removed: bool = False) -> None:
        self.successResultOf(self.begun(old, removed))

    def assertRefused(self, text: str, old: str = "c") -> None:
        reason = self.failureResultOf(self.begun(old), Refused)
        self.assertIn(text, str(reason.value))
        self.assertEqual(self.cluster.done, [])

    def test_one_that_answers(self) -> None:
        """It keeps its vote until the new one has got its own."""
        self.replaced()
        self.assertEqual(self.cluster.done, ["add", "promote", "remove"])
        flags = next(each for each in self.said if "--initial-cluster " in each)
        listed = f"a=http://a:2380,b=http://b:2380,c=http://c:2380,n={NEW}"
        self.assertIn(f"--initial-cluster {listed}", flags)
        self.assertIn(f"--initial-advertise-peer-urls {NEW}", flags)

    def test_one_that_is_gone(self) -> None:
        """It goes first, and what that costs is said."""
        self.cluster.away = {3}
        self.replaced("3")
        self.assertEqual(self.cluster.done, ["remove", "add", "promote"])
        self.assertIn("2 voters stay, of which none may fail", self.said[0])

    def test_same_address(self) -> None:
        """One that is gone may have had the new one's URL; one that answers may not."""
        self.cluster.listed[3].peerURLs[:] = [NEW]
        self.assertRefused("answers, and has this peer URL itself")
        self.cluster.away = {3}
        self.replaced()
        self.assertEqual(self.cluster.done, ["remove", "add", "promote"])

    def test_waits(self) -> None:
        """What passes is waited for: members that have not been connected for long, a learner
        that has not caught up."""
        self.cluster.refusals = {
            "add": [Unhealthy(), Unhealthy()],
            "promote": [LearnerNotReady() for _ in range(50)],
            "remove": [Unhealthy()],
        }
        done = self.begun()
        for _ in range(52):
            self.assertNoResult(done)
            self.clock.advance(1)
        self.assertNoResult(done)
        self.clock.advance(1)
        self.successResultOf(done)
        self.assertEqual(self.cluster.done, ["add", "promote", "remove"])

    def test_takes_too_long(self) -> None:
        """A learner that does not catch up stays one, and the old one stays too."""
        self.cluster.refusals = {"promote": [LearnerNotReady() for _ in range(100)]}
        done = self.begun()
        for _ in range(60):
            self.assertNoResult(done)
            self.clock.advance(1)
        self.failureResultOf(done, LearnerNotReady)
        self.assertEqual(self.cluster.done, ["add"])

    def test_refused_for_good(self) -> None:
        """What does not pass ends it."""
        self.cluster.refusals = {"add": [TooManyLearners()]}
        self.failureResultOf(self.begun(), TooManyLearners)
        self.assertEqual(self.cluster.done, [])

    def test_lost_answers(self) -> None:
        """A change whose answer was lost is not made twice."""
        self.cluster.lost = {"add", "promote", "remove"}
        done = self.begun()
        for _ in range(3):
            self.assertNoResult(done)
            self.clock.advance(1)
        self.successResultOf(done)
        self.assertEqual(self.cluster.done, ["add", "promote", "remove"])

    def test_resumed(self) -> None:
        """Begun again it does what is left, whichever step was the last."""
        for forbidden, done, left in (
            ("promote", ["add"], ["promote", "remove"]),
            ("remove", ["add", "promote"], ["remove"]),
            ("", ["add", "promote", "remove"], []),
        ):
            self.setUp()
            self.cluster.refusals = {forbidden: [TooManyLearners()]}
            begun = self.begun()
            begun.addErrback(lambda failure: failure.trap(TooManyLearners))
            self.successResultOf(begun)
            self.assertEqual(self.cluster.done, done)
            del self.cluster.done[:]
            self.replaced()
            self.assertEqual(self.cluster.done, left)

    def test_resumed_when_it_is_gone(self) -> None:
        """Once the old one is removed it must be said: its name could be a wrong one."""
        self.assertRefused("there is no member x; if it has been removed already", "x")
        del self.cluster.listed[3]
        self.replaced(removed=True)
        self.assertEqual(self.cluster.done, ["add", "promote"])

    def test_quorum(self) -> None:
        """P12: nothing is done while another voter is away, or where there is no majority."""
        self.cluster.away = {2, 3}
        self.assertRefused("b (2) must answer as well")
        self.cluster.away = {2}
        self.assertRefused("b (2) must answer as well")
        self.cluster.unreadable = True
        self.assertRefused("a cluster without a majority cannot be changed")

    def test_unclear(self) -> None:
        """Names of several, and URLs of others, are refused."""
        self.cluster.listed[2].name = "c"
        self.assertRefused("several members are called c")
        self.setUp()
        self.cluster.listed[2].peerURLs[:] = [NEW, "http://other:1"]
        self.assertRefused("are those of b (2)")

    def test_alone(self) -> None:
        """A member that is alone can be replaced as well, while it answers."""
        self.cluster = FakeCluster("c")
        self.cluster.away = {1}
        self.assertRefused("is the only voter")
        self.cluster.away.clear()
        self.replaced()
        self.assertEqual(self.cluster.done, ["add", "promote", "remove"])
