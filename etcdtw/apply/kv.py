"""The KV requests, carried out on the store; the answers are the bytes of their responses.

Everything here depends on the store and the request alone, so that all members agree. Responses
are written by hand from stored bytes: fields in number order, zero fields absent.
"""

from __future__ import annotations

from etcdtw.apply.header import HeaderSource
from etcdtw.apply.kv_range import range_response
from etcdtw.apply.kv_write import (
    Leases,
    PlainPut,
    check_put,
    delete_range_response,
    put_response,
)
from etcdtw.apply.large_range import LargeRange, is_large
from etcdtw.apply.txn import TxnPlan
from etcdtw.errors import LeaseNotFound
from etcdtw.mvcc.compaction import Compaction
from etcdtw.mvcc.store import Store
from etcdtw.pb.rpc_pb2 import (
    CompactionRequest,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)


class KvApplier:
    """One method per request; each returns a response or raises an ``EtcdError`` before it has
    changed anything."""

    def __init__(self, store: Store, leases: Leases, header: HeaderSource) -> None:
        self._store = store
        self._leases = leases
        self._header = header

    def range(self, request: RangeRequest) -> bytes:
        """Raises ``FutureRevision``, ``Compacted``, or InvalidArgument for a sort target that
        does not exist."""
        return range_response(self._store, request, self._header.encode)

    def large_range(self, request: RangeRequest) -> LargeRange | None:
        """The job that answers a range over very many keys; None for others. Raises as ``range``
        does."""
        if not is_large(self._store, request):
            return None
        return LargeRange(self._store, request, self._header.encode)

    def range_one(self, key: bytes) -> bytes:
        """The response to a request for one key and nothing more."""
        store = self._store
        store.ranges += 1
        chunk = store.current_chunk(key)
        header = self._header.encode(store.revision)
        return header if chunk is None else header + chunk + b"\x20\x01"

    def put(self, request: PutRequest | PlainPut) -> bytes:
        """Raises ``LeaseNotFound`` or, for ignore_value and ignore_lease, ``KeyNotFound``."""
        store = self._store
        if isinstance(request, PlainPut):
            return self._header.encode(store.put_one(request.key, request.value))
        lease = request.lease
        if lease and not self._leases.exists(lease):
            raise LeaseNotFound
        if not (request.prev_kv or request.ignore_value or request.ignore_lease):
            return self._header.encode(store.put_one(request.key, request.value, lease))
        check_put(store, self._leases, request)
        txn = store.write()
        response = put_response(store, txn, request, self._header.encode)
        txn.end()
        return response

    def delete_range(self, request: DeleteRangeRequest) -> bytes:
        txn = self._store.write()
        response = delete_range_response(txn, request, self._header.encode)
        txn.end()
        return response

    def txn(self, request: TxnRequest) -> bytes:
        """Raises what the puts and ranges of the branches taken raise, before the first write."""
        plan = TxnPlan(self._store, request)
        plan.check(self._store, self._leases)
        self._store.txns += 1
        txn = self._store.write()
        rest = plan.run(self._store, txn)
        return self._header.encode(txn.end()) + rest

    def compaction(self, request: CompactionRequest) -> tuple[bytes, Compaction]:
        """The response, and the job that removes what is compacted.

        Raises ``Compacted`` or ``FutureRevision``.
        """
        job = self._store.compact(request.revision)
        return self._header.encode(self._store.revision), job
