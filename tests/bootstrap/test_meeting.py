"""The rules of meeting at a service, with a registry in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.bootstrap.interfaces import BootstrapSettings
from etcdtw.bootstrap.meeting import Claim, Meeting, Members, met_plan
from etcdtw.bootstrap.refusal import BootstrapError, BootstrapUnavailable
from etcdtw.bootstrap.registry import (
    Refusals,
    Registered,
    Status,
    Unreachable,
    parse_size,
    status_of,
)
from tests.bootstrap.test_static import NamedHosts

VALUE = "a=http://10.0.1.10:2380"


class MemoryNote:
    def __init__(self, text: str = "") -> None:
        self.text = text

    def read(self) -> str:
        return self.text

    def write(self, text: str) -> None:
        self.text = text


class MemoryRegistry:
    """Holds registrations; ``faults`` are raised by the next questions, one each."""

    refusals = Refusals("discovery-token", "here", "make it", "discovery: invalid peer URL")

    def __init__(self, size: int, *registered: tuple[str, str]) -> None:
        self.size = size
        self.registered: list[Registered] = []
        for each in registered:
            self.add(*each)
        self.faults: dict[str, list[Exception]] = {"status": [], "register": [], "newcomers": []}
        self.heard_faults = False
        self.told: list[str] = []
        self.waiting: list[Deferred[Sequence[Registered] | None]] = []
        self.registrations = 0

    def add(self, identity: str, value: str) -> None:
        self.registered.append(Registered(identity, value, len(self.registered)))

    def _fail(self, question: str) -> None:
        if self.faults[question]:
            raise self.faults[question].pop()

    async def status(self) -> Status:
        self._fail("status")
        return status_of(reversed(self.registered), self.size)

    async def register(self, identity: str, value: str) -> bool:
        self.registrations += 1
        if not self.heard_faults:
            self._fail("register")
        if identity in [each.identity for each in self.registered]:
            return False
        self.add(identity, value)
        self._fail("register")
        return True

    async def newcomers(self, seconds: float) -> Sequence[Registered] | None:
        self._fail("newcomers")
        self.waiting.append(Deferred())
        return await self.waiting[-1]

    def tell_found(self, found: Registered, is_self: bool) -> None:
        self.told.append(("self " if is_self else "peer ") + found.identity)

    def tell_waiting(self, found: int, size: int) -> None:
        self.told.append(f"{found} of {size}")

    def tell_complete(self, found: int, size: int) -> None:
        self.told.append("all")

    def tell_retry(self, step: str, reason: Exception, seconds: float) -> None:
        self.told.append(f"{step} in {seconds:g}")


class Refusing(MemoryRegistry):
    """Says that the id is there already; that is true if it is ``taken`` meanwhile."""

    taken = False

    async def register(self, identity: str, value: str) -> bool:
        if self.taken:
            self.add(identity, value)
        return False


class MeetingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = NamedHosts()
        self.note = MemoryNote()

    def settings(self) -> BootstrapSettings:
        return BootstrapSettings(name="a", peer_urls=("http://10.0.1.10:2380",), note=self.note)

    def join(
        self, registry: MemoryRegistry, place: str = "token", seconds: float = 0.0
    ) -> Deferred[Members]:
        meeting = Meeting(registry, self.reactor, "1", seconds)
        return Deferred.fromCoroutine(meeting.join(self.settings(), place))

    def state(self, registry: MemoryRegistry) -> Deferred[str]:
        meeting = Meeting(registry, self.reactor, "1")
        return Deferred.fromCoroutine(meeting.state(self.settings(), "token"))

    def refusal(self, begun: Deferred[Any]) -> str:
        return str(self.failureResultOf(begun, BootstrapError).value)

    def test_members(self) -> None:
        """DP3: all who came in time, by the order of their coming, whatever order they are listed
        in; later ones do not count."""
        registry = MemoryRegistry(2, ("1", VALUE), ("2", "b=http://b:1,b=http://b:2"), ("3", "x"))
        Claim(self.note, "token", "1", VALUE).make()
        members = self.successResultOf(self.join(registry))
        expected = (("a", ("http://10.0.1.10:2380",)), ("b", ("http://b:1", "http://b:2")))
        self.assertEqual(members, expected)
        self.assertEqual(registry.told, ["self 1", "peer 2", "all"])

    def test_waits(self) -> None:
        """DP4: nobody goes on before all are there; who is told of twice counts once."""
        registry = MemoryRegistry(3)
        begun = self.join(registry)
        self.assertEqual(registry.told, ["self 1", "1 of 3"])
        again = [registry.registered[0], Registered("2", "b=http://b:1", 9)]
        registry.waiting[0].callback(again)
        self.assertNoResult(begun)
        registry.waiting[1].callback([Registered("3", "c=http://c:1", 7)])
        self.assertEqual([name for name, _ in self.successResultOf(begun)], ["a", "b", "c"])
        self.assertEqual(registry.told, ["self 1", "1 of 3", "peer 2", "2 of 3", "peer 3", "all"])

    def test_full(self) -> None:
        """DP5, DP8: whoever finds all places taken writes nothing, no note either."""
        registry = MemoryRegistry(1, ("2", "b=http://b:1"))
        self.assertIn("discovery: cluster is full", self.refusal(self.join(registry)))
        self.assertEqual((registry.registrations, self.note.text), (0, ""))

    def test_overtaken(self) -> None:
        """DP3: who registered, but later than those who fill the cluster, is refused as well."""
        registry = MemoryRegistry(1)
        registry.heard_faults = True
        registry.faults["register"] = [Unreachable("lost")]
        begun = self.join(registry)
        registry.registered.insert(0, Registered("2", "b=http://b:1", -1))
        self.reactor.clock.advance(2)
        self.assertIn("discovery: cluster is full", self.refusal(begun))

    def test_registered_before(self) -> None:
        """DP8: a registration without a note of it is another's: refused, and nothing is written,
        whatever it says."""
        for value in (VALUE, "b=http://10.0.1.10:2380"):
            registry = MemoryRegistry(2, ("1", value))
            self.assertIn("has previously registered", self.refusal(self.join(registry)))
            self.assertEqual((registry.registrations, self.note.text), (0, ""))

    def test_resumed(self) -> None:
        """P30: after a crash the note tells that the registration is this member's; it registers no
        second time."""
        registry = MemoryRegistry(2)
        self.assertNoResult(self.join(registry))
        self.assertEqual(registry.registrations, 1)
        begun = self.join(registry)
        registry.waiting[-1].callback([Registered("2", "b=http://b:1", 5)])
        self.assertEqual(len(self.successResultOf(begun)), 2)
        self.assertEqual(registry.registrations, 1)

    def test_crash_before_it_was_heard(self) -> None:
        """P30: with a note, but no registration, it registers."""
        registry = MemoryRegistry(1)
        registry.faults["register"] = [Unreachable("away")]
        self.assertNoResult(self.join(registry))
        self.assertTrue(self.note.text)
        self.successResultOf(self.join(registry))

    def test_note_of_another_token(self) -> None:
        """P30: a note is good for one place, id and value only."""
        self.assertNoResult(self.join(MemoryRegistry(2), place="another"))
        registry = MemoryRegistry(2, ("1", VALUE))
        self.assertIn("has previously registered", self.refusal(self.join(registry)))
        self.assertEqual(self.note.text, "")
        self.assertNoResult(self.join(MemoryRegistry(2)))
        registry = MemoryRegistry(2, ("1", "b=http://10.0.1.10:2380"))
        self.assertIn("has previously registered", self.refusal(self.join(registry)))

    def test_taken_meanwhile(self) -> None:
        """DP8: somebody took the id between the look and the registration: refused, now and at the
        next start."""
        registry = Refusing(2)
        registry.taken = True
        self.assertIn("has previously registered", self.refusal(self.join(registry)))
        self.assertIn("has previously registered", self.refusal(self.join(registry)))

    def test_contradicts_itself(self) -> None:
        """A service that knows a registration, and lists none, is none."""
        for _ in range(2):  # with a note as well
            registry = Refusing(2)
            self.assertIn("bad discovery endpoint", self.refusal(self.join(registry)))

    def test_lost_answer(self) -> None:
        """A registration whose answer was lost is this member's own."""
        registry = MemoryRegistry(1)
        registry.heard_faults = True
        registry.faults["register"] = [Unreachable("lost")]
        begun = self.join(registry)
        self.reactor.clock.advance(2)
        self.successResultOf(begun)
        self.assertEqual(registry.told[0], "registration in 2")

    def test_service_dies(self) -> None:
        """DI24, DI25: it is asked again at any step, more and more seldom while it is away."""
        registry = MemoryRegistry(1)
        registry.faults["status"] = [Unreachable("away")] * 3
        registry.faults["register"] = [Unreachable("away")]
        begun = self.join(registry)
        for seconds in (2, 4, 8, 2):
            self.assertNoResult(begun)
            self.reactor.clock.advance(seconds)
        self.successResultOf(begun)
        registry = MemoryRegistry(2)
        self.note.text = ""
        registry.faults["newcomers"] = [Unreachable("away")]
        begun = self.join(registry)
        registry.add("2", "b=http://b:1")
        self.reactor.clock.advance(2)
        self.successResultOf(begun)
        self.assertIn("waiting for other nodes in 2", registry.told)

    def test_told_from_the_beginning(self) -> None:
        """DP4: where the service lost count, everybody is asked for again."""
        registry = MemoryRegistry(2)
        begun = self.join(registry)
        registry.add("2", "b=http://b:1")
        registry.waiting[0].callback(None)
        self.successResultOf(begun)

    def test_removed(self) -> None:
        """P30: whose registration is taken away while he waits is refused, also if others have
        filled the places by then; he neither goes on with those who were there nor falls back to a
        proxy. A new start registers again."""
        for others in ((), ("2", "3", "4")):
            registry = MemoryRegistry(3, ("0", "z=http://z:1"))
            begun = self.join(registry)
            registry.registered.clear()
            for each in others:
                registry.add(each, f"n{each}=http://{each}:1")
            registry.waiting[0].callback(None)
            error = self.failureResultOf(begun, BootstrapError).value
            self.assertEqual(error.code, "ETW-BOOT-REMOVED")
            self.assertIn('registration of member "a" was removed', error.sentence)
        registry = MemoryRegistry(3)
        self.assertNoResult(self.join(registry))
        self.assertEqual(registry.registrations, 1)

    def test_another_removed(self) -> None:
        """P30: whose registration is left waits on, for one more."""
        registry = MemoryRegistry(3, ("2", "b=http://b:1"))
        begun = self.join(registry)
        del registry.registered[0]
        registry.waiting[0].callback(None)
        self.assertEqual(registry.told[-2:], ["2 of 3", "1 of 3"])
        registry.waiting[1].callback([Registered("3", "c=http://c:1", 7)])
        self.assertNoResult(begun)
        registry.waiting[2].callback([Registered("4", "d=http://d:1", 8)])
        self.assertEqual([name for name, _ in self.successResultOf(begun)], ["a", "c", "d"])

    def test_nonsense(self) -> None:
        """DI8: values that are no members, and two members of one name."""
        for value in ("b", "=http://b:1", "b=http://b", "b=ftp://b:1", "b=http://b:1/x", "b=http://b:x",
                      "b=http://b:1,,", "b=//"):  # fmt: skip
            self.note.text = ""
            registry = MemoryRegistry(2, ("2", value))
            self.assertIn("discovery: invalid peer URL", self.refusal(self.join(registry)), value)
        self.note.text = ""
        registry = MemoryRegistry(2, ("2", "a=http://b:1"))
        self.assertIn("discovery: found duplicate name", self.refusal(self.join(registry)))

    def test_look(self) -> None:
        """CL23-1: who only wants to know registers nothing, and does not mind a full cluster."""
        registry = MemoryRegistry(1, ("2", "b=http://b:1"), ("3", "c=http://c:1"))
        looked = Deferred.fromCoroutine(Meeting(registry, self.reactor).look())
        self.assertEqual(self.successResultOf(looked), ("http://b:1",))

    def test_state(self) -> None:
        """P3: a look shows who is there and registers nobody; what a start would refuse is refused;
        a registration of this member's own is known by its note."""
        registry = MemoryRegistry(2, ("2", "b=http://b:1"))
        self.assertEqual(
            self.successResultOf(self.state(registry)),
            "1 of 2 members have registered at here\nb=http://b:1\nthis one would register as 1",
        )
        self.assertEqual((registry.registrations, self.note.text), (0, ""))
        registry.add("1", VALUE)
        self.assertIn("has previously registered", self.refusal(self.state(registry)))
        Claim(self.note, "token", "1", VALUE).make()
        found = self.successResultOf(self.state(registry))
        self.assertTrue(found.endswith("this one has registered as 1"))
        self.assertIn("is full", self.refusal(self.state(MemoryRegistry(1, ("2", "b")))))
        registry.faults["status"] = [Unreachable("away")]
        self.failureResultOf(self.state(registry), BootstrapUnavailable)

    def test_deadline(self) -> None:
        """P4: with a deadline nobody waits longer; another provider may be asked only by who has
        not registered."""
        registry = MemoryRegistry(2)
        registry.faults["status"] = [Unreachable("away")] * 9
        begun = self.join(registry, seconds=5.0)
        self.reactor.clock.advance(2)
        self.failureResultOf(begun, BootstrapUnavailable)
        registry = MemoryRegistry(2)
        begun = self.join(registry, seconds=5.0)
        self.reactor.clock.advance(5)
        registry.waiting[0].callback(None)
        error = self.failureResultOf(begun, BootstrapError).value
        self.assertNotIsInstance(error, BootstrapUnavailable)
        self.assertIn("discovery: timed out waiting for other nodes", str(error))
        self.assertEqual(self.reactor.clock.getDelayedCalls(), [])

    def test_sizes(self) -> None:
        """DI19, DI20: what Go reads as a number, above 0."""
        self.assertEqual([parse_size(each) for each in ("1", "+3", "007")], [1, 3, 7])
        for text in ("", "0", "-3", " 3", "3 ", "3.0", "1_0", "\u0663", "abc", "9" * 19, "9" * 99):
            self.assertRaises(ValueError, parse_size, text)

    def test_plan(self) -> None:
        """DI8: the plan is of the token; two members with one URL are refused in etcd's words."""
        settings: Any = BootstrapSettings(name="a", peer_urls=("http://a:1",))
        members = (("a", ("http://a:1",)), ("b", ("http://b:1",)))
        plan = met_plan(settings, members, "token")
        self.assertEqual((plan.token, plan.new, len(plan.members)), ("token", True, 2))
        same = (("a", ("http://a:1",)), ("b", ("http://a:1",)))
        error = self.assertRaises(BootstrapError, met_plan, settings, same, "token")
        self.assertEqual(
            error.reason, "discovery cluster a=http://a:1,b=http://a:1 has duplicate url"
        )
