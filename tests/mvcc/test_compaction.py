"""Compaction, hashes and restarts, and how they get along."""

from __future__ import annotations

from functools import partial

from google_crc32c import value as crc32c
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import Compacted, FutureRevision
from etcdtw.mvcc.hash import HashAll
from etcdtw.mvcc.keyvalue import encode_tombstone
from etcdtw.mvcc.revision import parse_main, revision_key, tombstone_keys
from etcdtw.mvcc.store import Store
from etcdtw.storage.backend.memory import MemoryBackend


def delete(store: Store, key: bytes) -> int:
    txn = store.write()
    txn.delete_range(key)
    return txn.end()


def finish(step: object) -> None:
    assert callable(step)
    while not step():
        pass


def mains(store: Store) -> list[int]:
    return [parse_main(raw_key) for raw_key, _ in store.backend.scan(b"key", b"", None)]


class CompactionTests(SynchronousTestCase):
    """What is removed."""

    def setUp(self) -> None:
        self.backend = MemoryBackend(durable=True)
        self.store = Store(self.backend)

    def restarted(self) -> Store:
        self.backend.end_entry(1, 1)
        self.backend.commit()
        self.backend.crash()
        return Store(self.backend)

    def test_keeps_the_newest(self) -> None:
        """Of each key the newest record up to the revision stays, and all after it."""
        for value in (b"1", b"2", b"3"):
            self.store.put_one(b"a", value)
        self.store.put_one(b"b", b"")
        finish(self.store.compact(3).step)
        self.assertEqual(mains(self.store), [3, 4, 5])

    def test_tombstones(self) -> None:
        """A tombstone up to the revision goes with everything before it, one at the very revision
        too (etcd before 3.5.16); a later one stays with what it ends."""
        self.store.put_one(b"a", b"")
        self.store.put_one(b"b", b"")
        delete(self.store, b"a")
        delete(self.store, b"b")
        finish(self.store.compact(4).step)
        self.assertEqual(mains(self.store), [3, 5])
        finish(self.store.compact(5).step)
        self.assertEqual(mains(self.store), [])
        self.assertFalse(any(self.store.index.history))

    def test_bounds(self) -> None:
        """A store that never was compacted takes revision 0 but no negative one; after that only
        higher ones up to the current are taken."""
        self.assertRaises(Compacted, self.store.compact, -1)
        self.assertRaises(FutureRevision, self.store.compact, 2)
        self.store.compact(0)
        self.assertRaises(Compacted, self.store.compact, 0)
        self.store.compact(1)
        self.assertRaises(Compacted, self.store.compact, 1)

    def test_revision_after_restart(self) -> None:
        """A restart never moves the revision backwards, even when every record is gone."""
        self.store.put_one(b"a", b"")
        delete(self.store, b"a")
        job = self.store.compact(3)
        finish(job.step)
        self.assertEqual(mains(self.store), [])
        again = self.restarted()
        self.assertEqual((again.revision, again.compacted), (3, 3))
        self.assertEqual(again.compactions, [])

    def test_resumed(self) -> None:
        """A compaction that a crash cut short is in force after the restart and can be finished."""
        for value in (b"1", b"2", b"3", b"4"):
            self.store.put_one(b"a", value)
        self.store.compact(4).step(1)
        again = self.restarted()
        self.assertEqual((again.revision, again.compacted), (5, 4))
        [job] = again.compactions
        finish(job.step)
        self.assertEqual(mains(again), [4, 5])
        self.assertEqual(self.restarted().compactions, [])

    def test_orphan_tombstones(self) -> None:
        """A tombstone whose puts are gone, as a newer etcd keeps it, is no key, and goes with the
        next compaction that covers it."""
        for revision in (3, 5):
            (tombstone,) = tombstone_keys(revision, 0, 1)
            self.backend.put(b"key", tombstone, encode_tombstone(b"x"))
        store = self.restarted()
        self.assertEqual(store.range(b"\0", b"\0").count, 0)
        self.assertEqual(store.revision, 5)
        finish(store.compact(4).step)
        self.assertEqual(mains(store), [5])
        finish(store.compact(5).step)
        self.assertEqual(mains(store), [])

    def test_out_of_order(self) -> None:
        """Of two compactions under way the earlier one finishes first, whichever is asked for
        more, and each calls whoever waits for it once."""
        for value in (b"1", b"2", b"3"):
            self.store.put_one(b"a", value)
        done: list[int] = []
        early, late = self.store.compact(2), self.store.compact(3)
        for job in (early, late):
            job.on_done.append(partial(done.append, job.revision))
        finish(late.step)
        finish(early.step)
        finish(early.step)
        self.assertEqual(done, [2, 3])
        self.assertEqual(self.backend.get(b"meta", b"finishedCompactRev"), revision_key(3, 0))
        self.assertEqual(self.restarted().compactions, [])

    def test_small_steps(self) -> None:
        """A step removes no more records than it may, also within one key of many revisions."""
        for _ in range(100):
            self.store.put_one(b"a", b"")
        job = self.store.compact(101)
        before = len(mains(self.store))
        while not job.step(7):
            left = len(mains(self.store))
            self.assertLessEqual(before - left, 7)
            before = left
        self.assertEqual(mains(self.store), [101])


