"""Transactions and puts where the recorded cases leave room for doubt.

What is marked as seen was tried on etcd 3.5.1.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3.kv_checks import (
    NESTING_MAX,
    check_txn,
    is_read_only_txn,
    is_serializable_txn,
)
from etcdtw.apply.header import HeaderSource
from etcdtw.apply.kv import KvApplier
from etcdtw.errors import (
    Compacted,
    DuplicateKey,
    EtcdError,
    FutureRevision,
    InvalidArgument,
    KeyNotFound,
    LeaseNotFound,
    TooManyOps,
)
from etcdtw.mvcc.store import Store
from etcdtw.pb.raft_internal_pb2 import InternalRaftRequest
from etcdtw.pb.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    TxnRequest,
    TxnResponse,
)
from etcdtw.storage.backend.memory import MemoryBackend
from tests.mvcc.leases import FakeLessor


def put(key: bytes, value: bytes = b"", **options: object) -> RequestOp:
    return RequestOp(request_put=PutRequest(key=key, value=value, **options))  # type: ignore[arg-type]


def delete(key: bytes, end: bytes = b"") -> RequestOp:
    return RequestOp(request_delete_range=DeleteRangeRequest(key=key, range_end=end))


def get(key: bytes, **options: object) -> RequestOp:
    return RequestOp(request_range=RangeRequest(key=key, **options))  # type: ignore[arg-type]


def nested(**parts: object) -> RequestOp:
    return RequestOp(request_txn=TxnRequest(**parts))  # type: ignore[arg-type]


class CheckTests(SynchronousTestCase):
    """What is refused before the log."""

    def check(self, *operations: RequestOp, max_ops: int = 128) -> None:
        check_txn(TxnRequest(success=operations), max_ops)
        check_txn(TxnRequest(failure=operations), max_ops)

    def refused(self, *operations: RequestOp) -> None:
        for branch in ("success", "failure"):
            request = TxnRequest(**{branch: operations})  # type: ignore[arg-type]
            self.assertRaises(DuplicateKey, check_txn, request, 128)

    def test_deletion_from_a_key_on(self) -> None:
        """A deletion from a key to the end overlaps with no put (seen)."""
        self.check(delete(b"a", b"\0"), put(b"b"))

    def test_order_of_nested_ones(self) -> None:
        """A nested deletion meets the nested puts after it and those of its parent, not the ones
        before it (seen)."""
        self.check(nested(success=[put(b"a")]), nested(success=[delete(b"a")]))
        self.refused(nested(success=[delete(b"a")]), nested(success=[put(b"a")]))
        self.refused(nested(success=[delete(b"a", b"c")]), put(b"b"))
        self.refused(nested(success=[put(b"b")]), delete(b"a", b"c"))

    def test_bounds_of_ranges(self) -> None:
        """A deletion covers its start and not its end; many of them are told apart."""
        self.check(delete(b"a", b"c"), delete(b"b", b"d"), delete(b"f"), put(b"d"), put(b"e"))
        self.refused(delete(b"a", b"c"), delete(b"b"), put(b"b\0"))
        self.refused(delete(b"f"), put(b"f"))

    def test_branches(self) -> None:
        """The branches of one transaction may put the same key, but not what a sibling puts."""
        both = nested(success=[put(b"a")], failure=[put(b"a"), put(b"b")])
        self.check(both)
        self.refused(both, nested(failure=[put(b"b")]))
        self.refused(both, put(b"a"))

    def test_budget_of_nested_ones(self) -> None:
        """A nested transaction has what its parent's own number of operations leaves."""
        self.check(nested(success=[get(b"a")] * 3), max_ops=4)
        request = TxnRequest(success=[nested(success=[get(b"a")] * 4)])
        self.assertRaises(TooManyOps, check_txn, request, 4)

    def test_nesting(self) -> None:
        """Transactions are nested no deeper than a log entry can be decoded again."""
        request = TxnRequest()
        for _ in range(NESTING_MAX):
            request = TxnRequest(success=[RequestOp(request_txn=request)])
        check_txn(request, 128)
        entry = InternalRaftRequest(txn=request)
        self.assertEqual(InternalRaftRequest.FromString(entry.SerializeToString()), entry)
        request = TxnRequest(success=[RequestOp(request_txn=request)])
        self.assertRaises(TooManyOps, check_txn, request, 128)

    def test_first_problem_counts(self) -> None:
        """Sizes and keys are checked throughout before any duplicate is looked for."""
        request = TxnRequest(success=[put(b"a"), put(b"a"), RequestOp()])
        self.assertRaises(KeyNotFound, check_txn, request, 128)

    def test_kinds(self) -> None:
        """Only ranges at the top level make a transaction read only; all of them serializable
        make it serializable."""
        local = get(b"a", serializable=True)
        for operations, read_only, serializable in (
            ([], True, True),
            ([local], True, True),
            ([local, get(b"a")], True, False),
            ([local, put(b"a")], False, False),
            ([nested(success=[local])], False, False),
        ):
            request = TxnRequest(failure=operations)
            self.assertEqual(is_read_only_txn(request), read_only)
            self.assertEqual(is_serializable_txn(request), serializable)


