"""Recorded answers of etcd 3.5.1 to KV requests, replayed at the floor of checks and apply."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3.canonical import canonical
from etcdtw.errors import Code, EtcdError
from etcdtw.pb import rpc_pb2
from tests.apply_kv.floor import Floor

VECTORS = Path(__file__).parent.parent / "vectors" / "errors.json"
CLUSTER_ID = 5149174454159968916
MEMBER_ID = 11320246631731916645
# Bounds on the size of a request are the transport's and the proposer's, not this floor's.
SIZE_CASES = {"request too large (2 MiB value)", "over 1.5 MiB"}
SHORTENED = re.compile(r"^(.*)\.\.\.<(\d+) chars>$")


def cases(first: int, last: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(VECTORS.read_text())["cases"][first : last + 1]
    return found


def lengthened(value: Any) -> Any:
    """A request as it was sent: the recording cut long values short."""
    if isinstance(value, dict):
        return {name: lengthened(each) for name, each in value.items()}
    match = SHORTENED.match(value) if isinstance(value, str) else None
    if match is None:
        return value
    return base64.b64encode(b"x" * (int(match[2]) * 3 // 4)).decode()


TYPES: dict[str, tuple[type[Message], type[Message]]] = {
    "KV.Range": (rpc_pb2.RangeRequest, rpc_pb2.RangeResponse),
    "KV.Put": (rpc_pb2.PutRequest, rpc_pb2.PutResponse),
    "KV.DeleteRange": (rpc_pb2.DeleteRangeRequest, rpc_pb2.DeleteRangeResponse),
    "KV.Txn": (rpc_pb2.TxnRequest, rpc_pb2.TxnResponse),
    "KV.Compact": (rpc_pb2.CompactionRequest, rpc_pb2.CompactionResponse),
}


class VectorTests(SynchronousTestCase):
    """Requests in the recorded order against one store."""

    def replay(self, floor: Floor, case: dict[str, Any]) -> None:
        method, label = case["rpc"], case["label"]
        request_type, response_type = TYPES[method]
        request = ParseDict(lengthened(case.get("request", {})), request_type())
        _, raw = canonical(request_type, request.SerializeToString())
        request = request_type.FromString(raw)
        try:
            answer = floor.call(method, request)
        except EtcdError as error:
            self.assertEqual(Code(error.code).name, case["code"], label)
            self.assertEqual(str(error), case["message"], label)
            return
        self.assertEqual(case["code"], "OK", label)
        got = response_type.FromString(answer)
        wanted = ParseDict(case["response"], response_type())
        self.assertEqual(str(got), str(wanted), label)
        self.assertEqual(answer, got.SerializeToString(deterministic=True), label)

    def test_kv(self) -> None:
        """Every recorded KV request is answered or refused as etcd did, byte for byte."""
        floor = Floor(CLUSTER_ID, MEMBER_ID, term=2)
        replayed = 0
        for case in cases(0, 160):
            method = case["rpc"]
            if case.get("code") == "CRASH" or case["label"] in SIZE_CASES:
                continue
            if case["label"] == "compact 0":
                # Its watch cases wrote too, which the recording does not show.
                while floor.store.revision < int(case["response"]["header"]["revision"]):
                    floor.store.put_one(b"m", b"")
            if method in TYPES:
                self.replay(floor, case)
                replayed += 1
            elif method == "Lease.LeaseGrant" and case["code"] == "OK":
                floor.leases.grant(int(case["response"]["ID"]))
            elif method == "Lease.LeaseRevoke" and case["code"] == "OK":
                floor.revoke(int(case["request"]["ID"]))
        self.assertGreater(replayed, 115)

    def test_sort_target(self) -> None:
        """A sort target that does not exist, of which etcd 3.5 dies, is refused as 3.6 does."""
        floor = Floor(CLUSTER_ID, MEMBER_ID, term=2)
        request = rpc_pb2.RangeRequest(key=b"a", sort_target=9)  # type: ignore[arg-type]
        error = self.assertRaises(EtcdError, floor.call, "KV.Range", request)
        self.assertEqual(error.code, Code.INVALID_ARGUMENT)
        self.assertEqual(str(error), "etcdserver: invalid sort option")
        self.assertRaises(EtcdError, floor.applier.range, request)
