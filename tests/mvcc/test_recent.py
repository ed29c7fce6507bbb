"""What is kept of current pairs in memory stays within its bound."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.mvcc.plain_puts import WRITES_TO_HEAT, put_each
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
        """All that is held, each object once; either generation may be one value ahead."""
        recent = self.recent
        chunks = [*recent.young.values(), *recent._old.values()]
        chunks += [chunk for chunk, _, _ in recent.hot.values()]
        held = sum(map(len, {id(chunk): chunk for chunk in chunks}.values()))
        self.assertLessEqual(held, BYTES_MAX + 2 * len(LARGE))

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
