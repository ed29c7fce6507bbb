"""Requests that take several turns do what requests at once do, and nobody sees the difference."""

from __future__ import annotations

from random import Random
from typing import Any, TypedDict

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.apply import large_range
from etcdtw.apply.alarms import Alarms
from etcdtw.apply.applier import Applier
from etcdtw.apply.header import HeaderSource
from etcdtw.apply.kv import KvApplier
from etcdtw.apply.kv_range import range_response
from etcdtw.apply.large_range import LargeRange
from etcdtw.apply.large_txn import LargeRead
from etcdtw.apply.quota import Quota
from etcdtw.auth import AuthStore
from etcdtw.errors import EtcdError, NoSpace
from etcdtw.lease.apply import LeaseApplier
from etcdtw.lease.lessor import Lessor
from etcdtw.membership import Members
from etcdtw.mvcc import store as mvcc_store
from etcdtw.mvcc.as_of import AsOf
from etcdtw.mvcc.changes import Change
from etcdtw.mvcc.store import Store
from etcdtw.mvcc.watch import WatchHub
from etcdtw.mvcc.watch_index import Interest
from etcdtw.pb.raft_internal_pb2 import InternalRaftRequest
from etcdtw.pb.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from etcdtw.raft.messages import Entry, EntryType
from etcdtw.replica.compactions import Compactions
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.testing.time import VirtualTime
from etcdtw.turns import Allowance, TakesTurns, Work
from etcdtw.v2store import V2Store
from tests.watch.fakes import Recorder, catch_up

KEYS = [b"%02d" % number for number in range(40)]
LEASES = (1, 2)


class Keys(TypedDict):
    """The fields of a request that say which keys it is for."""

    key: bytes
    range_end: bytes


EVERYTHING: Keys = {"key": b"\0", "range_end": b"\0"}


