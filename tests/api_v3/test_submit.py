"""From requests to the log: numbered together, refused one by one."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3.submit import Submitter
from etcdtw.apply.plain_put import plain_put
from etcdtw.apply.quota import PUT_OVERHEAD, Quota
from etcdtw.auth import Caller
from etcdtw.errors import NoSpace, RequestTooLarge, Stopped, TimedOut, TooManyRequests
from etcdtw.pb.raft_internal_pb2 import InternalRaftRequest
from etcdtw.pb.rpc_pb2 import DeleteRangeRequest, LeaseGrantRequest, PutRequest
from etcdtw.raft.messages import Entry
from etcdtw.raft.state_machine import Proposed
from etcdtw.replica.replica import APPLY_BACKLOG_MAX, HELD_BYTES_MAX
from tests.api_v3.fakes import FakeUnary
from tests.replica.floor import OTHER, OWN, REQUEST_SECONDS, THIRD, TICK_SECONDS, Floor
from tests.replica.floor import NotingMachine as FloorMachine

LARGE_BYTES = 1000


class Machine(FloorMachine):
    """Keeps the entries; the result is the request that was proposed."""

    def __init__(self, floor: Floor) -> None:
        super().__init__(floor.journal)
        self.requests: list[InternalRaftRequest] = []

    def apply(self, entry: Entry, proposed: Proposed | None) -> object:
        self.applied_index = entry.index
        if entry.data:
            self.requests.append(InternalRaftRequest.FromString(entry.data))
        return b"applied"


class NotedAlarm:
    """Is raised when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.stands = False

    def raise_alarm(self, done: Callable[[], None]) -> None:
        self.waiting.append(done)

    def raise_first(self, done: Callable[[], None]) -> None:
        assert self.stands, "whoever was refused finds the alarm raised"
        done()

    def rise(self) -> None:
        self.stands = True
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done()


