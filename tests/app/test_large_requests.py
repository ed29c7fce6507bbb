"""Requests that touch very many keys, on a whole member."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb import rpc_pb2
from etcdtw.testing.disk import SimDisk
from etcdtw.turns import Allowance
from tests.app.simulated_member import Call, SimulatedMember

KV = "/etcdserverpb.KV/"
EVERYTHING = {"key": b"\0", "range_end": b"\0"}


class LargeRequestTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.member = SimulatedMember(SimDisk(), allowance=Allowance(3, piece_keys=1))
        for number in range(10):
            self.member.put(b"%d" % number, b"v")
        self.member.settle()

    def txn(self, *ranges: dict[str, Any]) -> Call:
        operations = [rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(**r)) for r in ranges]
        return self.member.ask(KV + "Txn", rpc_pb2.TxnRequest(success=operations))

    def answered(self, call: Call) -> bytes:
        for _ in range(10):
            self.member.clock.advance(0.01)
        assert call.body is not None, f"no answer but {call.error}"
        return call.body

    def test_deletion(self) -> None:
        """All keys go in one revision, and who asked hears it when they are gone."""
        revision = self.member.revision
        request = rpc_pb2.DeleteRangeRequest(prev_kv=True, **EVERYTHING)
        call = self.member.ask(KV + "DeleteRange", request)
        answer = rpc_pb2.DeleteRangeResponse.FromString(self.answered(call))
        self.assertEqual((answer.deleted, len(answer.prev_kvs)), (10, 10))
        self.assertEqual((answer.header.revision, self.member.revision), (revision + 1,) * 2)
        self.assertEqual(self.member.value(b"1"), None)

    def test_reading_transaction(self) -> None:
        """It is as of the revision of its beginning, however long it takes."""
        revision = self.member.revision
        call = self.txn(
            {"serializable": True, **EVERYTHING},
            {"serializable": True, "key": b"3"},
            {"serializable": True, "count_only": True, **EVERYTHING},
        )
        self.assertIsNone(call.body)
        self.member.put(b"3", b"later")
        self.member.settle()
        answer = rpc_pb2.TxnResponse.FromString(self.answered(call))
        everything, one, count = (each.response_range for each in answer.responses)
        self.assertEqual(answer.header.revision, revision)
        self.assertEqual([each.value for each in everything.kvs], [b"v"] * 10)
        self.assertEqual((one.kvs[0].value, count.count), (b"v", 10))

    def test_refused_reading_transaction(self) -> None:
        """An error that is met underway is its answer, and nothing is left behind."""
        call = self.txn({"serializable": True, **EVERYTHING}, {"key": b"a", "revision": 999})
        for _ in range(10):
            self.member.clock.advance(0.01)
        self.assertEqual(
            str(call.error), "etcdserver: mvcc: required revision is a future revision"
        )
        self.assertEqual(self.member.core.store.readers, [])
