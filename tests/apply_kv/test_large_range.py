"""Ranges in steps answer what ranges at once answer."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.apply import large_range
from etcdtw.apply.header import HeaderSource
from etcdtw.apply.kv_range import range_response
from etcdtw.apply.large_range import LargeRange, is_large
from etcdtw.errors import Compacted, EtcdError, FutureRevision
from etcdtw.mvcc.store import Store
from etcdtw.pb.rpc_pb2 import RangeRequest
from etcdtw.storage.backend.memory import MemoryBackend


def some_request(dice: Random, store: Store) -> RangeRequest:
    """Anything that a client may ask for."""

    def bound() -> int:
        return dice.choice((0, 0, 0, dice.randrange(1, store.revision + 2)))

    return RangeRequest(
        key=b"%02d" % dice.randrange(20),
        range_end=dice.choice((b"\0", b"%02d" % dice.randrange(60))),
        limit=dice.choice((0, 0, 1, 3, 7, 100)),
        revision=dice.choice((0, 0, dice.randrange(store.revision + 1))),
        sort_order=dice.choice((0, 0, 1, 2, 9)),  # type: ignore[arg-type]
        sort_target=dice.choice((0, 0, 1, 2, 3, 4)),  # type: ignore[arg-type]
        keys_only=dice.random() < 0.2,
        count_only=dice.random() < 0.1,
        min_mod_revision=bound(),
        max_mod_revision=bound(),
        min_create_revision=bound(),
        max_create_revision=bound(),
    )


class LargeRangeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(large_range, "STEP_KEYS", 3)
        self.header = HeaderSource(1, 2).encode

    def write(self, store: Store, dice: Random) -> None:
        key = b"%02d" % dice.randrange(50)
        if dice.random() < 0.25:
            txn = store.write()
            txn.delete_range(key)
            txn.end()
        else:
            store.put_one(key, b"%d" % dice.randrange(4))

    def test_same_answer(self) -> None:
        """Whatever is asked for, and whatever is written or compacted between the steps, the answer
        is the one of the moment when it was asked for."""
        for seed in range(400):
            dice = Random(seed)
            store = Store(MemoryBackend(), recent_bytes_max=dice.choice((1 << 20, 500)))
            for _ in range(dice.randrange(5, 120)):
                self.write(store, dice)
            compacting = None
            jobs = []
            for _ in range(4):
                request = some_request(dice, store)
                try:
                    expected = range_response(store, request, self.header)
                except EtcdError as refused:
                    self.assertRaises(type(refused), LargeRange, store, request, self.header)
                    continue
                jobs.append((LargeRange(store, request, self.header), expected, request))
                for job, _, _ in jobs:
                    if dice.random() < 0.5:
                        job.step()
                if dice.random() < 0.5:
                    self.write(store, dice)
                if compacting is None and dice.random() < 0.3:
                    compacting = store.compact(dice.randrange(1, store.revision + 1))
                if compacting is not None:
                    compacting.step(2)
            for job, expected, request in jobs:
                while not job.step():
                    if dice.random() < 0.3:
                        self.write(store, dice)
                self.assertEqual(job.result(), expected, (seed, request))
            self.assertEqual(store.readers, [])

    def test_refusals(self) -> None:
        """Revisions that are compacted or to come are refused at once."""
        store = Store(MemoryBackend())
        for _ in range(5):
            store.put_one(b"a", b"")
        store.compact(4)
        for revision, error in ((3, Compacted), (9, FutureRevision)):
            request = RangeRequest(key=b"a", range_end=b"\0", revision=revision)
            self.assertRaises(error, LargeRange, store, request, self.header)
        self.assertEqual(store.readers, [])

    def test_given_up(self) -> None:
        """A job that nobody waits for any more holds up no compaction."""
        store = Store(MemoryBackend())
        for number in range(20):
            store.put_one(b"%02d" % number, b"")
        job = LargeRange(store, RangeRequest(key=b"0", range_end=b"\0"), self.header)
        job.step()
        job.close()
        self.assertTrue(job.step())
        self.assertEqual(store.readers, [])

    def test_which_are_large(self) -> None:
        """By the number of keys that must be looked at, not of those that are returned."""
        self.patch(large_range, "LARGE_KEYS", 10)
        store = Store(MemoryBackend())
        for number in range(20):
            store.put_one(b"%02d" % number, b"")
        everything = {"key": b"0", "range_end": b"\0"}
        for fields, expected in (
            (everything, True),
            ({"key": b"00", "range_end": b"09"}, False),
            ({"key": b"00"}, False),
            ({"key": b"1", "range_end": b"0"}, False),
            ({**everything, "limit": 5}, False),
            ({**everything, "limit": 5, "sort_target": 3, "sort_order": 2}, True),
            ({**everything, "limit": 5, "min_mod_revision": 3}, True),
            ({**everything, "count_only": True}, False),
            ({**everything, "count_only": True, "revision": 9}, True),
            ({**everything, "limit": 5, "revision": 9}, True),
        ):
            self.assertEqual(is_large(store, RangeRequest(**fields)), expected, fields)
