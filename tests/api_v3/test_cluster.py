"""The Cluster service of a lone member."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import MemberBadURLs
from etcdtw.pb.rpc_pb2 import MemberUpdateRequest, MemberUpdateResponse
from etcdtw.testing.disk import SimDisk
from tests.app.simulated_member import Call, SimulatedMember


class UpdateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.member = SimulatedMember(SimDisk())

    def update(self, *urls: str) -> Call:
        (own,) = self.member.core.members.all()
        request = MemberUpdateRequest(ID=own.id, peerURLs=urls)
        call = self.member.ask("/etcdserverpb.Cluster/MemberUpdate", request)
        self.member.settle()
        return call

    def test_bad_urls(self) -> None:
        """URLs that nobody could be reached at never get into the log, where they would end every
        other member that is etcd's."""
        before = self.member.core.members.all()
        for urls in ((), ("garbage",), ("http://127.0.0.1",), ("http://127.0.0.1:1/path",)):
            with self.assertRaises(MemberBadURLs):
                self.update(*urls)
        self.assertEqual(self.member.core.members.all(), before)

    def test_good_urls(self) -> None:
        """They stay in the order in which they were given, as etcd keeps them."""
        body = self.update("http://127.0.0.1:2", "http://127.0.0.1:1").body
        assert body is not None
        (shown,) = MemberUpdateResponse.FromString(body).members
        self.assertEqual(shown.peerURLs, ["http://127.0.0.1:2", "http://127.0.0.1:1"])
