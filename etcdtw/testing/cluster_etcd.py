"""etcd's own state for a simulated cluster: keys and leases over a backend that forgets."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from random import Random

from etcdtw.apply.alarms import Alarms
from etcdtw.apply.applier import Applier
from etcdtw.apply.header import HeaderSource
from etcdtw.apply.kv import KvApplier
from etcdtw.apply.quota import Quota
from etcdtw.auth import AuthStore
from etcdtw.lease.apply import LeaseApplier
from etcdtw.lease.lessor import Lessor
from etcdtw.mvcc.compaction import Compaction
from etcdtw.mvcc.store import Store
from etcdtw.pb.raft_internal_pb2 import InternalRaftRequest
from etcdtw.pb.rpc_pb2 import PutRequest, RangeRequest, RangeResponse
from etcdtw.raft.messages import ConfChange, ConfState, Entry, Snapshot
from etcdtw.raft.state_machine import Proposed, Saved
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.testing.cluster import MemberParts
from etcdtw.testing.cluster_machine import LedgerMachine, OnApplied, Write
from etcdtw.testing.cluster_watch import Watching
from etcdtw.turns import Allowance, TakesTurns, Work
from etcdtw.v2store import save

COMMIT_ENTRIES = 23
"""Entries from one commit of the backend to the next; a crash loses those after the last one."""

KEYS_PER_TURN = 3
"""Small, so that many requests take several turns."""

DIGEST_ENTRIES = 50
"""A digest covers the whole backend, so it is made every so many entries only."""

_KEYS = [f"key{number}".encode() for number in range(8)]
_LEASES = [1001, 1002, 1003]
_EVERYTHING = RangeRequest(key=b"\0", range_end=b"\0")


class EtcdMachine(LedgerMachine):
    """The applier of a real member behind the face of a LedgerMachine.

    After a crash the backend is as of its last commit, and entries that it holds already are
    replayed on the v2 tree and the members only.
    """

    def __init__(self, on_applied: OnApplied, backend: MemoryBackend) -> None:
        super().__init__(on_applied, backend)
        self._held_index, _ = backend.consistent_index()
        header = HeaderSource(1, 1)
        lessor = Lessor(backend, 1)
        store = Store(backend, lessor)
        allowance = Allowance(KEYS_PER_TURN, piece_keys=1)
        kv = KvApplier(store, lessor, header, allowance)
        leases = LeaseApplier(lessor, store, header, lambda: 0.0, allowance)
        quota = Quota(backend.size, -1)
        alarms = Alarms(backend)
        auth = AuthStore(backend, lambda password: password)
        self._backend = backend
        self._kv = kv
        self._store = store
        self._watching: Watching | None = None
        self._applier = Applier(backend, kv, leases, self.store, self.members, alarms, quota, auth)
        self._applier.on_compaction.append(_run)

    def apply(self, entry: Entry, proposal: Proposed | None) -> object:
        if entry.data:
            request_id = InternalRaftRequest.FromString(entry.data).header.ID
            self.writes.setdefault(request_id, entry.index)
        try:
            answer = self._applier.apply(entry, proposal)
        except TakesTurns as large:
            large.work = self._noted(entry, large.work)
            raise
        self._note(entry)
        return answer

    def _noted(self, entry: Entry, work: Work[object]) -> Work[object]:
        answer = yield from work
        self._note(entry)
        return answer

    def apply_conf_change(
        self, entry: Entry, change: ConfChange, conf_state: ConfState, refused: Exception | None
    ) -> object:
        answer = self._applier.apply_conf_change(entry, change, conf_state, refused)
        self._note(entry)
        return answer

    def watch(self, watching: Watching) -> None:
        self._watching = watching
        watching.begin(self._store)

    def wait_durable(self, index: int, done: Callable[[], None]) -> None:
        self._backend.wait_durable(index, done)

    def begin_save(self) -> Saved:
        ledger = {"writes": sorted(self.writes.items()), "store": save(self.store).decode()}
        return Saved(json.dumps(ledger).encode())

    def restore(self, snapshot: Snapshot) -> None:
        ledger = json.loads(snapshot.data or b"")
        self.writes = dict(ledger["writes"])
        self._applier.resume(snapshot._replace(data=ledger["store"].encode()))
        self.applied_index = snapshot.index

    def current_digest(self) -> bytes:
        digest = sha256()
        for bucket in self._backend.buckets():
            for key, value in self._backend.scan(bucket, b"", None):
                digest.update(b"%s %d %d" % (bucket, len(key), len(value)) + key + value)
        return digest.digest()

    def look(self, key: bytes) -> tuple[bytes, int]:
        found = RangeResponse.FromString(self._kv.range_one(key)).kvs
        return (found[0].value, found[0].version) if found else (b"", 0)

    def _note(self, entry: Entry) -> None:
        self.applied_index = entry.index
        if self._watching is not None:
            self._watching.go_on()
        if entry.index % COMMIT_ENTRIES == 0:
            self._backend.commit()
        comparable = entry.index >= self._held_index and entry.index % DIGEST_ENTRIES == 0
        self.digest = self.current_digest() if comparable else b""
        self._on_applied(entry, self)


def _run(job: Compaction) -> None:
    while not job.step():
        pass


def draw_etcd_write(dice: Random, request_id: int) -> Write:
    """A put, delete, transaction, lease or compaction on a few keys, so that clients meet."""
    request = InternalRaftRequest()
    request.header.ID = request_id
    key, lease = dice.choice(_KEYS), dice.choice(_LEASES)
    kind = dice.choice(("put", "put", "put", "delete_range", "txn", "lease", "compaction"))
    if kind == "put":
        request.put.key = key
        request.put.value = b"%d" % request_id
        request.put.lease = lease if dice.random() < 0.2 else 0
        request.put.prev_kv = dice.random() < 0.2
    elif kind == "delete_range":
        request.delete_range.key = key
        request.delete_range.range_end = max(key, dice.choice(_KEYS)) + b"\0"
    elif kind == "txn":
        compare = request.txn.compare.add(key=key, target="VERSION", result="GREATER")
        compare.version = dice.randrange(3)
        request.txn.success.add().request_put.MergeFrom(_put(key, request_id))
        request.txn.success.add().request_delete_range.key = dice.choice(_KEYS) + b"x"
        request.txn.success.add().request_range.MergeFrom(_EVERYTHING)
        request.txn.failure.add().request_put.MergeFrom(_put(key, request_id + 1))
    elif kind == "lease":
        kind = dice.choice(("lease_grant", "lease_revoke"))
        getattr(request, kind).ID = lease
        if kind == "lease_grant":
            request.lease_grant.TTL = 60
    else:
        request.compaction.revision = dice.randrange(1, 60)
    return Write(request.SerializeToString(), kind, getattr(request, kind))


def _put(key: bytes, number: int) -> PutRequest:
    return PutRequest(key=key, value=b"%d" % number)


ETCD_PARTS = MemberParts(machine=EtcdMachine, draw=draw_etcd_write, keys=tuple(_KEYS))
"""Members that hold what real ones hold."""
