"""Random KV requests to real etcd 3.5.1 and to the code here: the answers must agree in bytes."""

from __future__ import annotations

import random
from typing import Any

import grpc
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import EtcdError
from etcdtw.pb.rpc_pb2 import (
    CompactionRequest,
    Compare,
    DeleteRangeRequest,
    HashKVRequest,
    HashKVResponse,
    LeaseGrantRequest,
    PutRequest,
    RangeRequest,
    RangeResponse,
    RequestOp,
    TxnRequest,
)
from tests.apply_kv.floor import Floor
from tests.process.member import Member, real_etcd

REQUESTS = 1200
KEYS = (b"a", b"b", b"c", b"cc", b"d", b"\xff", b"e" * 130)
VALUES = (b"", b"1", b"2", b"v" * 200)
LEASES = (7, 8, -3)
UNKNOWN_LEASE = 99


class Requests:
    """A source of requests, most of which succeed."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.revision = 1

    def chance(self, of: float) -> bool:
        return self.dice.random() < of

    def key(self) -> bytes:
        return self.dice.choice(KEYS) if self.chance(0.98) else b""

    def end(self) -> bytes:
        kind = self.dice.random()
        if kind < 0.55:
            return b"" if kind < 0.4 else b"\0"
        return self.dice.choice(KEYS) + self.dice.choice((b"", b"\0"))

    def some_revision(self) -> int:
        if self.chance(0.5):
            return 0
        if self.chance(0.1):
            return self.dice.choice((-5, -1))
        return max(0, self.revision - self.dice.randrange(-2, 12))

    def lease(self) -> int:
        return self.dice.choice((0, 0, 0, 0, *LEASES, UNKNOWN_LEASE))

    def range(self) -> RangeRequest:
        request = RangeRequest(
            key=self.key(),
            range_end=self.end(),
            revision=self.some_revision(),
            limit=self.dice.choice((0, 0, 0, 1, 2, 3, -1)),
            keys_only=self.chance(0.2),
            count_only=self.chance(0.1),
        )
        if self.chance(0.5):
            request.sort_order = self.dice.choice((0, 1, 2, 7))  # type: ignore[assignment]
            request.sort_target = self.dice.randrange(5)  # type: ignore[assignment]
        for bound in ("min_mod", "max_mod", "min_create", "max_create"):
            if self.chance(0.2):
                setattr(request, f"{bound}_revision", self.some_revision())
        return request

    def put(self, may_ignore: bool = True) -> PutRequest:
        """Ignore flags only outside of transactions: there real etcd may die of them."""
        return PutRequest(
            key=self.key(),
            value=self.dice.choice(VALUES),
            lease=self.lease(),
            prev_kv=self.chance(0.2),
            ignore_value=may_ignore and self.chance(0.1),
            ignore_lease=may_ignore and self.chance(0.1),
        )

    def delete_range(self) -> DeleteRangeRequest:
        return DeleteRangeRequest(key=self.key(), range_end=self.end(), prev_kv=self.chance(0.5))

    def compare(self) -> Compare:
        """Targets and results that do not exist are among them, and operands of another target."""
        compare = Compare(
            key=self.key(),
            range_end=self.end() if self.chance(0.2) else b"",
            target=self.dice.randrange(6),  # type: ignore[arg-type]
            result=self.dice.randrange(5),  # type: ignore[arg-type]
        )
        operand = self.dice.choice(("version", "create_revision", "mod_revision", "lease", "value"))
        if operand == "value":
            compare.value = self.dice.choice(VALUES)
        elif operand == "lease":
            compare.lease = self.lease()
        elif operand == "version":
            compare.version = self.dice.randrange(3)
        else:
            setattr(compare, operand, self.some_revision())
        return compare

    def operation(self, depth: int) -> RequestOp:
        kind = self.dice.random()
        if kind < 0.3:
            return RequestOp(request_range=self.range())
        if kind < 0.65:
            return RequestOp(request_put=self.put(may_ignore=False))
        if kind < 0.8:
            return RequestOp(request_delete_range=self.delete_range())
        if kind < 0.99 and depth:
            return RequestOp(request_txn=self.txn(depth - 1))
        return RequestOp()

    def txn(self, depth: int = 2) -> TxnRequest:
        dice = self.dice
        return TxnRequest(
            compare=[self.compare() for _ in range(dice.choice((0, 1, 1, 2)))],
            success=[self.operation(depth) for _ in range(dice.randrange(4))],
            failure=[self.operation(depth) for _ in range(dice.randrange(3))],
        )

    def next(self, revision: int) -> tuple[str, Any]:
        self.revision = revision
        kind = self.dice.random()
        if kind < 0.25:
            return "KV.Range", self.range()
        if kind < 0.45:
            return "KV.Put", self.put()
        if kind < 0.55:
            return "KV.DeleteRange", self.delete_range()
        if kind < 0.96:
            return "KV.Txn", self.txn()
        return "KV.Compact", CompactionRequest(revision=self.some_revision(), physical=True)


Answer = bytes | tuple[int, str]


class BesideEtcdTests(SynchronousTestCase):
    """One member of real etcd, and the floor of checks and apply."""

    def setUp(self) -> None:
        member = Member(real_etcd(), "--unsafe-no-fsync")
        self.addCleanup(member.close)
        member.start()
        self.channel = grpc.insecure_channel(
            member.endpoint,
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)],
        )
        self.addCleanup(self.channel.close)

    def theirs(self, method: str, request: Any) -> Answer:
        service, name = method.split(".")
        call = self.channel.unary_unary(
            f"/etcdserverpb.{service}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=bytes,
        )
        try:
            answer: bytes = call(request, timeout=10)
        except grpc.RpcError as error:
            return error.code().value[0], error.details()
        return answer

    def ours(self, floor: Floor, method: str, request: Any) -> Answer:
        try:
            return floor.call(method, request)
        except EtcdError as error:
            return int(error.code), str(error)

    def compare_hashes(self, floor: Floor, revision: int) -> None:
        answer = self.theirs("Maintenance.HashKV", HashKVRequest(revision=revision))
        try:
            job = floor.store.hash_kv(revision)
        except EtcdError as error:
            self.assertEqual((int(error.code), str(error)), answer)
            return
        while not job.step(10):
            pass
        assert isinstance(answer, bytes), answer
        theirs = HashKVResponse.FromString(answer)
        self.assertEqual((job.hash, job.compact_revision), (theirs.hash, theirs.compact_revision))

    def test_random_requests(self) -> None:
        """Every answer, refusal and HashKV is etcd's, also after compactions and restarts."""
        first = self.theirs("KV.Range", RangeRequest(key=b"a"))
        assert isinstance(first, bytes), first
        header = RangeResponse.FromString(first).header
        floor = Floor(header.cluster_id, header.member_id, header.raft_term)
        for lease in LEASES:
            self.theirs("Lease.LeaseGrant", LeaseGrantRequest(TTL=9000, ID=lease))
            floor.leases.grant(lease)
        requests = Requests(seed=20)
        for number in range(REQUESTS):
            method, request = requests.next(floor.store.revision)
            theirs = self.theirs(method, request)
            self.assertEqual(
                self.ours(floor, method, request), theirs, f"{number}: {method} {request}"
            )
            if requests.chance(0.1):
                self.compare_hashes(
                    floor, max(0, floor.store.revision - requests.dice.choice((0, 1, 4)))
                )
            if requests.chance(0.01):
                floor.restart()
