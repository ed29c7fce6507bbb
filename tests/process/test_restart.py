"""A killed member comes back as it was."""

from __future__ import annotations

import contextlib
import os
import random

import grpc
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.rpc_pb2 import RequestOp
from tests.process.foreign import ForeignClient
from tests.process.member import Member, server_under_test

HEAVY = bool(os.environ.get("ETCDTW_HEAVY"))
KEYS = 50_000 if HEAVY else 5_000
# Segments of the log change at 64 MB.
LARGE_VALUES = 160 if HEAVY else 70
LARGE_VALUE_BYTES = 1_000_000
OPERATIONS_PER_TXN = 100
LEASES = 20
RESTART_SECONDS_MAX = 30.0


def fill(client: ForeignClient) -> None:
    """Keys, some overwritten, some deleted, some attached to leases, and a compaction in the
    middle of it."""
    dice = random.Random(6)
    leases = [client.call("Lease.LeaseGrant", TTL=1000 + n).ID for n in range(LEASES)]
    for begin in range(0, KEYS, OPERATIONS_PER_TXN):
        operations = [
            RequestOp(
                request_put={
                    "key": b"key/%06d" % number,
                    "value": b"value %d" % number,
                    "lease": dice.choice(leases) if number % 10 == 0 else 0,
                }
            )
            for number in range(begin, begin + OPERATIONS_PER_TXN)
        ]
        client.call("KV.Txn", success=operations)
        client.call("KV.Put", key=b"key/%06d" % dice.randrange(KEYS), value=b"again")
        client.call("KV.DeleteRange", key=b"key/%06d" % dice.randrange(KEYS))
        if begin == KEYS // 2:
            revision = client.call("KV.Range", key=b"a").header.revision
            client.call("KV.Compact", revision=revision - 7)
    client.call("Lease.LeaseRevoke", ID=leases[0])
    client.call("KV.DeleteRange", key=b"key/%06d" % (KEYS // 2), range_end=b"key/%06d" % (KEYS))


class RestartTests(SynchronousTestCase):
    timeout = 240

    def setUp(self) -> None:
        self.member = Member(server_under_test())
        self.addCleanup(self.member.close)

    def look(self) -> dict[str, object]:
        """Everything that a client can see of the store and the leases."""
        with contextlib.closing(ForeignClient(self.member.endpoint)) as client:
            hash_kv = client.call("Maintenance.HashKV")
            everything = client.call("KV.Range", key=b"\0", range_end=b"\0")
            leases = [each.ID for each in client.call("Lease.LeaseLeases").leases]
            of_leases = [
                client.call("Lease.LeaseTimeToLive", ID=each, keys=True) for each in leases
            ]
            with self.assertRaises(grpc.RpcError) as too_old:
                client.call("KV.Range", key=b"a", revision=hash_kv.compact_revision - 1)
            return {
                "revision": everything.header.revision,
                "hash": (hash_kv.hash, hash_kv.compact_revision),
                "older hash": client.call(
                    "Maintenance.HashKV", revision=everything.header.revision - 20
                ).hash,
                "keys": everything.kvs,
                "leases": {each.ID: (each.grantedTTL, set(each.keys)) for each in of_leases},
                "too old": too_old.exception.details(),
                "ids": (everything.header.cluster_id, everything.header.member_id),
            }

    def test_killed(self) -> None:
        """After many writes, deletes, leases and a compaction, kill and restart: the same
        revision, hash at two revisions, compacted revision, keys and leases."""
        self.member.start()
        with contextlib.closing(ForeignClient(self.member.endpoint)) as client:
            fill(client)
        before = self.look()
        self.member.kill()
        seconds = self.member.start(RESTART_SECONDS_MAX)
        self.assertLess(seconds, RESTART_SECONDS_MAX)
        after = self.look()
        for name, value in before.items():
            self.assertEqual(after[name], value, name)
        with contextlib.closing(ForeignClient(self.member.endpoint)) as client:
            self.assertEqual(
                client.call("KV.Put", key=b"a").header.revision, int(str(before["revision"])) + 1
            )

    def test_segments(self) -> None:
        """The log changes segments under load, and a restart after a kill reads all of them."""
        self.member.start()
        with contextlib.closing(ForeignClient(self.member.endpoint)) as client:
            for number in range(LARGE_VALUES):
                value = b"%03d" % number * (LARGE_VALUE_BYTES // 3)
                client.call("KV.Put", key=b"large%d" % (number % 5), value=value)
            client.call("KV.Compact", revision=LARGE_VALUES - 20)
        segments = list((self.member.data_dir / "member/wal").glob("*.wal"))
        self.assertEqual(len(segments), 1 + LARGE_VALUES // 64)
        before = self.look()
        self.member.kill()
        self.member.start(RESTART_SECONDS_MAX)
        self.assertEqual(self.look(), before)
