"""``python -m tests.fuzz.mixed --bodies 20000``: requests that are no quite right ones, sent to our
members of a cluster that real members belong to.

Whatever ours takes goes into the log, and every other member must read the same from it: no real
member may panic, and all must hold the same afterwards.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from random import Random

import grpc
from google.protobuf.message import Message

from etcdtw.pb import rpc_pb2
from etcdtw.varint import varint
from tests.fuzz.mutation import mutated
from tests.process.cluster import Cluster
from tests.process.foreign import ForeignClient
from tests.process.member import old_etcd, real_etcd, server_under_test

BATCH = 250
CALL_SECONDS = 5.0
KV, LEASE = "/etcdserverpb.KV/", "/etcdserverpb.Lease/"


class Failed(Exception):
    """A member died, or members differ."""


def good_requests() -> list[tuple[str, Message]]:
    """One of each kind that goes into the log."""
    put = rpc_pb2.PutRequest(key=b"a", value=b"2", lease=5, prev_kv=True)
    plain = rpc_pb2.PutRequest(key=b"b", value=b"3")
    drop = rpc_pb2.DeleteRangeRequest(key=b"a", range_end=b"c", prev_kv=True)
    ops = [
        rpc_pb2.RequestOp(request_put=plain),
        rpc_pb2.RequestOp(request_delete_range=drop),
        rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"a", range_end=b"z", limit=3)),
    ]
    compares = [
        rpc_pb2.Compare(key=b"a", target="VERSION", result="GREATER", version=0),
        rpc_pb2.Compare(key=b"a", target="VALUE", result="EQUAL", value=b"2", range_end=b"c"),
    ]
    inner = rpc_pb2.TxnRequest(compare=compares[:1], success=ops[:1], failure=ops[1:])
    txn = rpc_pb2.TxnRequest(compare=compares, success=ops, failure=ops[:1])
    nested = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_txn=inner)])
    return [
        (KV + "Put", put),
        (KV + "Put", plain),
        (KV + "DeleteRange", drop),
        (KV + "Txn", txn),
        (KV + "Txn", nested),
        (KV + "Compact", rpc_pb2.CompactionRequest(revision=2, physical=True)),
        (LEASE + "LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=600, ID=5)),
        (LEASE + "LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=5)),
    ]


def twisted_fields(dice: Random, body: bytes) -> bytes:
    """Fields where they do not belong: unknown ones, known numbers with another wire type, groups,
    numbers in more bytes than they need."""
    number = dice.choice((1, 2, 3, 4, 5, 6, 15, 16, 100, 1000, (1 << 29) - 1))
    kind = dice.randrange(6)
    content = {
        0: varint(dice.getrandbits(dice.choice((1, 7, 32, 63, 64)))),
        1: dice.randbytes(8),
        2: varint(3) + dice.randbytes(3),
        3: varint(number << 3 | 4),
        4: b"",
        5: dice.randbytes(4),
    }[kind]
    field = varint(number << 3 | kind) + content
    if dice.random() < 0.3:
        field = varint(number << 3) + b"\x81\x80\x80\x00"
    at = dice.choice((0, len(body), dice.randrange(len(body) + 1)))
    return body[:at] + field + body[at:]


def bodies(dice: Random) -> tuple[str, bytes]:
    """A method, and a body that is nearly one of its requests."""
    requests = good_requests()
    path, request = dice.choice(requests)
    body = request.SerializeToString()
    if dice.random() < 0.5:
        return path, twisted_fields(dice, body)
    return path, mutated(dice, [body, *[each.SerializeToString() for _, each in requests]])


class MixedFuzz:
    """A cluster with a member of ours at its beginning, and what was answered."""

    def __init__(self, cluster: Cluster, ours: int, seed: int) -> None:
        self.cluster = cluster
        self.answers: Counter[str] = Counter()
        self._ours = ours
        self._dice = Random(seed)

    def run(self, count: int) -> None:
        """Failed with the bodies of the last batch, where something goes wrong."""
        while count > 0:
            batch = [bodies(self._dice) for _ in range(min(BATCH, count))]
            count -= len(batch)
            self._send(batch)
            try:
                self._check()
            except (AssertionError, grpc.RpcError) as error:
                shown = "\n".join(f"{path} {body.hex()}" for path, body in batch)
                raise Failed(f"{error}\nafter one of\n{shown}") from None

    def _send(self, batch: Sequence[tuple[str, bytes]]) -> None:
        number = self._dice.randrange(self._ours)
        with closing(ForeignClient(self.cluster.members[number].endpoint)) as client:
            for path, body in batch:
                try:
                    client.send_raw(path, body, CALL_SECONDS)
                    self.answers["OK"] += 1
                except grpc.RpcError as error:
                    self.answers[error.code().name] += 1

    def _check(self) -> None:
        for member in self.cluster.members:
            assert member.running, f"{member.endpoint} has died:\n{member.output()}"
        hashes = self.cluster.hashes()
        assert len(set(hashes)) == 1, f"members differ: {hashes}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.mixed", description=__doc__)
    parser.add_argument("--bodies", type=int, default=20_000, help="per cluster")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    ours = server_under_test()
    for name, commands, count in (
        ("ours, 3.5.1, 3.5.1", (ours, real_etcd(), real_etcd()), 1),
        ("ours, ours, 3.4", (ours, ours, old_etcd()), 2),
    ):
        cluster = Cluster(*commands)
        begin = time.monotonic()
        try:
            cluster.start()
            fuzz = MixedFuzz(cluster, count, options.seed)
            fuzz.run(options.bodies)
        except Failed as error:
            print(f"{name}: FAILED: {error}")
            return 1
        finally:
            cluster.close()
        told = ", ".join(f"{code} {times}" for code, times in fuzz.answers.most_common())
        print(f"{name}: {told} ({time.monotonic() - begin:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
