"""What callers are told when the space runs out."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import NoSpace
from etcdtw.pb import rpc_pb2
from etcdtw.testing.disk import SimDisk
from tests.app.simulated_member import Call, SimulatedMember

QUOTA_BYTES = 64 * 1024
GRANT = "/etcdserverpb.Lease/LeaseGrant"


class NoSpaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.member = SimulatedMember(SimDisk(), quota_backend_bytes=QUOTA_BYTES)
        self.raised_when_told: list[bool] = []

    def watch(self, call: Call) -> None:
        """Note whether the alarm stands at the moment when the caller is refused."""
        alarms = self.member.core.alarms
        call.on_fail = lambda: self.raised_when_told.append(alarms.no_space)

    def test_alarm_stands_when_a_full_member_refuses(self) -> None:
        """A request that does not fit is refused after the alarm has been raised."""
        call = self.member.put(b"k", bytes(QUOTA_BYTES))
        self.watch(call)
        self.member.settle()
        self.assertIsInstance(call.error, NoSpace)
        self.assertEqual(self.raised_when_told, [True])

    def test_alarm_stands_when_the_apply_finds_no_space(self) -> None:
        """So are requests that fitted when they were proposed, but not behind others of their
        turn: a put, which stays all the same, and a lease."""
        first = self.member.put(b"a", bytes(30_000))
        calls = [
            self.member.put(b"b", bytes(34_000)),
            self.member.ask(GRANT, rpc_pb2.LeaseGrantRequest(ID=7, TTL=60)),
        ]
        for call in calls:
            self.watch(call)
        self.member.settle()
        self.assertEqual([type(call.error) for call in calls], [NoSpace, NoSpace])
        self.assertEqual(self.raised_when_told, [True, True])
        self.assertIsNotNone(first.body)
        self.assertEqual(self.member.value(b"b"), bytes(34_000))