class SubmitterTests(SynchronousTestCase):
    def begin(self, voters: tuple[int, ...] = (OWN,), limit_bytes: int = -1) -> None:
        self.floor = Floor(voters, machine=Machine)
        assert isinstance(self.floor.machine, Machine)
        self.machine = self.floor.machine
        self.alarm = NotedAlarm()
        self.size = 0
        quota = Quota(lambda: self.size, limit_bytes)
        self.submitter = Submitter(self.floor.replica, quota, LARGE_BYTES, self.alarm)
        self.floor.start()

    def put(self, value_bytes: int = 1, lease: int = 0) -> FakeUnary:
        request = PutRequest(key=b"k", value=b"v" * value_bytes, lease=lease)
        raw = request.SerializeToString()
        call = FakeUnary()
        known = plain_put(raw) or request
        self.submitter.answer(call, "put", known, raw, PUT_OVERHEAD + len(raw))
        return call

    def delete(self) -> FakeUnary:
        request = DeleteRangeRequest(key=b"k")
        call = FakeUnary()
        self.submitter.answer(call, "delete_range", request, request.SerializeToString())
        return call

    def kinds(self) -> list[str]:
        found = [each.ListFields() for each in self.machine.requests]
        return [field.name for each in found for field, _ in each if field.name != "header"]

    def answers(self, calls: list[FakeUnary]) -> list[object]:
        return [
            type(each.answer) if isinstance(each.answer, Exception) else each.answer
            for each in calls
        ]

    def test_together(self) -> None:
        """What comes within a turn goes into the log in its order, numbered without gaps."""
        self.begin()
        calls = [self.put(), self.delete(), self.put(lease=7), self.put()]
        self.assertEqual(self.floor.replica.pending_proposals, 4)
        self.assertEqual(self.answers(calls), [None] * 4)
        self.floor.settle()
        self.assertEqual(self.answers(calls), [b"applied"] * 4)
        self.assertEqual(self.kinds(), ["put", "delete_range", "put", "put"])
        ids = [each.header.ID for each in self.machine.requests]
        self.assertEqual(ids, list(range(ids[0], ids[0] + 4)))
        self.assertEqual(self.floor.replica.pending_proposals, 0)

    def test_too_large(self) -> None:
        """A request that is too large is refused, and none of those around it."""
        self.begin()
        calls = [self.put(), self.put(LARGE_BYTES), self.put()]
        self.floor.settle()
        self.assertEqual(self.answers(calls), [b"applied", RequestTooLarge, b"applied"])
        calls = [self.put(LARGE_BYTES)]
        self.floor.settle()
        self.assertEqual(self.answers(calls), [RequestTooLarge])
        self.assertEqual(self.floor.replica.pending_proposals, 0)

    def test_no_space(self) -> None:
        """Where not all of a turn fit the quota, each that takes space is looked at by itself; who
        is refused is told when the alarm stands."""
        self.begin(limit_bytes=2000)
        self.size = 1500
        calls = [self.put(), self.put(300), self.delete(), self.put(lease=7), self.put()]
        self.floor.settle()
        kept = [b"applied", None, b"applied", b"applied", b"applied"]
        self.assertEqual(self.answers(calls), kept)
        self.assertEqual(len(self.alarm.waiting), 1)
        self.alarm.rise()
        self.assertEqual(self.answers(calls)[1], NoSpace)
        self.size = 2000
        calls = [self.put(), self.delete()]
        grants: list[object] = []
        grant = LeaseGrantRequest(ID=1, TTL=9)
        self.submitter.submit("lease_grant", grant, grant.SerializeToString(), grants.append, 64)
        self.floor.settle()
        self.alarm.rise()
        self.assertEqual(self.answers(calls), [NoSpace, b"applied"])
        self.assertIsInstance(grants[0], NoSpace)

    def test_in_a_name(self) -> None:
        """Requests have the caller of the turn that numbers them."""
        self.begin()
        self.put()
        self.submitter.caller = Caller(b"root", 3)
        self.delete()
        self.floor.settle()
        headers = [each.header for each in self.machine.requests]
        self.assertEqual(
            [(each.username, each.auth_revision) for each in headers], [(b"root", 3)] * 2
        )

    def test_stopping(self) -> None:
        """Who waits for the turn when the member stops is told, and so is who comes later."""
        self.begin()
        calls = [self.put(), self.delete()]
        self.floor.replica.stop()
        self.assertEqual(self.answers(calls), [Stopped] * 2)
        calls = [self.put()]
        self.floor.settle()
        self.assertEqual(self.answers(calls), [Stopped])

    def test_without_leader(self) -> None:
        """They wait for one, and time out."""
        self.begin((OWN, OTHER, THIRD))
        calls = [self.put(), self.delete()]
        self.floor.settle()
        self.assertEqual(self.answers(calls), [None] * 2)
        self.floor.clock.advance(REQUEST_SECONDS + TICK_SECONDS)
        self.floor.settle()
        self.assertEqual(self.answers(calls), [TimedOut] * 2)
        self.assertEqual(self.floor.replica.pending_proposals, 0)

    def test_far_behind(self) -> None:
        """While far more is committed than applied they are refused."""
        self.begin()
        self.machine.applied_index -= APPLY_BACKLOG_MAX + 1
        self.floor.tick(1)
        calls = [self.put(), self.delete()]
        self.floor.settle()
        self.assertEqual(self.answers(calls), [TooManyRequests] * 2)

    def test_held_back(self) -> None:
        """While the keyspace's disk is too far behind they wait, up to a bound."""
        self.begin()
        self.submitter._max_request_bytes = HELD_BYTES_MAX
        self.floor.replica.holds_back = lambda: True
        calls = [self.put()]
        self.floor.settle()
        calls += [self.put(HELD_BYTES_MAX // 2), self.put(HELD_BYTES_MAX // 2), self.put()]
        self.floor.settle()
        self.assertEqual(self.answers(calls), [None, None, TooManyRequests, None])
        self.floor.replica.holds_back = lambda: False
        self.floor.replica.wake()
        self.floor.settle()
        applied = [b"applied", b"applied", TooManyRequests, b"applied"]
        self.assertEqual(self.answers(calls), applied)