class HashTests(SynchronousTestCase):
    """HashKV and Hash."""

    def setUp(self) -> None:
        self.backend = MemoryBackend()
        self.store = Store(self.backend)

    def raw(self, first: int = 0) -> bytes:
        scan = self.backend.scan(b"key", revision_key(first, 0), None)
        return b"".join(raw_key + record for raw_key, record in scan)

    def test_never_compacted(self) -> None:
        """It is the CRC-32C of the bucket's name and all records up to the revision."""
        self.store.put_one(b"a", b"1")
        delete(self.store, b"a")
        wanted = crc32c(b"key" + self.raw())
        self.store.put_one(b"b", b"2")
        job = self.store.hash_kv(3)
        finish(job.step)
        self.assertEqual((job.hash, job.compact_revision), (wanted, -1))

    def test_left_out(self) -> None:
        """Of what a compaction kept, records that are superseded at the revision stay out."""
        self.store.put_one(b"a", b"1")
        self.store.put_one(b"b", b"1")
        self.store.compact(3)
        self.store.put_one(b"a", b"2")
        job = self.store.hash_kv(0)
        finish(job.step)
        self.assertEqual((job.hash, job.compact_revision), (crc32c(b"key" + self.raw(3)), 3))

    def test_nothing_kept(self) -> None:
        """When no key exists at the revision nothing is left out."""
        self.store.put_one(b"a", b"1")
        self.store.compact(2)
        delete(self.store, b"a")
        job = self.store.hash_kv(0)
        finish(job.step)
        self.assertEqual(job.hash, crc32c(b"key" + self.raw()))

    def test_bounds(self) -> None:
        """The compacted revision itself is refused, as etcd 3.5.1 does; so is one to come."""
        self.store.put_one(b"a", b"1")
        self.store.compact(2)
        self.assertRaises(Compacted, self.store.hash_kv, 2)
        self.assertRaises(FutureRevision, self.store.hash_kv, 3)
        finish(self.store.hash_kv(0).step)

    def test_compaction_waits(self) -> None:
        """A compaction accepted while a hash runs does not take records from under it."""
        for value in (b"1", b"2", b"3"):
            self.store.put_one(b"a", value)
        wanted = crc32c(b"key" + self.raw())
        job = self.store.hash_kv(0)
        self.assertFalse(job.step(1))
        compaction = self.store.compact(4)
        finish(lambda: compaction.step(1))
        self.assertTrue(job.done)
        self.assertEqual((job.hash, job.compact_revision), (wanted, -1))
        self.assertEqual(mains(self.store), [4])

    def test_closed(self) -> None:
        """A hash that nobody wants any more holds nothing up."""
        self.store.put_one(b"a", b"1")
        job = self.store.hash_kv(0)
        job.close()
        self.assertTrue(job.step())
        finish(self.store.compact(2).step)
        self.assertEqual(self.store.readers, [])

    def test_before_a_compaction(self) -> None:
        """Where it is wished, a compaction is preceded by the hash of what was there, in steps no
        longer than its own; the last ones are remembered."""
        self.store.hashes_compactions = True
        wanted = []
        for revision in range(3, 16):
            self.store.put_one(b"a", b"1")
            self.store.put_one(b"b", b"1")
            job = self.store.hash_kv(revision)
            finish(job.step)
            wanted.append((revision, job.compact_revision, job.hash))
            compaction = self.store.compact(revision)
            self.assertIsNone(self.store.compaction_hash(revision))
            finish(lambda job=compaction: job.step(1))
        found = [
            (each.revision, each.compact_revision, each.hash)
            for each in self.store.compaction_hashes
        ]
        self.assertEqual(found, wanted[-10:])
        self.assertIsNotNone(self.store.compaction_hash(15))
        self.assertIsNone(self.store.compaction_hash(3))
        self.assertEqual(self.store.readers, [])

    def test_all_buckets(self) -> None:
        """Hash covers names and records of all buckets but the member's own index and term."""
        self.store.put_one(b"a", b"1")
        self.backend.put(b"meta", b"consistent_index", b"x")
        self.backend.put(b"meta", b"term", b"x")
        self.backend.put(b"meta", b"confState", b"{}")
        self.backend.put(b"alarm", b"n", b"")
        job = HashAll(self.backend)
        finish(lambda: job.step(1))
        self.assertEqual(job.hash, crc32c(b"alarmnkey" + self.raw() + b"metaconfState{}"))
