"""The logs of real etcd 3.4 and 3.5 members, applied: HashKV must be theirs at every moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.apply.header import HeaderSource
from etcdtw.apply.kv import KvApplier
from etcdtw.errors import EtcdError
from etcdtw.mvcc.store import Store
from etcdtw.pb.raft_internal_pb2 import InternalRaftRequest
from etcdtw.storage.backend.memory import MemoryBackend
from tests.mvcc.leases import FakeLessor

HERE = Path(__file__).parent
LOGS = HERE.parent / "storage" / "vectors"
HISTORY = HERE / "vectors" / "hash-history.json"


def entries(log: str) -> list[tuple[int, dict[str, Any]]]:
    """Index and InternalRaftRequest of the v3 entries in a decoded WAL."""
    decoded = json.loads((LOGS / f"{log}.decoded.json").read_text())
    found = {}
    for name in sorted(decoded["wal"]):
        for record in decoded["wal"][name]["records"]:
            data = record.get("data") if record["type"] == "entry" else None
            if data and "InternalRaftRequest" in data:
                found[int(record["value"]["Index"])] = data["InternalRaftRequest"]
    return sorted(found.items())


def may_write(request: dict[str, Any]) -> bool:
    """What the recorded permissions say: user alice may write keys that begin with k."""
    if request["header"].get("username") != "alice":
        return True
    put: InternalRaftRequest = ParseDict({"put": request["put"]}, InternalRaftRequest())
    return put.put.key.startswith(b"k")


class Member:
    """The KV and lease part of a member that applies a log."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.lessor = FakeLessor()
        self.store = Store(self.backend, self.lessor)
        self.applier = KvApplier(self.store, self.lessor, HeaderSource(1, 1))

    def apply(self, request: dict[str, Any]) -> None:
        kinds = request.keys() & {
            "put", "delete_range", "txn", "compaction", "lease_grant", "lease_revoke"
        }  # fmt: skip
        if not kinds or not may_write(request):
            return
        [kind] = kinds
        parsed = getattr(ParseDict({kind: request[kind]}, InternalRaftRequest()), kind)
        if kind == "lease_grant":
            self.lessor.grant(parsed.ID)
        elif kind == "lease_revoke":
            txn = self.store.write()
            for key in self.lessor.revoke(parsed.ID):
                txn.delete_range(key)
            txn.end()
        elif kind == "compaction":
            _, job = self.applier.compaction(parsed)
            while not job.step(2):
                pass
        else:
            getattr(self.applier, kind)(parsed)

    def hash_kv(self, revision: int) -> dict[str, Any]:
        try:
            job = self.store.hash_kv(revision)
        except EtcdError as error:
            return {"error": str(error)}
        while not job.step(3):
            pass
        return {"hash": job.hash, "compact_revision": job.compact_revision}


class HashHistoryTests(SynchronousTestCase):
    """One member per recorded log."""

    def replay(self, log: str) -> None:
        moments = json.loads(HISTORY.read_text())[log]
        member = Member()
        remaining = entries(log)
        for moment in moments:
            while remaining and remaining[0][0] <= moment["applied_index"]:
                member.apply(remaining.pop(0)[1])
            self.assertEqual(member.store.revision, moment["revision"], moment["label"])
            wanted = moment["hashkv"]
            got = {revision: member.hash_kv(int(revision)) for revision in wanted}
            self.assertEqual(got, wanted, moment["label"])
            # A restart from the backend does not change the answers.
            member.store = Store(member.backend)
            self.assertEqual({at: member.hash_kv(int(at)) for at in wanted}, wanted)
            member.store = member.applier._store

    def test_single_3_5(self) -> None:
        """A single member of etcd 3.5.1."""
        self.replay("wal-3.5/single.crash")

    def test_three_3_5(self) -> None:
        """A cluster of three of etcd 3.5.1."""
        self.replay("wal-3.5/three-m0")

    def test_single_3_4(self) -> None:
        """A single member of etcd 3.4.23."""
        self.replay("wal-3.4/single.crash")

    def test_three_3_4(self) -> None:
        """A cluster of three of etcd 3.4.23."""
        self.replay("wal-3.4/three-m0")
