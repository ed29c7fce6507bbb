"""The KV part of a member without network and log."""

from __future__ import annotations

from typing import Any

from etcdtw.api.v3.kv_checks import check_delete_range, check_put, check_range, check_txn
from etcdtw.apply.header import HeaderSource
from etcdtw.apply.kv import KvApplier
from etcdtw.apply.plain_put import plain_put
from etcdtw.mvcc.store import Store
from etcdtw.storage.backend.memory import MemoryBackend
from tests.mvcc.leases import FakeLessor

MAX_TXN_OPS = 128


class Floor:
    """A member from the checks of the API down to the store."""

    def __init__(self, cluster_id: int, member_id: int, term: int) -> None:
        self.backend = MemoryBackend()
        self.leases = FakeLessor()
        self.store = Store(self.backend, self.leases)
        self.header = HeaderSource(cluster_id, member_id, term)
        self.applier = KvApplier(self.store, self.leases, self.header)

    def call(self, method: str, request: Any) -> bytes:
        """Carry out one KV call; its response, or an ``EtcdError`` is raised."""
        if method == "KV.Range":
            check_range(request)
            return self.applier.range(request)
        if method == "KV.Put":
            check_put(request)
            return self.applier.put(plain_put(request.SerializeToString()) or request)
        if method == "KV.DeleteRange":
            check_delete_range(request)
            return self.applier.delete_range(request)
        if method == "KV.Txn":
            check_txn(request, MAX_TXN_OPS)
            return self.applier.txn(request)
        assert method == "KV.Compact", method
        response, job = self.applier.compaction(request)
        while not job.step():
            pass
        return response

    def revoke(self, lease: int) -> None:
        txn = self.store.write()
        for key in sorted(self.leases.revoke(lease)):
            txn.delete_range(key)
        txn.end()

    def restart(self) -> None:
        """Open the store again, over the same backend."""
        leases = FakeLessor()
        for lease in self.leases.keys:
            leases.grant(lease)
        self.leases = leases
        self.store = Store(self.backend, leases)
        self.applier = KvApplier(self.store, leases, self.header)
