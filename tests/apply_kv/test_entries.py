"""From a request to the bytes of its log entry, and what it counts for against the quota."""

from __future__ import annotations

from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3.submit import entry_data
from etcdtw.apply.quota import COST_PER_BYTE_MAX, request_cost
from etcdtw.apply.requests import decode_request
from etcdtw.pb.raft_internal_pb2 import InternalRaftRequest
from etcdtw.pb.rpc_pb2 import LeaseGrantRequest, PutRequest, RequestOp, TxnRequest

PUTS = st.builds(PutRequest, key=st.binary(max_size=3), value=st.sampled_from((b"", b"v" * 300)))
OPERATIONS = st.lists(st.builds(RequestOp, request_put=PUTS), max_size=5)
REQUESTS = st.one_of(
    st.tuples(st.just("put"), PUTS),
    st.tuples(st.just("txn"), st.builds(TxnRequest, success=OPERATIONS, failure=OPERATIONS)),
    st.tuples(st.just("lease_grant"), st.builds(LeaseGrantRequest, TTL=st.integers(0, 100))),
)


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

    def test_cost_bound(self) -> None:
        """No request costs more than the bound that its entry's length gives."""

        @settings(max_examples=200, deadline=None, derandomize=True)
        @given(REQUESTS)
        def check(request: tuple[str, Message]) -> None:
            kind, message = request
            data = entry_data(kind, message.SerializeToString(), 1 << 14)
            self.assertLessEqual(request_cost(kind, message), COST_PER_BYTE_MAX * len(data))

        check()
