"""Requests by chance, of the kinds whose answers depend on nothing but what was asked before."""

from __future__ import annotations

from random import Random

from google.protobuf.message import Message

from etcdtw.pb import rpc_pb2

KEYS = (b"a", b"a\0", b"b", b"\xff", b"\xff\xff", "ключ".encode())
"""No more than six: of more, etcd sorts those that are equal anyhow."""
ENDS = (b"", b"", b"\0", b"a", b"b", b"c", b"\xff", b"\xff\xff\xff")
VALUES = (b"", b"1", b"2", b"\0\xff", b"v" * 300)
LEASES = (11, 12, 13)
ORDERS = rpc_pb2.RangeRequest.SortOrder.keys()
TARGETS = rpc_pb2.RangeRequest.SortTarget.keys()
RESULTS = rpc_pb2.Compare.CompareResult.keys()
COMPARED = rpc_pb2.Compare.CompareTarget.keys()
TTL_SECONDS = 5000
"""Nothing expires meanwhile."""


class Requests:
    """``revision`` is the newest that an answer has shown, and what requests aim at."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.revision = 1

    def next(self) -> tuple[str, Message]:
        """A method and its request."""
        kind = self.dice.choices(
            ("put", "range", "delete", "txn", "lease", "compact", "hash"),
            (30, 25, 10, 20, 10, 2, 3),
        )[0]
        if kind == "put":
            return "KV.Put", self.put()
        if kind == "range":
            return "KV.Range", self.range()
        if kind == "delete":
            return "KV.DeleteRange", self.delete()
        if kind == "txn":
            return "KV.Txn", self.txn(2)
        if kind == "lease":
            return self.lease()
        if kind == "compact":
            back = self.dice.choice((-1, 0, 5, 20, 60))
            # Waited for: meanwhile etcd's hashes are of what is half removed.
            revision = self.revision - back
            return "KV.Compact", rpc_pb2.CompactionRequest(revision=revision, physical=True)
        return "Maintenance.HashKV", rpc_pb2.HashKVRequest(revision=self.aimed())

    def aimed(self) -> int:
        """Mostly the newest; also older ones, that may be compacted, later ones and nonsense."""
        pick = self.dice.choice
        return pick(
            (0, 0, 0, self.revision, self.revision - pick(range(60)), self.revision + 1, -1)
        )

    def around(self) -> int:
        """A bound on revisions or versions."""
        return self.dice.choice((0, 0, 0, 1, 2, self.revision, self.revision - 20, -1))

    def key(self) -> bytes:
        return self.dice.choice((*KEYS, b"") if self.dice.random() < 0.05 else KEYS)

    def put(self) -> rpc_pb2.PutRequest:
        pick = self.dice.choice
        request = rpc_pb2.PutRequest(key=self.key(), value=pick(VALUES))
        if self.dice.random() < 0.5:
            request.lease = pick((0, *LEASES, 99))
            request.prev_kv = pick((False, True))
            request.ignore_value = self.dice.random() < 0.2
            request.ignore_lease = self.dice.random() < 0.2
            if request.ignore_value and pick((False, True)):
                request.value = b""
            if request.ignore_lease and pick((False, True)):
                request.lease = 0
        return request

    def range(self) -> rpc_pb2.RangeRequest:
        pick = self.dice.choice
        request = rpc_pb2.RangeRequest(key=self.key(), range_end=pick(ENDS), revision=self.aimed())
        if self.dice.random() < 0.6:
            how = rpc_pb2.RangeRequest(
                limit=pick((0, 0, 1, 2, 5, -1)),
                sort_order=pick(ORDERS),  # etcd 3.5 ends for others
                sort_target=pick(TARGETS),
                serializable=pick((False, True)),
                keys_only=pick((False, True)),
                count_only=self.dice.random() < 0.2,
            )
            request.MergeFrom(how)
            for bound in (
                "min_mod_revision", "max_mod_revision", "min_create_revision",
                "max_create_revision",
            ):  # fmt: skip
                setattr(request, bound, self.around())
        return request

    def delete(self) -> rpc_pb2.DeleteRangeRequest:
        pick = self.dice.choice
        return rpc_pb2.DeleteRangeRequest(
            key=self.key(), range_end=pick(ENDS), prev_kv=pick((False, True))
        )

    def compare(self) -> rpc_pb2.Compare:
        pick = self.dice.choice
        compare = rpc_pb2.Compare(key=self.key(), result=pick(RESULTS), target=pick(COMPARED))
        if self.dice.random() < 0.2:
            compare.range_end = pick(ENDS)
        field = pick(("version", "create_revision", "mod_revision", "value", "lease", ""))
        if self.dice.random() < 0.7:  # the one that belongs to the target
            names = ("version", "create_revision", "mod_revision", "value", "lease")
            field = names[int(compare.target)]
        if field == "value":
            compare.value = pick(VALUES)
        elif field == "lease":
            compare.lease = pick((0, *LEASES))
        elif field:
            setattr(compare, field, self.around())
        return compare

    def operation(self, depth: int) -> rpc_pb2.RequestOp:
        kind = self.dice.choices(("put", "range", "delete", "txn", ""), (40, 30, 20, 10, 1))[0]
        if kind == "put":
            put = self.put()
            # Where the same transaction has deleted the key, these end a real etcd.
            put.ignore_value = put.ignore_lease = False
            return rpc_pb2.RequestOp(request_put=put)
        if kind == "range":
            return rpc_pb2.RequestOp(request_range=self.range())
        if kind == "delete":
            return rpc_pb2.RequestOp(request_delete_range=self.delete())
        if kind == "txn" and depth:
            return rpc_pb2.RequestOp(request_txn=self.txn(depth - 1))
        return rpc_pb2.RequestOp()

    def txn(self, depth: int) -> rpc_pb2.TxnRequest:
        count = self.dice.randrange
        return rpc_pb2.TxnRequest(
            compare=[self.compare() for _ in range(count(3))],
            success=[self.operation(depth) for _ in range(count(4))],
            failure=[self.operation(depth) for _ in range(count(4))],
        )

    def lease(self) -> tuple[str, Message]:
        pick = self.dice.choice
        lease = pick((*LEASES, 99))
        kind = pick(("grant", "grant", "revoke", "look", "list"))
        if kind == "grant":
            ttl = pick((TTL_SECONDS, TTL_SECONDS, 9_000_000_001))
            return "Lease.LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=ttl, ID=pick(LEASES))
        if kind == "revoke":
            return "Lease.LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=lease)
        if kind == "look":
            return "Lease.LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest(ID=lease, keys=True)
        return "Lease.LeaseLeases", rpc_pb2.LeaseLeasesRequest()
