"""What a member does by itself while auth is on."""

from __future__ import annotations

from google.protobuf.message import Message
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3.submit import entry_data
from etcdtw.auth import ROOT, Caller
from etcdtw.pb import raft_internal_pb2 as log
from etcdtw.pb import rpc_pb2 as pb
from etcdtw.replica.proposal import Proposal
from etcdtw.testing.disk import SimDisk
from tests.app.simulated_member import SimulatedMember

TTL_SECONDS = 5


class AuthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.member = SimulatedMember(SimDisk())

    def apply(self, kind: str, request: Message) -> None:
        """As an entry that another member has proposed for root."""
        replica = self.member.core.replica
        caller = Caller(ROOT, 1)
        data = entry_data(kind, request.SerializeToString(), replica.ids.next(), caller)
        replica.propose(Proposal(data, kind, request, lambda result: None))
        self.member.settle()

    def test_leases_end(self) -> None:
        """A lease with keys ends also when users have changed since auth was switched on."""
        grant = pb.LeaseGrantRequest(ID=7, TTL=TTL_SECONDS)
        self.member.ask("/etcdserverpb.Lease/LeaseGrant", grant)
        self.member.ask("/etcdserverpb.KV/Put", pb.PutRequest(key=b"k", lease=7))
        self.member.settle()
        self.apply("auth_user_add", log.AuthUserAdd(name=b"root", password=b"p"))
        self.apply("auth_role_add", log.AuthRoleAdd(name=b"root"))
        self.apply("auth_user_grant_role", log.AuthUserGrantRole(user=b"root", role=b"root"))
        self.apply("auth_enable", pb.AuthEnableRequest())
        store = self.member.core.store
        self.assertEqual(store.range(b"k").count, 1)
        self.apply("auth_user_add", log.AuthUserAdd(name=b"u", password=b"p"))
        for _ in range(10 * TTL_SECONDS):
            self.member.clock.advance(0.5)
            self.member.settle()
        self.assertEqual(store.range(b"k").count, 0)
