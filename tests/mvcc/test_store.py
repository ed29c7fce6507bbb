"""Rules of the store that deserve to be seen one by one."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import Compacted, FutureRevision
from etcdtw.mvcc.changes import Change
from etcdtw.mvcc.keyvalue import KV, decode_kv, parse_record
from etcdtw.mvcc.revision import revision_key, tombstone_keys
from etcdtw.mvcc.store import Store
from etcdtw.pb.kv_pb2 import KeyValue
from etcdtw.storage.backend.memory import MemoryBackend
from tests.mvcc.leases import FakeLessor


def keys_of(store: Store) -> list[bytes]:
    """The raw keys of bucket ``key``."""
    return [raw_key for raw_key, _ in store.backend.scan(b"key", b"", None)]


class WriteTests(SynchronousTestCase):
    """Transactions."""

    def setUp(self) -> None:
        self.store = Store(MemoryBackend())

    def test_first_revision(self) -> None:
        """A new store is at revision 1, was never compacted, and its first put makes revision 2."""
        self.assertEqual((self.store.revision, self.store.compacted), (1, -1))
        self.assertEqual(self.store.put_one(b"a", b"1"), 2)
        self.assertEqual(keys_of(self.store), [revision_key(2, 0)])

    def test_nothing_changed(self) -> None:
        """A transaction that changed nothing makes no revision and tells nobody."""
        self.store.on_change.append(lambda *told: self.fail(f"told of {told}"))
        txn = self.store.write()
        self.assertEqual(txn.delete_range(b"a"), [])
        self.assertFalse(txn.changed)
        self.assertEqual(txn.end(), 1)

    def test_sub_numbers(self) -> None:
        """Changes of one transaction share its revision and are numbered from 0 in order."""
        self.store.put_one(b"old", b"")
        txn = self.store.write()
        txn.put(b"b", b"")
        txn.delete_range(b"old")
        txn.put(b"a", b"")
        self.assertEqual(txn.end(), 3)
        self.assertEqual(
            keys_of(self.store)[1:],
            [revision_key(3, 0), *tombstone_keys(3, 1, 1), revision_key(3, 2)],
        )

    def test_generations(self) -> None:
        """Version counts puts and create_revision stays, until a deletion lets both begin anew."""
        for value in (b"1", b"2"):
            self.store.put_one(b"a", value)
        self.assertEqual(decode_kv(self.store.range(b"a").pairs[0]), KV(b"a", 2, 3, 2, b"2", 0))
        txn = self.store.write()
        txn.delete_range(b"a")
        txn.end()
        self.store.put_one(b"a", b"3")
        self.assertEqual(decode_kv(self.store.range(b"a").pairs[0]), KV(b"a", 5, 5, 1, b"3", 0))

    def test_changes(self) -> None:
        """Changes come with the records that events carry, and what the key was before; of a
        deleted one only if somebody wants to know."""
        seen: list[tuple[int, list[Change]]] = []
        self.store.put_one(b"a", b"1")
        self.store.tells_prev = True
        self.store.on_change.append(lambda revision, changes: seen.append((revision, changes)))
        txn = self.store.write()
        txn.put(b"a", b"2")
        txn.put(b"b", b"")
        txn.delete_range(b"a")
        txn.end()
        before = KeyValue(
            key=b"a", create_revision=2, mod_revision=2, version=1, value=b"1"
        ).SerializeToString()
        deleted = KeyValue(key=b"a", mod_revision=3).SerializeToString()
        [(revision, changes)] = seen
        self.assertEqual(revision, 3)
        self.assertEqual([change.create for change in changes], [False, True, False])
        self.assertEqual([change.prev for change in changes], [before, None, before])
        self.assertEqual(changes[2], Change(b"a", deleted, True, before, False))
        self.assertEqual(list(self.store.history(3, 3)), seen)
        self.store.tells_prev = False
        [(_, past)] = self.store.history(3, 3)
        self.assertEqual(past, [change._replace(prev=None) for change in changes])
        txn = self.store.write()
        txn.delete_range(b"b")
        txn.end()
        self.assertEqual([change.prev for change in seen[-1][1]], [None])

    def test_leases(self) -> None:
        """A put replaces the lease of its key, a deletion takes it away, and the lessor hears it
        once each."""
        lessor = FakeLessor()
        lessor.grant(7)
        lessor.grant(8)
        store = Store(MemoryBackend(), lessor)
        store.put_one(b"a", b"", 7)
        store.put_one(b"a", b"", 7)
        self.assertEqual(lessor.keys, {7: {b"a"}, 8: set()})
        store.put_one(b"a", b"", 8)
        store.put_one(b"b", b"", 8)
        self.assertEqual((lessor.keys, store.lease_of[b"a"]), ({7: set(), 8: {b"a", b"b"}}, 8))
        store.put_one(b"a", b"")
        txn = store.write()
        txn.delete_range(b"b")
        txn.end()
        self.assertEqual((lessor.keys, store.lease_of), ({7: set(), 8: set()}, {}))


class ReadTests(SynchronousTestCase):
    """Ranges."""

    def setUp(self) -> None:
        self.store = Store(MemoryBackend())
        for key in (b"a", b"b", b"c"):
            self.store.put_one(key, key)

    def keys(self, *arguments: bytes, **options: int) -> list[bytes]:
        pairs = self.store.range(*arguments, **options).pairs  # type: ignore[arg-type]
        return [decode_kv(pair).key for pair in pairs]

    def test_ends(self) -> None:
        """No end is one key, a zero byte means to the last one, an end at or before the key
        finds nothing."""
        self.assertEqual(self.keys(b"b"), [b"b"])
        self.assertEqual(self.keys(b"b", b""), [b"b"])
        self.assertEqual(self.keys(b"b", b"\0"), [b"b", b"c"])
        self.assertEqual(self.keys(b"\0", b"\0"), [b"a", b"b", b"c"])
        self.assertEqual(self.keys(b"a", b"c"), [b"a", b"b"])
        self.assertEqual(self.keys(b"c", b"a"), [])
        self.assertEqual(self.keys(b"c", b"a", revision=3), [])

    def test_limit_and_count(self) -> None:
        """The count is of the whole range, whatever the limit."""
        for revision in (0, 4):
            result = self.store.range(b"a", b"\0", limit=1, revision=revision)
            self.assertEqual((len(result.pairs), result.count), (1, 3))
            counted = self.store.range(b"a", b"\0", count_only=True, revision=revision)
            self.assertEqual((counted.pairs, counted.count), ([], 3))

    def test_revisions(self) -> None:
        """A revision of 0 or less is the current one; one that is to come is refused."""
        self.assertEqual(self.keys(b"a", b"\0", revision=-5), [b"a", b"b", b"c"])
        self.assertEqual(self.keys(b"a", b"\0", revision=3), [b"a", b"b"])
        self.assertEqual(self.keys(b"a", b"\0", revision=1), [])
        self.assertRaises(FutureRevision, self.store.range, b"a", revision=5)

    def test_compacted(self) -> None:
        """From the moment a compaction is accepted reads below it are refused, at it they work,
        and before its job did anything as well as after."""
        self.store.put_one(b"a", b"new")
        job = self.store.compact(4)
        for _ in range(2):
            self.assertRaises(Compacted, self.store.range, b"a", revision=3)
            self.assertRaises(Compacted, self.store.history, 3, 5)
            self.assertEqual(decode_kv(self.store.range(b"a", revision=4).pairs[0]).value, b"a")
            while not job.step():
                pass

    def test_prev_is_compacted(self) -> None:
        """History does not give away what was before the first readable revision."""
        self.store.tells_prev = True
        self.store.put_one(b"a", b"new")
        self.store.compact(4)
        [(_, [change])] = self.store.history(5, 5)
        assert change.prev is not None
        self.assertEqual(parse_record(change.prev).value, b"a")
        self.store.compact(5)
        [(_, [change])] = self.store.history(5, 5)
        self.assertIsNone(change.prev)


class RecentTests(SynchronousTestCase):
    """The bound on what stays in memory."""

    def test_bound(self) -> None:
        """What no longer fits is read from the backend, and answers stay the same."""
        store = Store(MemoryBackend(), recent_bytes_max=100_000)
        for number in range(2000):
            store.put_one(b"%04d" % number, b"v" * 100)
        held = sum(len(chunk) for chunk in store.recent.young.values())
        self.assertLess(held, 50_000)
        pairs = store.range(b"\0", b"\0").pairs
        self.assertEqual(
            [decode_kv(pair).key for pair in pairs], [b"%04d" % n for n in range(2000)]
        )
        self.assertEqual(store.put_one(b"0000", b"again"), 2002)
        self.assertEqual(decode_kv(store.range(b"0000").pairs[0]).version, 2)
