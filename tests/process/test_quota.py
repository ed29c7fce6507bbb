"""etcd's documented cure for a member that is out of space, with its own client."""

from __future__ import annotations

import contextlib
import json
import subprocess

import grpc
from twisted.trial.unittest import SynchronousTestCase

from tests.process.foreign import ForeignClient, start_unhealthy
from tests.process.member import Member, etcdctl, server_under_test

QUOTA_BYTES = 16 << 20
VALUE_BYTES = 1 << 18
PUTS_MAX = 3 * QUOTA_BYTES // VALUE_BYTES


class QuotaTests(SynchronousTestCase):
    timeout = 120

    def etcdctl(self, *words: str) -> str:
        command = [etcdctl(), f"--endpoints={self.member.endpoint}", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def db_size(self) -> int:
        found = json.loads(self.etcdctl("endpoint", "status", "-w=json"))[0]["Status"]
        size: int = found["dbSize"]
        return size

    def test_compact_defrag_disarm(self) -> None:
        """One key is written until the quota is used up: puts are refused, reads and deletes are
        not, over a restart too. Compaction, defragmentation and disarming cure it; the size that is
        reported drops, and nothing else changes."""
        self.member = Member(server_under_test(), f"--quota-backend-bytes={QUOTA_BYTES}")
        self.addCleanup(self.member.close)
        self.member.start()
        with contextlib.closing(ForeignClient(self.member.endpoint)) as client:
            client.call("KV.Put", key=b"kept", value=b"1")
            client.call("KV.Put", key=b"gone", value=b"1")
            with self.assertRaises(grpc.RpcError) as caught:
                for _ in range(PUTS_MAX):
                    client.call("KV.Put", key=b"k", value=bytes(VALUE_BYTES))
            self.assertEqual(caught.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
            self.member.kill()
            start_unhealthy(self.member, client)
            self.assertIn("alarm:NOSPACE", self.etcdctl("alarm", "list"))
            self.assertEqual(client.call("KV.DeleteRange", key=b"gone").deleted, 1)
            full = self.db_size()
            self.assertGreater(full, QUOTA_BYTES // 2)
            before = client.call("KV.Range", key=b"\0", range_end=b"\0")
            revision = before.header.revision
            self.assertIn("compacted", self.etcdctl("compaction", str(revision), "--physical"))
            self.etcdctl("defrag")
            self.assertLess(self.db_size(), full // 4)
            self.etcdctl("alarm", "disarm")
            self.assertEqual(self.etcdctl("alarm", "list"), "")
            self.assertEqual(
                list(client.call("KV.Range", key=b"\0", range_end=b"\0").kvs), list(before.kvs)
            )
            client.call("KV.Put", key=b"k", value=b"small")
            self.member.kill()
            self.member.start()
            found = client.call("KV.Range", key=b"\0", range_end=b"\0")
            self.assertEqual(
                {kv.key: kv.mod_revision for kv in found.kvs}, {b"kept": 2, b"k": revision + 1}
            )
            self.assertLess(self.db_size(), full // 4)
