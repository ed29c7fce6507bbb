"""The Alarm call."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.http.views import MemberHealth
from etcdtw.apply.alarms import Alarms
from etcdtw.errors import InvalidArgument
from etcdtw.pb.rpc_pb2 import (
    CORRUPT,
    NOSPACE,
    AlarmRequest,
    AlarmResponse,
    StatusRequest,
    StatusResponse,
)
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.testing.disk import SimDisk
from tests.app.simulated_member import Call, SimulatedMember

PATH = "/etcdserverpb.Maintenance/Alarm"
UNKNOWN = 7


class AlarmTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.member = SimulatedMember(SimDisk())

    def ask(self, action: AlarmRequest.AlarmAction, alarm: int, member: int = 5) -> Call:
        request = AlarmRequest(
            action=action,
            memberID=member,
            alarm=alarm,  # type: ignore[arg-type]
        )
        call = self.member.ask(PATH, request)
        self.member.settle()
        return call

    def test_unknown(self) -> None:
        """An alarm that does not exist never gets into the log, where it would end every member of
        etcd that the cluster has."""
        before = self.member.core.replica.applied_index
        for action in (AlarmRequest.ACTIVATE, AlarmRequest.DEACTIVATE):
            with self.assertRaisesRegex(InvalidArgument, "etcdserver: unknown alarm"):
                self.ask(action, UNKNOWN)
        self.assertEqual(self.member.core.replica.applied_index, before)
        self.assertIsNotNone(self.ask(AlarmRequest.GET, UNKNOWN).body)

    def test_unknown_on_disk(self) -> None:
        """One that is there nevertheless, from another version, is shown by its number."""
        backend = MemoryBackend(durable=True)
        raised = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=5, alarm=UNKNOWN)  # type: ignore[arg-type]
        Alarms(backend).apply(raised)
        member = SimulatedMember(SimDisk(), backend)
        body = member.ask("/etcdserverpb.Maintenance/Status", StatusRequest()).body
        assert body is not None, "a member tells its status"
        self.assertEqual(StatusResponse.FromString(body).errors, ["memberID:5 alarm:7 "])
        health = MemberHealth(member.core.replica, Alarms(backend))
        self.assertEqual(health.raised_alarms(), ["7"])

    def test_answers(self) -> None:
        """An alarm that is raised is in the answer, also when it was before; one that is cleared
        only once."""
        for action, expected in (
            (AlarmRequest.ACTIVATE, [5]),
            (AlarmRequest.ACTIVATE, [5]),
            (AlarmRequest.DEACTIVATE, [5]),
            (AlarmRequest.DEACTIVATE, []),
        ):
            body = self.ask(action, NOSPACE).body
            assert body is not None
            found = [each.memberID for each in AlarmResponse.FromString(body).alarms]
            self.assertEqual(found, expected)

    def test_status(self) -> None:
        """Status names alarms as etcd's text does, which leaves out what is 0."""
        self.ask(AlarmRequest.ACTIVATE, NOSPACE)
        self.ask(AlarmRequest.ACTIVATE, CORRUPT, member=0)
        body = self.member.ask("/etcdserverpb.Maintenance/Status", StatusRequest()).body
        assert body is not None
        self.assertEqual(
            StatusResponse.FromString(body).errors, ["alarm:CORRUPT ", "memberID:5 alarm:NOSPACE "]
        )