class ApplyTests(SynchronousTestCase):
    """What happens at apply."""

    def setUp(self) -> None:
        self.leases = FakeLessor()
        self.leases.grant(7)
        self.store = Store(MemoryBackend(), self.leases)
        self.applier = KvApplier(self.store, self.leases, HeaderSource(1, 2, 3))
        self.store.put_one(b"a", b"1", 7)

    def txn(self, *operations: RequestOp, **parts: object) -> TxnResponse:
        request = TxnRequest(success=operations, **parts)  # type: ignore[arg-type]
        return TxnResponse.FromString(self.applier.txn(request))

    def refused(self, error: type[EtcdError], *operations: RequestOp) -> None:
        """Refused, and without a trace."""
        self.assertRaises(error, self.txn, *operations)
        self.assertEqual(self.store.revision, 2)
        self.assertEqual(self.store.range(b"\0", b"\0").count, 1)

    def test_refused_before_the_first_write(self) -> None:
        """What any operation of a branch taken would raise comes before anything is written."""
        first = put(b"x", b"1")
        self.refused(LeaseNotFound, first, put(b"y", lease=9))
        self.refused(KeyNotFound, first, put(b"y", ignore_value=True))
        self.refused(KeyNotFound, first, put(b"y", ignore_lease=True))
        self.refused(FutureRevision, first, get(b"a", revision=3))
        self.refused(Compacted, first, get(b"a", revision=-5))
        self.refused(InvalidArgument, first, get(b"a", sort_target=9))
        self.refused(LeaseNotFound, first, nested(success=[put(b"y", lease=9)]))
        self.refused(FutureRevision, first, nested(success=[get(b"a", revision=3)]))
        self.refused(LeaseNotFound, get(b"a", revision=3), put(b"y", lease=9))

    def test_other_branch_is_not_checked(self) -> None:
        """A branch that is not taken can hold anything."""
        response = self.txn(failure=[put(b"y", lease=9), get(b"a", revision=99)])
        self.assertTrue(response.succeeded)

    def test_from_key_deletion_and_put(self) -> None:
        """A key deleted and put in one transaction begins anew in its revision (seen)."""
        response = self.txn(delete(b"a", b"\0"), put(b"a", b"2"), get(b"a"))
        [kv] = response.responses[2].response_range.kvs
        self.assertEqual((kv.create_revision, kv.mod_revision, kv.version), (3, 3, 1))

    def test_ignore_flags_after_a_deletion(self) -> None:
        """Where nothing is left to take from, of which etcd dies, a put keeps what it brings."""
        self.txn(delete(b"a", b"\0"), put(b"a", ignore_value=True, ignore_lease=True))
        [kv] = RangeResponse.FromString(self.applier.range(RangeRequest(key=b"a"))).kvs
        self.assertEqual((kv.value, kv.lease, kv.version), (b"", 0, 1))

    def test_ignore_flags_after_a_deletion_are_refused(self) -> None:
        """No member of the cluster that is etcd's should get such an entry."""
        everything, take = delete(b"a", b"\0"), put(b"b", ignore_value=True)
        take_lease = put(b"b", ignore_lease=True)
        for operations in (
            (everything, take),
            (everything, take_lease),
            (nested(failure=[everything]), nested(success=[get(b"a"), take])),
            (nested(success=[everything, nested(failure=[take_lease])]),),
        ):
            for request in (TxnRequest(success=operations), TxnRequest(failure=operations)):
                self.assertRaises(DuplicateKey, check_txn, request, 128)
        for operations in (
            (take, everything),
            (everything, put(b"b")),
            (delete(b"c", b"\0"), take),
            (nested(success=[everything], failure=[take]),),
        ):
            check_txn(TxnRequest(success=operations), 128)

    def test_ignore_flags(self) -> None:
        """ignore_value keeps the value, ignore_lease the lease; the other one is replaced."""
        self.applier.put(PutRequest(key=b"a", ignore_value=True))
        self.assertEqual(self.store.lease_of, {})
        self.applier.put(PutRequest(key=b"a", value=b"2", lease=7))
        response = PutResponse.FromString(
            self.applier.put(PutRequest(key=b"a", value=b"3", ignore_lease=True, prev_kv=True))
        )
        self.assertEqual((response.prev_kv.value, response.prev_kv.lease), (b"2", 7))
        self.assertEqual(self.leases.keys, {7: {b"a"}})

    def test_deletion_headers(self) -> None:
        """A deletion that finds nothing shows the revision of the writes before it."""
        response = self.txn(delete(b"none"), put(b"b"), delete(b"none"))
        revisions = [
            getattr(each, each.WhichOneof("response") or "").header.revision
            for each in response.responses
        ]
        self.assertEqual(revisions, [2, 3, 3])

    def test_own_writes_at_an_old_revision(self) -> None:
        """A range at a given revision sees nothing of its own transaction."""
        response = self.txn(put(b"a", b"2"), get(b"a", revision=2))
        self.assertEqual(response.responses[1].response_range.kvs[0].value, b"1")

    def test_compares_are_of_before(self) -> None:
        """Nested compares look at the store before any write of the whole transaction."""
        exists = Compare(key=b"b", target=Compare.VERSION, result=Compare.GREATER)
        response = self.txn(put(b"b"), nested(compare=[exists], failure=[get(b"b")]))
        inner = response.responses[1].response_txn
        self.assertFalse(inner.succeeded)
        self.assertEqual(inner.responses[0].response_range.count, 1)

    def test_deleted_pairs(self) -> None:
        """prev_kv of a deletion gives the pairs in key order."""
        self.store.put_one(b"b", b"2")
        request = DeleteRangeRequest(key=b"a", range_end=b"\0", prev_kv=True)
        response = DeleteRangeResponse.FromString(self.applier.delete_range(request))
        self.assertEqual(response.deleted, 2)
        self.assertEqual([kv.key for kv in response.prev_kvs], [b"a", b"b"])
        self.assertEqual(response.header.revision, 4)

    def test_range_one(self) -> None:
        """The short way to read one key answers like the long one."""
        for key in (b"a", b"none"):
            self.assertEqual(self.applier.range_one(key), self.applier.range(RangeRequest(key=key)))

    def test_target_without_order(self) -> None:
        """A sort target without an order sorts only what the limit let through, as etcd does."""
        self.store.put_one(b"b", b"0")
        self.store.put_one(b"c", b"")
        request = RangeRequest(
            key=b"a", range_end=b"\0", limit=1, sort_target=RangeRequest.SortTarget.VALUE
        )
        response = RangeResponse.FromString(self.applier.range(request))
        self.assertEqual([kv.key for kv in response.kvs], [b"b"])
        request.sort_order = RangeRequest.SortOrder.ASCEND
        response = RangeResponse.FromString(self.applier.range(request))
        self.assertEqual([kv.key for kv in response.kvs], [b"c"])


class HeaderTests(SynchronousTestCase):
    """Response headers."""

    def test_term_and_revision(self) -> None:
        """A header follows term and revision, and leaves out what is zero."""
        header = HeaderSource(1, 2)

        def fields(revision: int) -> tuple[int, int, int, int]:
            got = PutResponse.FromString(header.encode(revision)).header
            return got.cluster_id, got.member_id, got.revision, got.raft_term

        self.assertEqual(fields(5), (1, 2, 5, 0))
        self.assertEqual(fields(5), (1, 2, 5, 0))
        header.term = 4
        self.assertEqual(fields(5), (1, 2, 5, 4))
        self.assertEqual(header.encode(0).hex(), "0a06" + "0801" + "1002" + "2004")
