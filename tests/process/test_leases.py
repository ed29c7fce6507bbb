"""Leases of a running member, on the wall clock."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import grpc
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.rpc_pb2 import LeaseKeepAliveRequest, WatchCreateRequest, WatchRequest
from tests.process.foreign import ForeignClient, Stream
from tests.process.member import Member, server_under_test

TTL_SECONDS_MIN = 2
# Expired leases are looked for twice a second; the rest is for a busy machine.
LATE_SECONDS_MAX = 2.5


class LeaseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.member = Member(server_under_test())
        self.addCleanup(self.member.close)
        self.member.start()
        self.client = ForeignClient(self.member.endpoint)
        self.addCleanup(self.client.close)

    def keys(self) -> set[bytes]:
        return {kv.key for kv in self.client.call("KV.Range", key=b"\0", range_end=b"\0").kvs}

    def watch_everything(self) -> Stream:
        stream = self.client.open("Watch.Watch")
        self.addCleanup(stream.close)
        create = WatchCreateRequest(key=b"\0", range_end=b"\0", prev_kv=True)
        stream.send(WatchRequest(create_request=create))
        self.assertTrue(stream.receive().created)
        return stream

    def deletions(self, stream: Stream) -> list[Any]:
        """The events of the next answer, all of them deletions."""
        answer = stream.receive()
        self.assertEqual([event.type for event in answer.events], [1] * len(answer.events))
        return list(answer.events)

    def test_expiry_and_keepalive(self) -> None:
        """A lease has at least two seconds; its keys go when it is over, not before and not much
        later, watchers see it; a lease that is kept alive, and a key that left its lease, stay."""
        begin = time.monotonic()
        short = self.client.call("Lease.LeaseGrant", TTL=1)
        kept = self.client.call("Lease.LeaseGrant", TTL=1)
        self.assertEqual((short.TTL, kept.TTL), (TTL_SECONDS_MIN, TTL_SECONDS_MIN))
        for key, lease in ((b"s1", short.ID), (b"s2", short.ID), (b"k", kept.ID), (b"f", short.ID)):
            self.client.call("KV.Put", key=key, value=b"1", lease=lease)
        self.client.call("KV.Put", key=b"f", value=b"2")
        watch = self.watch_everything()
        keepalives = self.client.open("Lease.LeaseKeepAlive")
        self.addCleanup(keepalives.close)
        gone_after = 0.0
        while time.monotonic() < begin + TTL_SECONDS_MIN + LATE_SECONDS_MAX:
            keepalives.send(LeaseKeepAliveRequest(ID=kept.ID))
            self.assertEqual(keepalives.receive().TTL, TTL_SECONDS_MIN)
            if not gone_after and b"s1" not in self.keys():
                gone_after = time.monotonic() - begin
            time.sleep(0.1)
        self.assertGreaterEqual(gone_after, TTL_SECONDS_MIN)
        self.assertEqual(self.keys(), {b"k", b"f"})
        events = self.deletions(watch)
        self.assertEqual([event.kv.key for event in events], [b"s1", b"s2"])
        self.assertEqual({event.prev_kv.lease for event in events}, {short.ID})
        keepalives.send(LeaseKeepAliveRequest(ID=short.ID))
        self.assertEqual(keepalives.receive().TTL, 0)

    def test_revoke(self) -> None:
        """Revoking deletes all keys of the lease in one revision and in one watch answer."""
        lease = self.client.call("Lease.LeaseGrant", TTL=100).ID
        for number in range(50):
            self.client.call("KV.Put", key=b"%03d" % number, lease=lease)
        before = self.client.call("KV.Put", key=b"other").header.revision
        watch = self.watch_everything()
        after = self.client.call("Lease.LeaseRevoke", ID=lease).header.revision
        self.assertEqual(after, before + 1)
        events = self.deletions(watch)
        self.assertEqual([event.kv.key for event in events], [b"%03d" % n for n in range(50)])
        self.assertEqual({event.kv.mod_revision for event in events}, {after})
        self.assertEqual(self.keys(), {b"other"})
        with self.assertRaises(grpc.RpcError) as caught:
            self.client.call("KV.Put", key=b"x", lease=lease)
        self.assertEqual(caught.exception.details(), "etcdserver: requested lease not found")

    def test_restart(self) -> None:
        """A restart keeps leases and their keys; the whole time to live begins anew, as in etcd
        without checkpoints, and then the lease expires."""
        lease = self.client.call("Lease.LeaseGrant", TTL=TTL_SECONDS_MIN).ID
        long = self.client.call("Lease.LeaseGrant", TTL=1000).ID
        self.client.call("KV.Put", key=b"a", lease=lease)
        self.client.call("KV.Put", key=b"b", lease=long)
        time.sleep(1.0)
        self.member.kill()
        self.member.start()
        restarted = time.monotonic()
        with contextlib.closing(ForeignClient(self.member.endpoint)) as client:
            left = client.call("Lease.LeaseTimeToLive", ID=lease, keys=True)
            self.assertGreater(left.TTL, 1)
            self.assertEqual((left.grantedTTL, list(left.keys)), (TTL_SECONDS_MIN, [b"a"]))
            self.assertEqual(
                {each.ID for each in client.call("Lease.LeaseLeases").leases}, {lease, long}
            )
            while client.call("KV.Range", key=b"a").count:
                # An election timeout is granted on top, since a keepalive may have been lost.
                self.assertLess(
                    time.monotonic(), restarted + TTL_SECONDS_MIN + 1 + LATE_SECONDS_MAX
                )
                time.sleep(0.1)
            self.assertGreater(time.monotonic(), restarted + TTL_SECONDS_MIN)
            self.assertEqual(client.call("KV.Range", key=b"b").count, 1)
