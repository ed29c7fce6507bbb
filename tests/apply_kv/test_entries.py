"""From a request to the bytes of its log entry, and what it counts for against the quota."""

from __future__ import annotations

from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3.submit import entry_data
from etcdtw.apply.quota import COST_PER_BYTE_MAX, request_cost
from etcdtw.apply.requests import V2, caller_of, decode_request
from etcdtw.auth import Caller
from etcdtw.errors import CorruptError, LeaseNotFound
from etcdtw.pb.etcdserver_pb2 import Request
from etcdtw.pb.raft_internal_pb2 import InternalRaftRequest
from etcdtw.pb.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    LeaseGrantRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from etcdtw.varint import varint
from tests.apply_kv.floor import Floor

# A transaction of etcd may be as deep as it may have operations: 128 unless a flag says otherwise.
ETCD_NESTING_MAX = 127

PUTS = st.builds(PutRequest, key=st.binary(max_size=3), value=st.sampled_from((b"", b"v" * 300)))
OPERATIONS = st.lists(st.builds(RequestOp, request_put=PUTS), max_size=5)
REQUESTS = st.one_of(
    st.tuples(st.just("put"), PUTS),
    st.tuples(st.just("txn"), st.builds(TxnRequest, success=OPERATIONS, failure=OPERATIONS)),
    st.tuples(st.just("lease_grant"), st.builds(LeaseGrantRequest, TTL=st.integers(0, 100))),
)


def field(tag: int, body: bytes) -> bytes:
    return bytes((tag,)) + varint(len(body)) + body


class EntryTests(SynchronousTestCase):
    """``entry_data`` and ``request_cost``."""

    def test_entry_bytes(self) -> None:
        """An entry is byte for byte what protobuf writes, with the header where its number puts
        it, and decodes to the request."""

        @settings(max_examples=200, deadline=None, derandomize=True)
        @given(REQUESTS, st.integers(128, (1 << 64) - 1))
        def check(request: tuple[str, Message], request_id: int) -> None:
            kind, message = request
            wanted = InternalRaftRequest()
            wanted.header.ID = request_id
            getattr(wanted, kind).CopyFrom(message)
            data = entry_data(kind, message.SerializeToString(), request_id)
            self.assertEqual(data, wanted.SerializeToString(deterministic=True))
            self.assertEqual(decode_request(data, 1), request)

        check()

    def test_header_first(self) -> None:
        """A member with a number above the header's comes behind it."""
        wanted = InternalRaftRequest()
        for request_id in range(200, 400):
            wanted.header.ID = request_id
            wanted.auth_enable.SetInParent()
            self.assertEqual(
                entry_data("auth_enable", b"", request_id),
                wanted.SerializeToString(deterministic=True),
            )

    def test_deep(self) -> None:
        """A transaction that a member of etcd has let be nested deeper than protobuf's decoder goes
        is carried out like any other, and its caller is known."""
        inner = TxnRequest(
            compare=[Compare(key=b"deep", target=Compare.VERSION)],
            success=[
                RequestOp(request_range=RangeRequest(key=b"deep")),
                RequestOp(request_put=PutRequest(key=b"deep", lease=-3)),
                RequestOp(),
            ],
            failure=[RequestOp(request_delete_range=DeleteRangeRequest(key=b"deep"))],
        ).SerializeToString()
        body = inner
        for _ in range(ETCD_NESTING_MAX):
            body = field(0x12, field(0x22, body))
        data = entry_data("txn", body, 1 << 14, Caller(b"alice", 3))
        kind, request = decode_request(data, 7)
        assert isinstance(request, TxnRequest)
        self.assertEqual((kind, caller_of(data)), ("txn", Caller(b"alice", 3)))
        floor = Floor(1, 2, 3)
        with self.assertRaises(LeaseNotFound):
            floor.applier.txn(request)
        floor.leases.grant(-3)
        floor.applier.txn(request)
        self.assertEqual(floor.store.lease_of, {b"deep": -3})
        for _ in range(ETCD_NESTING_MAX):
            (operation,) = request.success
            request = operation.request_txn
        self.assertEqual(request.SerializeToString(), inner)

    def test_unreadable(self) -> None:
        """A v3 request that cannot be decoded is not taken for a v2 request that says nothing: the
        members would hold different keys."""
        body = bytes(5) + b"\x07"
        for _ in range(60):
            body = field(0x12, field(0x22, body))
            with self.assertRaisesRegex(CorruptError, "log entry 7 is unreadable"):
                decode_request(entry_data("txn", body, 1 << 14), 7)
        v2_request = Request(ID=1, Method="QGET", Path="/", Val="")
        self.assertEqual(decode_request(v2_request.SerializeToString(), 7), (V2, v2_request))

    def test_v2_bytes(self) -> None:
        """Bytes of a v2 request that are no UTF-8, which etcd takes, become what etcd's snapshots
        make of them."""
        texts = {
            "Method": b"PUT",
            "Path": b"/1/\xff\xc3\xa9",
            "Val": b"\xf0\x9f\x98",
            "PrevValue": b"a",
        }
        data = b"".join(
            field(Request.DESCRIPTOR.fields_by_name[name].number << 3 | 2, text)
            for name, text in texts.items()
        )
        kind, request = decode_request(data, 7)
        assert isinstance(request, Request)
        self.assertEqual((kind, request.Path, request.Val), (V2, "/1/\ufffd\xe9", "\ufffd" * 3))
        self.assertEqual((request.Method, request.PrevValue), ("PUT", "a"))

    def test_cost_bound(self) -> None:
        """No request costs more than the bound that its entry's length gives."""

        @settings(max_examples=200, deadline=None, derandomize=True)
        @given(REQUESTS)
        def check(request: tuple[str, Message]) -> None:
            kind, message = request
            data = entry_data(kind, message.SerializeToString(), 1 << 14)
            self.assertLessEqual(request_cost(kind, message), COST_PER_BYTE_MAX * len(data))

        check()
