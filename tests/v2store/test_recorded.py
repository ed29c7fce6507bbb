"""The tree answers and saves what real etcd members answered and saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.etcdserver_pb2 import Request
from etcdtw.v2store import V2Error, V2Store, apply_request, parse_time, recover, save
from tests.v2store.form import shown_at, to_request

VECTORS = Path(__file__).parent / "vectors"
CASES: list[dict[str, Any]] = json.loads((VECTORS / "v2.json").read_text())["cases"]


class RecordedAnswersTests(SynchronousTestCase):
    """The requests of v2.json up to the filling of the history, in their order."""

    def setUp(self) -> None:
        self.now = 0
        self.store = V2Store(lambda: self.now)
        self.store.create("/0/members/1/raftAttributes", "{}")
        self.store.set("/0/members/1/attributes", "{}")
        self.store.set("/0/version", "3.4.0")

    def answer(self, request: Request) -> str:
        try:
            event = apply_request(self.store, request)
        except V2Error as error:
            trimmed = error.cause.removeprefix("/1") if error.cause.startswith("/1/") else None
            return V2Error(error.code, trimmed or error.cause, error.index).json() + "\n"
        assert event is not None
        return event.client_json(len("/1")) + "\n"

    def replay(self, case: dict[str, Any]) -> None:
        body = case["response_body"]
        recorded = json.loads(body)
        if 200 <= recorded.get("errorCode", 0) < 400:
            return  # refused by the HTTP side
        node = recorded.get("node", {})
        self.now = shown_at(node)
        if case["path"].endswith("quorum=true"):
            self.now = shown_at(next(each for each in node["nodes"] if "ttl" in each))
        if case["method"] == "GET" and "quorum=true" not in case["path"]:
            return
        ours = json.loads(self.answer(to_request(case, node)))
        if "noValueOnSuccess" in case["path"] + (case.get("body") or "") and "node" in ours:
            ours = {"action": ours["action"]}
        expected = recorded
        # What a previous node still had to live depends on the moment of each request.
        for answer in (ours, expected):
            answer.get("prevNode", {}).pop("ttl", None)
            for each in answer.get("node", {}).get("nodes", ()):
                each.pop("ttl", None)
            answer.get("node", {}).get("nodes", []).sort(key=lambda each: each["key"])
        self.assertEqual(ours, expected, case)

    def test_all_writes(self) -> None:
        """Every write and quorum read is answered, or refused, as recorded."""
        for number, case in enumerate(CASES[:103]):
            if number == 72:  # between these two requests a SYNC entry expired /ttl
                late = parse_time("2026-11-20T21:41:17Z")
                apply_request(self.store, Request(Method="SYNC", Time=late))
            if case.get("status") in (None, 301, 405) or case["method"] in ("HEAD", "OPTIONS"):
                continue
            if case.get("result") or not case["path"].startswith("/v2/keys"):
                continue
            if "wait=true" in case["path"]:
                continue
            self.replay(case)
        self.assertEqual(self.store.index, 48)

    def test_write_counters(self) -> None:
        """The write counters come out as recorded, etcd's miscounted refusals included."""
        self.test_all_writes()
        for value in range(1010):
            self.store.set("/1/loop", str(value))
        ours = json.loads(self.store.stats_json())
        recorded = json.loads(CASES[113]["response_body"])
        for name in ("getsSuccess", "getsFail"):  # reads are not replayed here
            del ours[name], recorded[name]
        del ours["createSuccess"], recorded["createSuccess"]  # a member was added in between
        self.assertEqual(ours, recorded)


class SavedFormTests(SynchronousTestCase):
    """Snapshot data of real members."""

    def test_recover_and_save(self) -> None:
        """A saved store that is read and saved again gives the same bytes."""
        for release in ("3.4", "3.5"):
            recorded = json.loads((VECTORS / f"single-{release}.json").read_text())
            for text in recorded["snapshots"].values():
                store = V2Store(lambda: 0)
                recover(store, text.encode())
                self.assertEqual(save(store).decode(), text)

    def test_refuses_other_json(self) -> None:
        """Anything that is not a saved store is refused and changes nothing."""
        store = V2Store(lambda: 0)
        store.set("/1/a", "1")
        before = save(store)
        for data in (b"", b"[]", b"{}", b'{"Root":{},"CurrentIndex":1}', b'{"Root":3}'):
            self.assertRaises(ValueError, recover, store, data)
        self.assertEqual(save(store), before)
