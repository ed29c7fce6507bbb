"""The gateway answers what real etcd has answered."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.gateway.decoding import BadJson, decode_json, json_values
from etcdtw.pb.rpc_pb2 import Compare, RangeRequest, TxnRequest
from tests.gateway.asking import ask, comparable, shown
from tests.gateway.cases import CASES, RANGE, Case
from tests.process.member import Member, server_under_test

VECTORS = Path(__file__).parent.parent / "vectors"
RECORDED = json.loads((VECTORS / "gateway-3.5.1.json").read_text())

DIFFERENT = {
    "POST /v3alpha/kv/range": "older clients' prefix is served",
    "POST /v3/kv/range Authorization: nope": "a token is ignored while auth is off",
    "POST /v3/kv/range X-HTTP-Method-Override: GET": "the method is the request's",
}
"""Cases (how they begin) that etcd answers otherwise, and why; ``docs/differences.md`` has rows."""


NOT_YET = ("/v3/auth/", "/v3/lock/", "/v3/election/")
ELSEWHERE = ("/v3alpha/", "/v3/maintenance/hash", "/v3/cluster/", "/v2/")
"""Answers that hold a member's own name, URLs or hash, and rows of ``docs/differences.md``."""


class DecodingTests(SynchronousTestCase):
    def test_complaints(self) -> None:
        """Every body that etcd's gateway cannot take is refused with its text, and no other."""
        checked = 0
        for case, recorded in zip(CASES, RECORDED, strict=True):
            if case.path != RANGE or case.body is None or case.headers:
                continue
            found = re.fullmatch(r'\{"error":("(?:[^"\\]|\\.)*").*\}', recorded["response"])
            expected = json.loads(found[1]) if found else None
            try:
                value = next(json_values(case.body.encode()), None)
                decode_json(RangeRequest, value)
                complaint = None
            except BadJson as error:
                complaint = str(error)
            if expected and expected.startswith("etcdserver: "):
                expected = None
            self.assertEqual(complaint, expected, shown(case))
            checked += 1
        self.assertGreater(checked, 100)

    def test_every_difference_is_a_case(self) -> None:
        """The list of differences holds nothing that no case shows."""
        for beginning in DIFFERENT:
            self.assertTrue(any(shown(each).startswith(beginning) for each in CASES), beginning)

    def test_first_complaint(self) -> None:
        """Of several faults the one in the field with the lowest number is told, as by etcd."""
        with self.assertRaisesRegex(BadJson, "cannot unmarshal number 1e2 into Go value of type"):
            compare = next(json_values(b'{"range_end":"=","version":1e2}'))
            decode_json(Compare, compare)

    def test_depth(self) -> None:
        """A body nested without end is refused, not recursed into."""
        for body in (b"[" * 200_000, b'{"a":' * 200_000, b'{"x":' + b"[" * 20_000):
            with self.assertRaisesRegex(BadJson, "exceeded max depth"):
                list(json_values(body))

    def test_depth_of_messages(self) -> None:
        """Neither are transactions inside each other, however deep JSON's parser goes."""
        for depth in range(20, 400, 20):
            body = b'{"success":[{"request_txn":' * depth + b"{}" + b"}]}" * depth
            with contextlib.suppress(BadJson):
                decode_json(TxnRequest, next(json_values(body)))


class RecordedTests(SynchronousTestCase):
    timeout = 120

    def setUp(self) -> None:
        self.member = Member(server_under_test())
        self.addCleanup(self.member.close)
        self.member.start()

    def test_answers(self) -> None:
        """Status, headers, body and whether a stream stays open, case by case."""
        differences = []
        for case, recorded in zip(CASES, RECORDED, strict=True):
            given = {"case": shown(case), **ask(self.member.client_port, case)}
            if given != recorded and not self.may_differ(case):
                differences.append(f"etcd {_short(recorded)}\nours {_short(given)}")
        self.assertFalse(differences, "\n" + "\n".join(differences))

    def test_vectors(self) -> None:
        """The golden conversation with 3.5.1, from its first put on."""
        port = self.member.client_port
        ask(port, Case("/v3/kv/put", '{"key":"YQ==","value":"Yg=="}'))
        compared = 0
        for golden in json.loads((VECTORS / "gateway.json").read_text())["cases"]:
            case = Case(golden["path"], golden["body"], golden["method"])
            if golden["version"] != "3.5.1" or case.path.startswith(NOT_YET + ELSEWHERE):
                continue
            given = ask(port, case)
            self.assertEqual(given["status"], golden["status"], shown(case))
            self.assertEqual(given["response"], comparable(golden["response"]), shown(case))
            for name, value in given["headers"].items():
                self.assertEqual(golden["headers"].get(name), value, shown(case))
            compared += 1
        self.assertEqual(compared, 30)

    @staticmethod
    def may_differ(case: Case) -> bool:
        return any(shown(case).startswith(beginning) for beginning in DIFFERENT)


def _short(answer: dict[str, Any]) -> str:
    return json.dumps(answer, ensure_ascii=False)[:900]
