"""The KV requests, carried out on the store; the answers are the bytes of their responses.

Everything here depends on the store and the request alone, so that all members agree. Responses
are written by hand from stored bytes: fields in number order, zero fields absent.
"""

from __future__ import annotations

from collections.abc import Sequence

from etcdtw.apply.header import HeaderSource
from etcdtw.apply.kv_range import range_response
from etcdtw.apply.kv_write import (
    Leases,
    check_put,
    delete_range_in_turns,
    delete_range_response,
    put_response,
)
from etcdtw.apply.large_range import LargeRange, is_large
from etcdtw.apply.large_txn import LargeRead, txn_in_turns
from etcdtw.apply.plain_put import PlainPut
from etcdtw.apply.txn import Reads, TooLarge, plan
from etcdtw.errors import LeaseNotFound
from etcdtw.mvcc.as_of import AsOf
from etcdtw.mvcc.compaction import Compaction
from etcdtw.mvcc.plain_puts import put_each
from etcdtw.mvcc.store import Store
from etcdtw.mvcc.write_txn import WriteTxn
from etcdtw.pb.rpc_pb2 import (
    CompactionRequest,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from etcdtw.turns import Allowance, TakesTurns, Work


class KvApplier:
    """One method per request; each returns a response or raises an ``EtcdError`` before it has
    changed anything. Those that may touch very many keys raise ``TakesTurns`` if they do."""

    def __init__(
        self,
        store: Store,
        leases: Leases,
        header: HeaderSource,
        allowance: Allowance | None = None,
    ) -> None:
        self._store = store
        self._reads: Reads = store
        self._leases = leases
        self._header = header
        self._allowance = allowance or Allowance()

    def in_turns(self, work: Work[object]) -> Work[object]:
        """Carry out work that changes the store; what reads find is the store before it."""
        store = self._store
        self._reads = store.before = AsOf(store, store.revision)
        try:
            return (yield from work)
        finally:
            self._reads = store
            store.before = None

    # --- reading -------------------------------------------------------------------------------

    def range(self, request: RangeRequest) -> bytes:
        """Raises ``FutureRevision``, ``Compacted``, or InvalidArgument for a sort target that
        does not exist."""
        return range_response(self._reads, request, self._header.encode)

    def large_range(self, request: RangeRequest) -> LargeRange | None:
        """The job that answers a range over very many keys; None for others. Raises as ``range``
        does."""
        if not is_large(self._store, request):
            return None
        return LargeRange(self._store, request, self._header.encode)

    def range_one(self, key: bytes) -> bytes:
        """The response to a request for one key and nothing more."""
        self._store.ranges += 1
        reads = self._reads
        chunk = reads.current_chunk(key)
        header = self._header.encode(reads.revision)
        return header if chunk is None else header + chunk + b"\x20\x01"

    def read_txn(self, request: TxnRequest) -> bytes | LargeRead:
        """The response to a transaction that only reads, or the job that makes it. Raises as
        ``txn`` does."""
        reads, store = self._reads, self._store
        try:
            planned = plan(reads, request, self._allowance)
        except TooLarge:
            return LargeRead(store, request, self._header.encode, self._allowance.piece_keys)
        planned.check_ranges(reads)
        store.txns += 1
        rest = planned.run(store, reads, store.write())
        return self._header.encode(reads.revision) + rest

    # --- writing -------------------------------------------------------------------------------

    def put(self, request: PutRequest | PlainPut) -> bytes:
        """Raises ``LeaseNotFound`` or, for ignore_value and ignore_lease, ``KeyNotFound``."""
        store = self._store
        if isinstance(request, tuple):
            return self.put_each([request])[0]
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

    def put_each(self, puts: Sequence[PlainPut]) -> list[bytes]:
        """The responses of puts that are carried out one after the other."""
        return self._header.encode_each(put_each(self._store, puts))

    def delete_range(self, request: DeleteRangeRequest) -> bytes:
        store, allowance = self._store, self._allowance
        txn = store.write()
        if request.range_end:
            found = len(txn.keys(request.key, request.range_end, allowance.keys_max + 1))
            if not allowance.admits(found):
                raise TakesTurns(self._delete_in_turns(txn, request))
        response = delete_range_response(store, txn, request, self._header.encode)
        txn.end()
        return response

    def _delete_in_turns(self, txn: WriteTxn, request: DeleteRangeRequest) -> Work[bytes]:
        response = yield from delete_range_in_turns(
            self._store, txn, request, self._header.encode, self._allowance.piece_keys
        )
        txn.end()
        return response

    def txn(self, request: TxnRequest) -> bytes:
        """Raises what the puts and ranges of the branches taken raise, before the first write."""
        store, header, allowance = self._store, self._header.encode, self._allowance
        try:
            planned = plan(store, request, allowance)
        except TooLarge:
            raise TakesTurns(
                txn_in_turns(store, self._leases, request, header, allowance.piece_keys)
            ) from None
        planned.check(store, self._leases)
        store.txns += 1
        txn = store.write()
        rest = planned.run(store, txn, txn)
        return header(txn.end()) + rest

    def compaction(self, request: CompactionRequest) -> tuple[bytes, Compaction]:
        """The response, and the job that removes what is compacted.

        Raises ``Compacted`` or ``FutureRevision``.
        """
        job = self._store.compact(request.revision)
        return self._header.encode(self._store.revision), job
