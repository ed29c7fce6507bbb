"""Sorting in turns."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.turns import add_run, merged, sorted_in_turns

_KEYS = st.sets(st.binary(max_size=3), max_size=60)


class MergedTests(SynchronousTestCase):
    def test_all_in_order(self) -> None:
        """However keys are spread over runs, all of them come, in order and in small pieces."""

        @settings(max_examples=300, deadline=None, derandomize=True)
        @given(st.lists(_KEYS, max_size=8), st.integers(1, 20))
        def check(spread: list[set[bytes]], piece: int) -> None:
            known: set[bytes] = set()
            runs: list[list[bytes]] = []
            for keys in spread:
                add_run(runs, sorted(keys - known))
                known |= keys
            pieces = list(merged(runs, piece))
            self.assertEqual([key for found in pieces for key in found], sorted(known))
            for found in pieces:
                self.assertLessEqual(len(found), max(piece, len(runs)))
                self.assertTrue(found)

        check()

    def test_in_turns(self) -> None:
        """Sorting takes a turn for each piece, and what is in order already stays one run."""
        keys = [b"%04d" % number for number in range(1000)]
        for unsorted in (keys, keys[::-1], keys[500:] + keys[:500]):
            work = sorted_in_turns(unsorted, 100)
            turns = 0
            while True:
                try:
                    next(work)
                    turns += 1
                except StopIteration as end:
                    self.assertEqual(list(end.value), keys)
                    break
            self.assertEqual(turns, 10)

    def test_runs_that_follow_are_one(self) -> None:
        """Keys that come in order need no sorting."""
        runs: list[list[bytes]] = []
        for keys in ([], [b"a", b"b"], [], [b"c"], [b"bb"], [b"d"]):
            add_run(runs, list(keys))
        self.assertEqual(runs, [[b"a", b"b", b"c"], [b"bb", b"d"]])
