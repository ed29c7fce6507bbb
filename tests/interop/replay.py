"""Replays recorded gRPC calls against a member and compares every answer.

Recorded values that only hold for one run (member, cluster and server-picked lease ids, terms)
are bound to the live value where they are first met and must stay consistent afterwards.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.protobuf import json_format

from tests.process.cluster import until
from tests.process.foreign import ForeignClient, as_json, request_class
from tests.process.member import Member

RECORDED = Path(__file__).parents[1] / "vectors" / "errors-3.5.1.json"
FLAGS = ("--max-txn-ops=128",)
"""Of the member that is asked."""

QUIET_SECONDS = 0.05
# The recording keeps only the beginning of long values, which repeat one letter.
LONG_VALUE_BYTES = {
    "request too large (2 MiB value)": 2 << 20,
    "just under 1.5 MiB ok": (3 << 19) - 100,
    "over 1.5 MiB": 3 << 19,
    "watch whole keyspace from rev 2 (history in order)": (3 << 19) - 100,
}
_SIZES = {
    "dbSize": "depends on the storage",
    "dbSizeInUse": "depends on the storage",
    "raftIndex": "counts the expiry of leases",
    "raftAppliedIndex": "counts the expiry of leases",
}
# Values that another run may change freely: the field is only required to be there.
FREE = {
    "ttl lease 7 keys": {"TTL": "whole seconds that remain of 500"},
    "ttl lease 7 no keys": {"TTL": "whole seconds that remain of 500"},
    "status": _SIZES,
    "status with alarm": _SIZES,
    "hash": {"hash": "covers ids and the consistent index"},
}
# Leases' keys come in random order, members in that of their ids, which another run has not.
UNORDERED = ("keys", "members")
BOUND = {"cluster_id", "member_id", "memberID", "raft_term", "leader", "raftTerm"}
PICKED_IDS = range(1 << 32, 1 << 64)
# What happened beside an open stream: the call, and how many answers it brings on the stream.
PUT_W = ("KV.Put", {"key": b"w", "value": b"2"})
DELETE_W = ("KV.DeleteRange", {"key": b"w"})
MEANWHILE: dict[str, list[tuple[str, dict[str, Any], int]]] = {
    "watch create + put": [("KV.Put", {"key": b"w", "value": b"1"}, 1)],
    "watch prefix prev_kv delete": [(*PUT_W, 1), (*DELETE_W, 1)],
    "watch filter NOPUT": [(*PUT_W, 0), (*DELETE_W, 1)],
    "watch filter NODELETE": [(*PUT_W, 1), (*DELETE_W, 0)],
    "watch txn events share one response and revision": [
        (
            "KV.Txn",
            {
                "success": [
                    {"request_put": {"key": b"m%d" % n, "value": b"%d" % n}} for n in (1, 2, 3)
                ]
            },
            1,
        )
    ],
}
# A change of the membership that comes before Raft has done with the one before is dropped by
# etcd, and never answered; a deletion of nothing goes through the log and leaves no trace.
CHANGES = tuple(f"Cluster.Member{each}" for each in ("Add", "Remove", "Update", "Promote"))
WITHOUT_QUORUM = "member add without quorum"
# Asked when the member has noticed that its quorum is gone.
WITHOUT_LEADER = "range hasleader"


def recorded_cases() -> list[dict[str, Any]]:
    """The recorded calls in order."""
    cases: list[dict[str, Any]] = json.loads(RECORDED.read_text())["cases"]
    return cases


class Asked(NamedTuple):
    """A case as it was asked, with what is live in its request; what the recording would have
    been in this run, and what the answer is, both without what may differ; and all of it."""

    case: dict[str, Any]
    expected: dict[str, Any]
    found: dict[str, Any]
    answer: dict[str, Any]


@dataclass
class Replay:
    """One pass over recorded cases against one fresh member, which ``client`` asks. ``urls`` are
    the URLs that the recorded member had, and those of this one."""

    client: ForeignClient
    urls: dict[str, str]
    bound: dict[tuple[str, str], str] = field(default_factory=dict)
    _taken: set[tuple[str, str]] = field(default_factory=set)

    def run(self, cases: Sequence[dict[str, Any]]) -> Iterator[Asked]:
        for case in cases:
            asked = self._to_live(case)
            live = self._stream(asked) if "requests" in asked else self._unary(asked)
            answer = _renamed(live, {ours: theirs for theirs, ours in self.urls.items()})
            label = case["label"]
            kept = {k: case[k] for k in ("code", "message", "response", "responses") if k in case}
            expected, found = _normalised(label, kept), _normalised(label, answer)
            self._bind(expected, found)
            expected = self._substituted(expected)
            yield Asked(asked, expected, found, answer)

    def _to_live(self, case: dict[str, Any]) -> dict[str, Any]:
        """The case with this run's ids and URLs in its requests."""
        ids = {recorded: live for (_, recorded), live in self.bound.items() if len(recorded) > 9}
        asked = dict(case)
        for name in ("request", "requests"):
            if name in case:
                asked[name] = _renamed(case[name], ids | self.urls)
        return asked

    def _unary(self, case: dict[str, Any]) -> dict[str, Any]:
        label, rpc = case["label"], case["rpc"]
        if rpc in CHANGES and label != WITHOUT_QUORUM:
            self.client.call("KV.DeleteRange", key=b"nothing")
        if label == WITHOUT_LEADER:
            status = self.client.call
            until(lambda: not status("Maintenance.Status").leader, "it notices that it is alone")
        request = parse(label, rpc, case["request"])
        try:
            answer = self.client.send(rpc, request, metadata=case.get("metadata"))
        except grpc.RpcError as error:
            return {"code": error.code().name, "message": error.details()}
        return {"code": "OK", "response": as_json(answer)}

    def _stream(self, case: dict[str, Any]) -> dict[str, Any]:
        label = case["label"]
        expected = len(case["responses"])
        stream = self.client.open(case["rpc"])
        answers: list[Any] = []
        try:
            for request in case["requests"]:
                stream.send(parse(label, case["rpc"], request))
                if len(answers) < expected:
                    answers.append(stream.receive())
            for rpc, fields, brings in MEANWHILE.get(label, []):
                self.client.call(rpc, **fields)
                answers += [stream.receive() for _ in range(brings)]
            while len(answers) < expected:
                answers.append(stream.receive())
            answers.append(stream.receive(QUIET_SECONDS))
        except queue.Empty:
            pass
        finally:
            stream.close()
        return {"responses": [as_json(answer) for answer in answers]}

    def _bind(self, recorded: Any, live: Any) -> None:
        """Learn the live values of recorded ids that are met for the first time."""
        if isinstance(recorded, dict) and isinstance(live, dict):
            for name in recorded.keys() & live.keys():
                if is_bound(name, recorded[name]):
                    live_key = (kind(name), live[name])
                    if live_key not in self._taken:
                        self.bound.setdefault((kind(name), recorded[name]), live[name])
                        self._taken.add(live_key)
                else:
                    self._bind(recorded[name], live[name])
        elif isinstance(recorded, list) and isinstance(live, list):
            for one, other in zip(recorded, live, strict=False):
                self._bind(one, other)

    def _substituted(self, recorded: Any) -> Any:
        if isinstance(recorded, dict):
            return {
                k: self.bound.get((kind(k), v), v) if is_bound(k, v) else self._substituted(v)
                for k, v in recorded.items()
            }
        if isinstance(recorded, list):
            return [self._substituted(item) for item in recorded]
        if isinstance(recorded, str) and recorded.startswith("memberID:"):  # an alarm as text
            for (_, theirs), live in self.bound.items():
                recorded = recorded.replace(f"memberID:{theirs} ", f"memberID:{live} ")
        return recorded


