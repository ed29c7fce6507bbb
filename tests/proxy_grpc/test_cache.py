"""The cache of serializable ranges."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.proxy.grpc.cache import ENTRIES_MAX, Entry, RangeCache, is_empty, span_of

NO_END = b"\0"


class CacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cache = RangeCache(3)
        self.dropped: list[bytes] = []

    def keep(self, key: bytes, end: bytes = b"", revision: int = 0, at: int = 10) -> bool:
        entry = Entry(((), key + b"/" + end), span_of(key, end), revision, b"answer")
        entry.on_dropped = lambda: self.dropped.append(key)
        return self.cache.add(entry, at)

    def test_size(self) -> None:
        """GX1: etcd keeps 2048; the answer that was not asked for longest leaves first."""
        self.assertEqual(ENTRIES_MAX, 2048)
        for key in (b"a", b"b", b"c"):
            self.keep(key)
        self.assertEqual(self.cache.get(((), b"a/")), b"answer")
        self.keep(b"d")
        self.assertEqual((self.dropped, len(self.cache)), ([b"b"], 3))
        self.assertIsNone(self.cache.get(((), b"b/")))
        self.assertEqual((self.cache.hits, self.cache.misses), (1, 1))

    def test_written(self) -> None:
        """GX1: a write ends what it may have changed: keys, ranges, ranges without an end."""
        for written, left in (
            ((b"b", b""), 2),  # a key: the key itself
            ((b"a", b""), 2),
            ((b"ab", b""), 2),
            ((b"aa", b"ab"), 2),
            ((b"c", NO_END), 2),
            ((b"a", NO_END), 0),
        ):
            self.cache.clear()
            self.keep(b"b")
            self.keep(b"a", b"b")
            self.keep(b"d", NO_END)
            self.cache.written(*written)
            self.assertEqual(len(self.cache), left, written)

    def test_history(self) -> None:
        """GX1: what was asked for at a revision stays, until a compaction takes the revision."""
        self.keep(b"a", revision=4)
        self.keep(b"b", revision=6)
        self.cache.written(b"a", NO_END)
        self.assertEqual(len(self.cache), 2)
        self.cache.compacted(6)
        self.assertEqual(self.dropped, [b"a"])

    def test_late_answer(self) -> None:
        """An answer that is older than a write through the proxy is not kept."""
        self.cache.written(b"a", b"", 12)
        self.assertFalse(self.keep(b"a", at=11))
        self.assertTrue(self.keep(b"a", at=12))
        self.assertTrue(self.keep(b"b", revision=3, at=11))

    def test_empty(self) -> None:
        """Ranges that hold nothing are told apart from a key and from those without an end."""
        found = [is_empty(b"b", end) for end in (b"", NO_END, b"c", b"b", b"a")]
        self.assertEqual(found, [False, False, False, True, True])