def finished(work: Work[Any]) -> Any:
    """The result of work, all of it at once."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


class Side:
    """All that holds v3 state, with so many keys allowed in one turn."""

    def __init__(self, keys_max: int, limit_bytes: int = -1) -> None:
        self.backend = MemoryBackend(durable=True)
        self.limit_bytes = limit_bytes
        self.allowance = Allowance(keys_max, piece_keys=2)
        self.index = 0
        self.start()

    def start(self) -> None:
        backend, allowance = self.backend, self.allowance
        self.lessor = Lessor(backend, 1)
        self.store = Store(backend, self.lessor, recent_bytes_max=1500)
        header = HeaderSource(1, 2, 3)
        self.kv = KvApplier(self.store, self.lessor, header, allowance)
        leases = LeaseApplier(self.lessor, self.store, header, lambda: 0.0, allowance)
        v2store = V2Store(lambda: 0)
        self.applier = Applier(
            backend,
            self.kv,
            leases,
            v2store,
            Members(v2store, backend),
            Alarms(backend),
            Quota(backend.size, self.limit_bytes),
            AuthStore(backend, lambda password: password),
        )
        self.hub = WatchHub(self.store)

    def entry(self, kind: str, request: Any) -> Entry:
        self.index += 1
        raft_request = InternalRaftRequest(**{kind: request})
        raft_request.header.ID = self.index
        return Entry(1, self.index, EntryType.NORMAL, raft_request.SerializeToString())

    def apply(self, kind: str, request: Any) -> object:
        """Whatever turns it takes."""
        try:
            return self.applier.apply(self.entry(kind, request), None)
        except TakesTurns as large:
            return finished(large.work)

    def begin(self, kind: str, request: Any) -> Any:
        """The result, or the work that brings it."""
        try:
            return self.applier.apply(self.entry(kind, request), None)
        except TakesTurns as large:
            return large.work

    def watch(self, interest: Interest) -> Recorder:
        recorder = Recorder(interest)
        self.hub.add(recorder)
        return recorder

    def records(self) -> list[tuple[bytes, bytes, bytes]]:
        names = self.backend.buckets()
        return [(name, *pair) for name in names for pair in self.backend.scan(name, b"", None)]


def some_range(dice: Random) -> Keys:
    first = dice.randrange(len(KEYS))
    return {"key": KEYS[first], "range_end": dice.choice((b"\0", b"", KEYS[-first], b"zz"))}


def some_operation(dice: Random, revision: int, nests: bool = True) -> RequestOp:
    kind = dice.choice(("range", "range", "put", "delete", "txn" if nests else "put"))
    if kind == "range":
        past = dice.choice((0, 0, dice.randrange(revision + 1)))
        return RequestOp(
            request_range=RangeRequest(
                **some_range(dice),
                revision=past,
                limit=dice.choice((0, 0, 3)),
                sort_order=dice.choice((0, 2)),  # type: ignore[arg-type]
                count_only=dice.random() < 0.2,
            )
        )
    if kind == "put":
        return RequestOp(request_put=some_put(dice))
    if kind == "delete":
        return RequestOp(request_delete_range=some_deletion(dice))
    return RequestOp(request_txn=some_txn(dice, revision, nests=False))


def some_put(dice: Random) -> PutRequest:
    return PutRequest(
        key=dice.choice(KEYS),
        value=b"%d" % dice.randrange(9),
        lease=dice.choice((0, 0, *LEASES)),
        prev_kv=dice.random() < 0.3,
    )


def some_deletion(dice: Random) -> DeleteRangeRequest:
    return DeleteRangeRequest(**some_range(dice), prev_kv=dice.random() < 0.5)


def some_txn(dice: Random, revision: int, nests: bool = True) -> TxnRequest:
    compare = Compare(
        **some_range(dice),
        target=Compare.VERSION,
        result=dice.choice((Compare.LESS, Compare.GREATER)),
        version=dice.choice((0, 1, 3)),
    )
    return TxnRequest(
        compare=[compare] if dice.random() < 0.7 else [],
        success=[some_operation(dice, revision, nests) for _ in range(dice.randrange(4))],
        failure=[some_operation(dice, revision, nests) for _ in range(dice.randrange(4))],
    )


def some_request(dice: Random, revision: int) -> tuple[str, Any]:
    kind = dice.choice(("put",) * 12 + ("delete_range", "txn", "txn", "grant", "revoke"))
    if kind == "put":
        return kind, some_put(dice)
    if kind == "delete_range":
        return kind, some_deletion(dice)
    if kind == "txn":
        return kind, some_txn(dice, revision)
    if kind == "grant":
        return "lease_grant", LeaseGrantRequest(ID=dice.choice(LEASES), TTL=60)
    return "lease_revoke", LeaseRevokeRequest(ID=dice.choice(LEASES))


def some_interest(dice: Random) -> Interest:
    key = dice.choice(KEYS)
    return Interest(key, dice.choice((None, b"", b"3", b"zz")), prev_kv=dice.random() < 0.5)


class InTurnsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(large_range, "STEP_KEYS", 3)
        self.patch(mvcc_store, "LARGE_CHANGES", 4)

    def test_the_same(self) -> None:
        """Answers, records, hashes and events are those of requests at once, byte for byte; what
        happens between the pieces sees the store as it was before."""
        for seed in range(150):
            dice = Random(seed)
            at_once, in_turns = Side(1 << 30), Side(dice.randrange(1, 6))
            self.compare(dice, at_once, in_turns)

    def compare(self, dice: Random, at_once: Side, in_turns: Side) -> None:
        recorders = []
        compacting = None
        for _ in range(dice.randrange(10, 80)):
            if dice.random() < 0.2:
                interest = some_interest(dice)
                recorders.append((at_once.watch(interest), in_turns.watch(interest)))
            before = AsOf(at_once.store, at_once.store.revision)
            request = some_request(dice, at_once.store.revision)
            work = in_turns.begin(*request)
            expected: object = None
            if isinstance(work, bytes | EtcdError):
                expected, answer = at_once.apply(*request), work
            else:
                asked = at_once.index + 1
                joining = [some_interest(dice) for _ in range(dice.randrange(3))]
                late = [(at_once.watch(each), each) for each in joining]
                reading = LargeRange(
                    in_turns.store, RangeRequest(**EVERYTHING), HeaderSource(1, 2).encode
                )
                everything = range_response(
                    at_once.store, RangeRequest(**EVERYTHING), HeaderSource(1, 2).encode
                )
                expected = at_once.apply(*request)
                answer = None
                while answer is None:
                    try:
                        next(work)
                    except StopIteration as end:
                        answer = end.value
                        break
                    self.assertEqual(in_turns.applier.applied_index, asked - 1)
                    self.look(dice, before, in_turns)
                    reading.step(dice.randrange(5))
                    if late and dice.random() < 0.3:
                        theirs, interest = late.pop()
                        recorders.append((theirs, in_turns.watch(interest)))
                    if compacting is not None:
                        compacting.step(dice.randrange(1, 4))
                for theirs, interest in late:
                    recorders.append((theirs, Recorder(interest)))
                    in_turns.hub.add(recorders[-1][1], before.revision + 1)
                while not reading.step():
                    pass
                self.assertEqual(reading.result(), everything)
            self.same_answer(answer, expected)
            self.assertEqual(in_turns.applier.applied_index, at_once.applier.applied_index)
            self.assertEqual(in_turns.store.revision, at_once.store.revision)
            if dice.random() < 0.3:
                in_turns.hub.sync_some(5)
            if compacting is not None and compacting.done:
                compacting = None
            if compacting is None and dice.random() < 0.05 and at_once.store.revision > 1:
                self.told(at_once, in_turns)
                compacting = self.compact(dice, at_once, in_turns)
        while compacting is not None and not compacting.step():
            pass
        self.told(at_once, in_turns)
        for theirs, ours in recorders:
            self.assertEqual(ours.seen, theirs.seen)
        self.assertEqual(in_turns.records(), at_once.records())
        for lease in LEASES:
            self.assertEqual(in_turns.lessor.keys(lease), at_once.lessor.keys(lease))
        self.assertEqual(in_turns.store.lease_of, at_once.store.lease_of)
        self.assertEqual(in_turns.store.readers, [])
        self.assertEqual(self.hash_of(in_turns.store), self.hash_of(at_once.store))

    def compact(self, dice: Random, at_once: Side, in_turns: Side) -> Any:
        revision = dice.randrange(1, at_once.store.revision)
        if revision <= at_once.store.compacted:
            return None
        job = at_once.store.compact(revision)
        while not job.step():
            pass
        return in_turns.store.compact(revision)

    def told(self, *sides: Side) -> None:
        for side in sides:
            catch_up(side.hub)

    def hash_of(self, store: Store) -> int:
        job = store.hash_kv()
        while not job.step(7):
            pass
        return job.hash

    def same_answer(self, answer: object, expected: object) -> None:
        if isinstance(expected, EtcdError):
            self.assertIsInstance(answer, type(expected))
        else:
            self.assertEqual(answer, expected)

    def look(self, dice: Random, before: AsOf, side: Side) -> None:
        """A read beside a half written change, and what it must find."""
        self.assertEqual(side.store.revision, before.revision)
        header = HeaderSource(1, 2, 3).encode
        key = dice.choice(KEYS)
        found = before.current_chunk(key)
        one = header(before.revision) + (b"" if found is None else found + b"\x20\x01")
        self.assertEqual(side.kv.range_one(key), one)
        past = dice.choice((0, 0, before.revision, max(before.compacted, 1)))
        request = RangeRequest(**some_range(dice), revision=past, limit=dice.choice((0, 2)))
        self.assertEqual(side.kv.range(request), range_response(before, request, header))
        txn = TxnRequest(success=[RequestOp(request_range=request)])
        answer = side.kv.read_txn(txn)
        if isinstance(answer, LargeRead):
            while not answer.step():
                pass
            answer = answer.result()
        self.assertIn(range_response(before, request, lambda revision: b""), answer)


class EntryTests(SynchronousTestCase):
    """What the entry does that takes several turns."""

    def filled(self, side: Side) -> None:
        for key in KEYS:
            side.apply("put", PutRequest(key=key, value=b"v"))
        side.backend.commit()

    def test_a_crash_in_the_middle(self) -> None:
        """Nothing of a half written deletion is durable, not even if everything that may become
        durable does, a compaction's changes among it; applied again it is whole."""
        side = Side(5)
        self.filled(side)
        slices = Compactions(None, side.backend, VirtualTime().view(), lambda: 0.0)  # type: ignore[arg-type]
        work = side.begin("delete_range", DeleteRangeRequest(**EVERYTHING))
        held = side.records()
        next(work)
        compaction = side.store.compact(10)
        slices._step(compaction)
        side.backend.commit()
        self.assertEqual(side.backend.durable_index(), side.index - 1)
        side.backend.crash()
        side.start()
        self.assertEqual(side.records(), held)
        self.assertEqual(side.store.revision, len(KEYS) + 1)
        side.index -= 1
        side.apply("delete_range", DeleteRangeRequest(**EVERYTHING))
        self.assertEqual(side.store.range(b"\0", b"\0").count, 0)
        self.assertEqual(side.backend.consistent_index(), (side.index, 1))

    def test_compaction_beside_it(self) -> None:
        """What a compaction removes in between becomes durable with the entry."""
        side = Side(5)
        self.filled(side)
        self.filled(side)
        slices = Compactions(None, side.backend, VirtualTime().view(), lambda: 0.0)  # type: ignore[arg-type]
        work = side.begin("delete_range", DeleteRangeRequest(**EVERYTHING))
        compaction = side.store.compact(side.store.revision)
        next(work)
        while not slices._step(compaction):
            pass
        finished(work)
        side.backend.commit()
        held = side.records()
        side.backend.crash()
        side.start()
        self.assertEqual(side.records(), held)
        self.assertEqual(side.store.compacted, 2 * len(KEYS) + 1)

    def test_refused(self) -> None:
        """A transaction that cannot be carried out has its entry all the same."""
        side = Side(1)
        self.filled(side)
        txn = TxnRequest(
            success=[
                RequestOp(request_range=RangeRequest(**EVERYTHING)),
                RequestOp(request_range=RangeRequest(key=b"a", revision=1000)),
            ]
        )
        self.assertIsInstance(side.apply("txn", txn), EtcdError)
        self.assertEqual(side.backend.consistent_index(), (side.index, 1))
        self.assertEqual(side.applier.applied_index, side.index)
        self.assertIs(side.store.before, None)

    def test_over_quota(self) -> None:
        """Who asked for what does not fit is told so, though it is carried out."""
        side = Side(1, limit_bytes=1)
        alarms: list[int] = []
        self.filled(side)
        side.applier.on_over_quota.append(lambda: alarms.append(1))
        txn = TxnRequest(
            success=[
                RequestOp(request_delete_range=DeleteRangeRequest(**EVERYTHING)),
                RequestOp(request_put=PutRequest(key=b"a", value=b"v")),
            ]
        )
        self.assertIsInstance(side.apply("txn", txn), NoSpace)
        self.assertEqual((alarms, side.store.range(b"\0", b"\0").count), ([1], 1))
        self.assertIsInstance(side.apply("delete_range", DeleteRangeRequest(**EVERYTHING)), bytes)

    def test_small_requests_pause_too(self) -> None:
        """Many small deletions one after the other let others have a turn now and then."""
        allowance = Allowance(10, 5)
        self.assertEqual([allowance.admits(4) for _ in range(6)], [True, True, False] * 2)
        self.assertTrue(allowance.admits(10))
        self.assertFalse(allowance.admits(11))

    def test_a_lease_with_many_keys(self) -> None:
        """Its keys go in bytewise order in one revision, and until they are gone the lease is
        there with those that are left."""
        side = Side(5)
        side.apply("lease_grant", LeaseGrantRequest(ID=7, TTL=60))
        for key in reversed(KEYS):
            side.apply("put", PutRequest(key=key, value=b"v", lease=7))
        told: list[Change] = []
        side.store.on_piece.append(lambda _, changes: told.extend(changes))
        side.store.on_change.append(lambda _, changes: told.extend(changes))
        work = side.begin("lease_revoke", LeaseRevokeRequest(ID=7))
        while not told:
            next(work)
        self.assertEqual(side.lessor.keys(7), KEYS[2:])
        finished(work)
        self.assertEqual([each.key for each in told], KEYS)
        self.assertFalse(side.lessor.exists(7))
        self.assertEqual(side.backend.get(b"lease", (7).to_bytes(8, "big")), None)
