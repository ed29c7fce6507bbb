"""Replays recorded gRPC calls against a member and compares every answer.

Recorded values that only hold for one run (member, cluster and server-picked lease ids, terms)
are bound to the live value where they are first met and must stay consistent afterwards.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format

from tests.process.foreign import ForeignClient, as_json, request_class

RECORDED = Path(__file__).parents[1] / "vectors" / "errors.json"
LAST_CASE = 171
QUIET_SECONDS = 0.05

SKIPPED = {
    39: "real 3.5.1 dies of it; an unknown sort target has its own test",
}
# The recording keeps only the beginning of long values, which repeat one letter.
LONG_VALUE_BYTES = {105: 2 << 20, 106: (3 << 19) - 100, 107: 3 << 19, 138: (3 << 19) - 100}
# Values that another run may change freely: the field is only required to be there.
FREE = {
    119: {"TTL": "whole seconds that remain of 500"},
    120: {"TTL": "whole seconds that remain of 500"},
    164: {
        "dbSize": "depends on the storage",
        "dbSizeInUse": "depends on the storage",
        "raftIndex": "counts the expiry of leases",
        "raftAppliedIndex": "counts the expiry of leases",
    },
    165: {"hash": "covers ids and the consistent index"},
}
UNORDERED = {119: {"keys": "etcd lists a lease's keys in random order"}}
BOUND = {"cluster_id", "member_id", "raft_term", "leader", "raftTerm"}
SERVER_PICKED_LEASES = range(1 << 32, 1 << 63)
# What happened beside an open stream: the call, and how many answers it brings on the stream.
PUT_W = ("KV.Put", {"key": b"w", "value": b"2"})
DELETE_W = ("KV.DeleteRange", {"key": b"w"})
MEANWHILE: dict[int, list[tuple[str, dict[str, Any], int]]] = {
    133: [("KV.Put", {"key": b"w", "value": b"1"}, 1)],
    134: [(*PUT_W, 1), (*DELETE_W, 1)],
    135: [(*PUT_W, 0), (*DELETE_W, 1)],
    136: [(*PUT_W, 1), (*DELETE_W, 0)],
    147: [
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


def recorded_cases() -> list[dict[str, Any]]:
    """The recorded calls that are replayed, skipped ones included, in order."""
    cases: list[dict[str, Any]] = json.loads(RECORDED.read_text())["cases"]
    return cases[: LAST_CASE + 1]


@dataclass
class Replay:
    """One pass over the recording against one fresh member."""

    client: ForeignClient
    bound: dict[tuple[str, str], str] = field(default_factory=dict)
    _taken: set[tuple[str, str]] = field(default_factory=set)

    def run(self) -> Iterator[str]:
        """Replay everything; yields one text per case that answered differently."""
        for number, case in enumerate(recorded_cases()):
            if number in SKIPPED:
                continue
            live = self._stream(number, case) if "requests" in case else self._unary(number, case)
            expected = self._expected(number, case)
            found = self._normalised(number, live)
            self._bind(expected, found)
            expected = self._substituted(expected)
            if found != expected:
                yield f"case {number} {case['label']!r}:\n  etcd  {expected}\n  found {found}"

    def _unary(self, number: int, case: dict[str, Any]) -> dict[str, Any]:
        request = parse(number, case["rpc"], case["request"])
        try:
            answer = self.client.send(case["rpc"], request)
        except grpc.RpcError as error:
            return {"code": error.code().name, "message": error.details()}
        return {"code": "OK", "response": as_json(answer)}

    def _stream(self, number: int, case: dict[str, Any]) -> dict[str, Any]:
        expected = len(case["responses"])
        stream = self.client.open(case["rpc"])
        answers: list[Any] = []
        try:
            for request in case["requests"]:
                stream.send(parse(number, case["rpc"], request))
                if len(answers) < expected:
                    answers.append(stream.receive())
            for rpc, fields, brings in MEANWHILE.get(number, []):
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

    def _expected(self, number: int, case: dict[str, Any]) -> dict[str, Any]:
        kept = {k: case[k] for k in ("code", "message", "response", "responses") if k in case}
        return self._normalised(number, kept)

    def _normalised(self, number: int, answer: Any) -> Any:
        free, unordered = FREE.get(number, {}), UNORDERED.get(number, {})
        if isinstance(answer, dict):
            return {
                k: "free"
                if k in free
                else sorted(v)
                if k in unordered
                else self._normalised(number, v)
                for k, v in answer.items()
            }
        if isinstance(answer, list):
            return [self._normalised(number, item) for item in answer]
        return expanded(number, answer)

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
        return recorded


def kind(name: str) -> str:
    """Names that hold the same thing share their bindings."""
    return {"leader": "member_id", "raftTerm": "raft_term"}.get(name, name)


def is_bound(name: str, recorded: Any) -> bool:
    """True for values of one run: header ids and leases that the server picked."""
    if name == "ID":
        return int(recorded) in SERVER_PICKED_LEASES
    return name in BOUND


def expanded(number: int, value: Any) -> Any:
    """A base64 text whose recording was cut, in full."""
    if not (isinstance(value, str) and value.endswith(" chars>")):
        return value
    full = json_format.MessageToDict(
        request_class("KV.Put")(value=b"x" * LONG_VALUE_BYTES[number])
    )["value"]
    assert value == f"{full[:60]}...<{len(full)} chars>", (number, value)
    return full


def parse(number: int, rpc: str, recorded: dict[str, Any]) -> Any:
    """The recorded request as a message."""
    full = {name: expanded(number, value) for name, value in recorded.items()}
    return json_format.ParseDict(full, request_class(rpc)())
