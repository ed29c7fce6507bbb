"""What is kept of current pairs in memory stays within its bound."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.mvcc.keyvalue import decode_kv
from etcdtw.mvcc.plain_puts import WRITES_TO_HEAT, put_each
from etcdtw.mvcc.recent import YOUNG_KEYS_MAX
from etcdtw.mvcc.store import Store
from etcdtw.storage.backend.memory import MemoryBackend

BYTES_MAX = 1 << 20
LARGE = b"v" * (BYTES_MAX // 10)
KEYS = [b"%d" % number for number in range(20)]


class RecentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Store(MemoryBackend(), recent_bytes_max=BYTES_MAX)
        self.recent = self.store.recent

    def check(self) -> None:
        """All that is held, each object once; it may be a value ahead."""
        recent = self.recent
        chunks = [*recent.young.values()]
        for part in recent.old:
            chunks += part.values()
        chunks += [chunk for chunk, _, _ in recent.hot.values()]
        held = sum(map(len, {id(chunk): chunk for chunk in chunks}.values()))
        self.assertLessEqual(held, BYTES_MAX + len(LARGE))

    def test_grown(self) -> None:
        """Values that grow count as much as new ones, however they are written."""
        for write in (self._put, self._put_in_transaction):
            for value in (b"v", LARGE, b"v", LARGE):
                for key in KEYS:
                    write(key, value)
                    self.check()

    def test_hot(self) -> None:
        """A chunk that is no longer a key's newest is not held for having been written often."""
        for end in (self._delete, self._put_in_transaction):
            for key in KEYS:
                put_each(self.store, [(key, LARGE)] * WRITES_TO_HEAT)
                self.assertIn(key, [*self.recent.hot])
                end(key)
                self.assertNotIn(key, [*self.recent.hot])
                self.check()

    def _put(self, key: bytes, value: bytes) -> None:
        put_each(self.store, [(key, value)])

    def _put_in_transaction(self, key: bytes, value: bytes = b"w") -> None:
        txn = self.store.write()
        txn.put(key, value)
        txn.end()

    def _delete(self, key: bytes) -> None:
        txn = self.store.write()
        txn.delete_range(key)
        txn.end()


class PartsTests(SynchronousTestCase):
    """A dict that grows moves all it holds: there is none with a large part of all keys."""

    def test_no_large_dict(self) -> None:
        """While keys come, come again and go; and all are still counted."""
        store = Store(MemoryBackend())
        keys = [b"%d" % number for number in range(2 * YOUNG_KEYS_MAX)]
        part_max = len(keys) // 32
        for _ in range(2):
            put_each(store, [(key, b"v") for key in keys])
        for parts in (store.index.current, store.index.history, store.recent.old):
            self.assertLess(max(map(len, parts)), part_max)
        self.assertLessEqual(len(store.recent.young), YOUNG_KEYS_MAX)
        self.assertEqual(len(store.index), len(keys))
        self.assertEqual(store.range(b"0", b"\0", count_only=True).count, len(keys))
        txn = store.write()
        txn.delete_range(b"0", b"\0")
        txn.end()
        self.assertEqual((len(store.index), sum(map(len, store.recent.old))), (0, 0))
        self.assertLess(max(map(len, store.index.history)), part_max)

    def test_found_wherever_it_is(self) -> None:
        """In one answer: pairs written just now, earlier, and so early that they were dropped."""
        store = Store(MemoryBackend(), recent_bytes_max=100_000)
        keys = [b"%06d" % number for number in range(2000)]
        for key in keys:
            store.put_one(key, b"v" + key)
        held = len(store.recent.young) + sum(map(len, store.recent.old))
        self.assertTrue(len(store.recent.young) < held < len(keys))
        found = [decode_kv(pair).value for pair in store.range(b"0", b"\0").pairs]
        self.assertEqual(found, [b"v" + key for key in keys])