def urls_of(member: Member, peer: str, client: str) -> dict[str, str]:
    """Recorded URLs, and those of this member."""
    return {peer: member.peer_url, client: f"http://{member.endpoint}"}


def kind(name: str) -> str:
    """Names that hold the same thing share their bindings."""
    return {"leader": "member_id", "memberID": "member_id", "raftTerm": "raft_term"}.get(name, name)


def is_bound(name: str, recorded: Any) -> bool:
    """True for values of one run: header ids, and ids that a server picked."""
    if name == "ID":
        return int(recorded) in PICKED_IDS
    return name in BOUND


def expanded(label: str, value: Any) -> Any:
    """A base64 text whose recording was cut, in full."""
    if not (isinstance(value, str) and value.endswith(" chars>")):
        return value
    full = json_format.MessageToDict(request_class("KV.Put")(value=b"x" * LONG_VALUE_BYTES[label]))[
        "value"
    ]
    assert value == cut(full), (label, value)
    return full


def cut(full: str) -> str:
    """The beginning of a long text, and how long it is."""
    return f"{full[:60]}...<{len(full)} chars>"


def parse(label: str, rpc: str, recorded: dict[str, Any]) -> Any:
    """The recorded request as a message."""
    full = {name: expanded(label, value) for name, value in recorded.items()}
    return json_format.ParseDict(full, request_class(rpc)())


def _normalised(label: str, answer: Any) -> Any:
    free = FREE.get(label, {})
    if isinstance(answer, dict):
        return {
            k: "free"
            if k in free
            else sorted((_normalised(label, each) for each in v), key=_order)
            if k in UNORDERED
            else _normalised(label, v)
            for k, v in answer.items()
        }
    if isinstance(answer, list):
        return [_normalised(label, item) for item in answer]
    return expanded(label, answer)


def _order(item: Any) -> str:
    """Of members by their URLs."""
    return str(item["peerURLs"] if isinstance(item, dict) else item)


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """The same with other texts in the place of some."""
    if isinstance(value, dict):
        return {k: _renamed(v, names) for k, v in value.items()}
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    return names.get(value, value) if isinstance(value, str) else value
