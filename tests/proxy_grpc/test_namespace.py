"""Keys with a prefix at the cluster, and without it at the client."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import EmptyKey
from etcdtw.pb.kv_pb2 import KeyValue
from etcdtw.pb.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    ResponseOp,
    TxnRequest,
    TxnResponse,
    WatchCreateRequest,
)
from etcdtw.proxy.grpc.namespace import Namespace


class NamespaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.namespace = Namespace(b"p/")

    def test_ends(self) -> None:
        """GX1: a range without an end ends with the namespace, whatever its last byte is."""
        found = [self.namespace.end(end) for end in (b"", b"k", b"\0")]
        self.assertEqual(found, [b"", b"p/k", b"p0"])
        self.assertEqual(Namespace(b"p\xff").end(b"\0"), b"q")
        self.assertEqual(Namespace(b"\xff").end(b"\0"), b"\0")

    def test_nested(self) -> None:
        """GX1: comparisons and operations of a transaction, however deep."""
        inner = TxnRequest(success=[RequestOp(request_put=PutRequest(key=b"d"))])
        request = TxnRequest(
            compare=[Compare(key=b"a", range_end=b"\0")],
            success=[
                RequestOp(request_range=RangeRequest(key=b"b", range_end=b"c")),
                RequestOp(request_delete_range=DeleteRangeRequest(key=b"c")),
            ],
            failure=[RequestOp(request_txn=inner)],
        )
        self.namespace.txn(request)
        self.assertEqual((request.compare[0].key, request.compare[0].range_end), (b"p/a", b"p0"))
        first, second = request.success
        self.assertEqual((first.request_range.key, first.request_range.range_end), (b"p/b", b"p/c"))
        self.assertEqual(second.request_delete_range.key, b"p/c")
        self.assertEqual(request.failure[0].request_txn.success[0].request_put.key, b"p/d")

        kv = KeyValue(key=b"p/k")
        response = TxnResponse(
            responses=[
                ResponseOp(response_range=RangeResponse(kvs=[kv])),
                ResponseOp(response_put=PutResponse(prev_kv=kv)),
                ResponseOp(response_delete_range=DeleteRangeResponse(prev_kvs=[kv])),
                ResponseOp(
                    response_txn=TxnResponse(
                        responses=[ResponseOp(response_range=RangeResponse(kvs=[kv]))]
                    )
                ),
            ]
        )
        self.namespace.committed(response)
        self.assertNotIn(b"p/", response.SerializeToString())

    def test_no_key(self) -> None:
        """A request without a key is refused, as by etcd; a watch has none for the first."""
        for enter, request in (
            (self.namespace.range, RangeRequest()),
            (self.namespace.put, PutRequest()),
            (self.namespace.delete_range, DeleteRangeRequest()),
            (self.namespace.txn, TxnRequest(compare=[Compare()])),
        ):
            self.assertRaises(EmptyKey, enter, request)
        watch = WatchCreateRequest(range_end=b"\0")
        self.namespace.watch(watch)
        self.assertEqual((watch.key, watch.range_end), (b"p/", b"p0"))
