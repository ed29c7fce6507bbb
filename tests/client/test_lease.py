"""Leases that are kept alive."""

from __future__ import annotations

from etcdtw.client import channel
from etcdtw.errors import LeaseNotFound
from etcdtw.rpc import StreamCall
from etcdtw.rpc.router import Method
from tests.client.servers import Servers


class LeaseTests(Servers):
    def setUp(self) -> None:
        super().setUp()
        self.member.lessor.promote(0, self.clock.seconds())
        self.member.expirer.start()
        self.addCleanup(self.member.expirer.stop)

    def test_kept(self) -> None:
        """A kept lease lives as long as its keeper does."""
        client = self.client()
        lease = self.result(client.keep_lease(5))
        self.run_for(60)
        self.assertFalse(lease.is_lost)
        self.assertTrue(self.member.lessor.exists(lease.id))
        client.close()
        self.assertTrue(lease.is_lost)
        self.run_for(10)
        self.assertFalse(self.member.lessor.exists(lease.id))

    def test_not_kept(self) -> None:
        """A lease that is only granted ends."""
        client = self.client()
        granted = self.result(client.leases.grant(5))
        self.run_for(10)
        self.error(client.leases.revoke(granted.ID), LeaseNotFound)

    def test_member_dies(self) -> None:
        """It is renewed elsewhere when a member dies."""
        lease = self.result(self.client().keep_lease(5))
        for host in ("a", "b"):
            self.down(host)
            self.run_for(20)
        self.assertFalse(lease.is_lost)
        self.assertTrue(self.member.lessor.exists(lease.id))

    def test_many_calls_wait(self) -> None:
        """It is asked for again when so many calls wait for a server that no more may."""
        client = self.client("a")
        lease = self.result(client.keep_lease(6))
        self.patch(channel, "WAITING_MAX", 1)
        self.down("a")
        waiting = client.kv.get("k")
        self.run_for(2)
        self.up("a")
        self.result(waiting)
        self.run_for(20)
        self.assertFalse(lease.is_lost)

    def test_nonsense(self) -> None:
        """A server whose answers are none is left for another one."""

        def talk(call: StreamCall) -> None:
            call.on_message = lambda body: call.send(b"\xff\xff\xff")

        client = self.client("a", "b")
        method = self.routers["a"].find("/etcdserverpb.Lease/LeaseKeepAlive")
        assert isinstance(method, Method), "leases are served"
        method.stream_handler = talk
        lease = self.result(client.keep_lease(6))
        self.run_for(30)
        self.assertFalse(lease.is_lost)
        self.assertTrue(self.member.lessor.exists(lease.id))

    def test_nobody_there(self) -> None:
        """When no member can be asked for a whole TTL it counts as lost, no later."""
        lease = self.result(self.client().keep_lease(6))
        lost = lease.when_lost()
        self.run_for(3)
        for host in self.hosts:
            self.down(host)
        self.run_for(3)
        self.assertNoResult(lost)
        self.run_for(6)
        self.result(lost)
        self.assertTrue(lease.is_lost)

    def test_revoked_by_others(self) -> None:
        """Its owner is told when somebody else ends it."""
        client = self.client()
        lease = self.result(client.keep_lease(6))
        self.result(client.leases.revoke(lease.id))
        self.assertFalse(lease.is_lost)
        self.result(lease.when_lost())

    def test_revoke(self) -> None:
        """Its owner may end it at once."""
        lease = self.result(self.client().keep_lease(6))
        self.result(lease.revoke())
        self.assertTrue(lease.is_lost)
        self.assertFalse(self.member.lessor.exists(lease.id))

    def test_stop_keeping(self) -> None:
        """Or let it run out."""
        lease = self.result(self.client().keep_lease(6))
        lease.stop_keeping()
        self.run_for(1)
        self.assertTrue(self.member.lessor.exists(lease.id))
        self.run_for(10)
        self.assertFalse(self.member.lessor.exists(lease.id))

    def test_many(self) -> None:
        """Leases share a stream."""
        client = self.client()
        leases = [self.result(client.keep_lease(5 + number)) for number in range(20)]
        self.run_for(60)
        self.assertFalse([each.id for each in leases if each.is_lost])
