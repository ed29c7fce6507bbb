"""The multi-version store over LMDB is the store over memory."""

from __future__ import annotations

import random

from etcdtw.mvcc.hash import HashAll
from etcdtw.mvcc.store import Store
from etcdtw.storage.backend.memory import MemoryBackend
from tests.storage_lmdb.keyspaces import HeldWorker, KeyspaceCase

ENTRIES = 3000


def _key(number: int) -> bytes:
    return b"/k/%03d" % number


class StoreTests(KeyspaceCase):
    """The same writes over both, with commits in flight."""

    def hashes(self, store: Store) -> tuple[int, int]:
        """HashKV at the current revision, and the hash over all buckets."""
        kv, everything = store.hash_kv(), HashAll(store.backend)
        for job in (kv, everything):
            while not job.step():
                pass
        return kv.hash, everything.hash

    def ranges(self, store: Store) -> list[object]:
        low = max(store.compacted, 1)
        found: list[object] = []
        for revision in range(low, store.revision + 1, 97):
            result = store.range(b"/k/1", b"/k/7", revision=revision)
            found.append((result.chunks, result.count))
        found.append([(main, changes) for main, changes in store.history(low, store.revision)])
        return found

    def test_equal_before_and_after_a_restart(self) -> None:
        """Ranges, history and hashes agree, at once, in flight, and from disk."""
        dice = random.Random(11)
        worker = HeldWorker()
        backend = self.open(self.new_settings(batch_changes=100), worker)
        model = Store(MemoryBackend(), recent_bytes_max=20_000)
        store = Store(backend, recent_bytes_max=20_000)
        for index in range(1, ENTRIES + 1):
            number, what = dice.randrange(300), dice.random()
            for each in (model, store):
                if what < 0.8 or not each.range(_key(number)).count:
                    each.put_one(_key(number), b"%d" % index)
                else:
                    txn = each.write()
                    txn.delete_range(_key(number))
                    txn.end()
                if index % 1000 == 0:
                    compaction = each.compact(each.revision - 200)
                    while not compaction.step(7):
                        pass
                each.backend.end_entry(index, 1)
            if dice.random() < 0.05:
                worker.do()
            if dice.random() < 0.05:
                worker.report()
        self.assertEqual(self.ranges(store), self.ranges(model))
        self.assertEqual(self.hashes(store), self.hashes(model))
        backend.commit()
        worker.finish()
        backend.close()
        again = Store(self.open(backend.settings), recent_bytes_max=20_000)
        self.assertEqual(again.revision, model.revision)
        self.assertEqual(again.compacted, model.compacted)
        self.assertEqual(self.ranges(again), self.ranges(model))
        self.assertEqual(self.hashes(again), self.hashes(model))

    def test_hash_over_a_view(self) -> None:
        """The hash over all buckets can be taken of a view, and leaves the position out."""
        backend = self.open()
        store = Store(backend)
        store.put_one(b"a", b"1")
        backend.put(b"meta", b"confState", b"{}")
        backend.end_entry(1, 1)
        expected = self.hashes(store)[1]
        backend.commit()
        view = backend.view("hash")
        self.addCleanup(view.close)
        job = HashAll(view)
        store.put_one(b"a", b"2")
        backend.end_entry(2, 1)
        backend.commit()
        while not job.step():
            pass
        self.assertEqual(job.hash, expected)
