"""The Alarm call."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import InvalidArgument
from etcdtw.pb.rpc_pb2 import NOSPACE, AlarmRequest, AlarmResponse
from etcdtw.testing.disk import SimDisk
from tests.app.simulated_member import Call, SimulatedMember

PATH = "/etcdserverpb.Maintenance/Alarm"
UNKNOWN = 7


class AlarmTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.member = SimulatedMember(SimDisk())

    def ask(self, action: AlarmRequest.AlarmAction, alarm: int) -> Call:
        request = AlarmRequest(action=action, memberID=5, alarm=alarm)  # type: ignore[arg-type]
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

    def test_known(self) -> None:
        body = self.ask(AlarmRequest.ACTIVATE, NOSPACE).body
        assert body is not None
        self.assertEqual([each.memberID for each in AlarmResponse.FromString(body).alarms], [5])
