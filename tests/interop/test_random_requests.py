"""Requests by chance get the same answers from etcd and from us, and leave the same behind."""

from __future__ import annotations

import os
from functools import partial
from random import Random
from typing import Any

import grpc
from google.protobuf.message import Message
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.rpc_pb2 import WatchCreateRequest, WatchRequest
from tests.interop.pair import Pair, Side
from tests.interop.random_requests import Requests

REQUESTS = 30_000 if os.environ.get("ETCDTW_HEAVY") else 1500
WATCH_EVERY = 150
"""Requests between two looks at the history."""


def outcome(side: Side, method: str, request: Message) -> str:
    """The answer, without what names a cluster, or the refusal."""
    assert side.client is not None
    try:
        answer = side.client.send(method, request)
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        return f"{error.code()}: {error.details()}"
    return told(answer)


def told(answer: Any) -> str:
    for name in ("cluster_id", "member_id", "raft_term"):
        answer.header.ClearField(name)
    if hasattr(answer, "TTL") and answer.TTL > 0:
        answer.TTL = 1  # runs down
    if hasattr(answer, "keys"):
        answer.keys.sort()
    if hasattr(answer, "leases"):
        answer.leases.sort(key=lambda each: each.ID)
    return str(answer)


def history(side: Side, request: WatchCreateRequest, last: int) -> list[str]:
    """The events up to a revision as a watch tells them, and what it says of itself."""
    assert side.client is not None
    stream = side.client.open("Watch.Watch")
    events: list[str] = []
    try:
        stream.send(WatchRequest(create_request=request))
        begun = stream.receive()
        events.append(f"created {begun.created}, canceled {begun.canceled}")
        revision = 0
        while revision < last:
            answer = stream.receive()
            events += [str(each) for each in answer.events]
            if answer.canceled:
                events.append(f"{answer.compact_revision} {answer.cancel_reason}")
                break
            revision = answer.events[-1].kv.mod_revision
    finally:
        stream.close()
    return events


class RandomRequestTests(SynchronousTestCase):
    timeout = 1200

    def run_requests(self, seed: int, count: int) -> None:
        pair = Pair()
        self.addCleanup(pair.close)
        pair.start()
        requests = Requests(Random(seed))
        for number in range(count):
            method, request = requests.next()
            real, ours = pair.both(partial(outcome, method=method, request=request))
            self.assertEqual(ours, real, f"seed {seed}, request {number}: {method}\n{request}")
            if number % WATCH_EVERY == WATCH_EVERY - 1:
                self.compare_histories(pair, requests)
            assert pair.real.client is not None
            requests.revision = pair.real.client.call("KV.Range", key=b"x").header.revision

    def compare_histories(self, pair: Pair, requests: Requests) -> None:
        """What watches from here and there tell, up to a put that all of them see."""
        pick = requests.dice.choice
        last = [
            side.client.call("KV.Put", key=b"a").header.revision
            for side in (pair.real, pair.ours)
            if side.client is not None
        ]
        self.assertEqual(last[0], last[1])
        for key, end in ((b"\0", b"\0"), (b"a", b""), (b"a", b"b")):
            request = WatchCreateRequest(
                key=key,
                range_end=end,
                start_revision=max(1, last[0] - pick((0, 10, 60, 200))),
                prev_kv=pick((False, True)),
                filters=[WatchCreateRequest.NODELETE] if pick((False, True)) else [],
            )
            real, ours = pair.both(partial(history, request=request, last=last[0]))
            self.assertEqual(ours, real, str(request))

    def test_answers(self) -> None:
        """Keys, transactions, leases, compactions, hashes and watches, refusals included."""
        self.run_requests(seed=1, count=REQUESTS)
