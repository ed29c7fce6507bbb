"""What the collector is kept from."""

from __future__ import annotations

import gc
import platform
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.tuning import hide_from_collector
from etcdtw.mvcc.keyindex import KeyIndex
from etcdtw.mvcc.parts import PART_SHIFT


@skipUnless(platform.python_implementation() == "CPython", "CPython's collector")
class HiddenContainersTests(SynchronousTestCase):
    def filled(self, keys: int) -> KeyIndex:
        index = KeyIndex()
        for number in range(keys):
            key = b"%08d" % (number * 7919 % keys)
            index.add(hash(key) >> PART_SHIFT, key, number + 2 << 1)
        self.addCleanup(hide_from_collector(index.plain_containers))
        gc.collect()
        return index

    def test_many(self) -> None:
        """What holds many keys is not walked, works as before, and stays hidden."""
        index = self.filled(150_000)
        self.assertFalse(any(map(gc.is_tracked, index.plain_containers())))
        gone = list(index.keys(b"00050000", b"00090000"))
        index.remove(gone, 1 << 30)
        for number in range(40_000):
            key = b"x%08d" % number
            index.add(hash(key) >> PART_SHIFT, key, number << 1)
        gc.collect()
        self.assertEqual(index.count(b"", None), 150_000)
        self.assertEqual(sum(map(len, index.history)), len(gone))
        self.assertEqual(next(index.keys(b"00049999", None)), b"00049999")
        self.assertFalse(any(map(gc.is_tracked, index.plain_containers())))

    def test_few(self) -> None:
        """What holds few keys is left alone."""
        index = self.filled(10_000)
        self.assertTrue(any(map(gc.is_tracked, index.plain_containers())))

    def test_ended(self) -> None:
        """Afterwards nothing is asked any more."""
        asked: list[int] = []

        def containers() -> list[list[bytes]]:
            asked.append(1)
            return []

        end = hide_from_collector(containers)
        gc.collect()
        end()
        end()
        before = len(asked)
        self.assertTrue(before)
        gc.collect()
        self.assertEqual(len(asked), before)
