"""The leader's book-keeping about one member."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.raft.progress import Inflights, Progress, ProgressState

LAST = 30
WINDOW = 3
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["send", "accept", "reject", "heartbeat", "snapshot", "probe"]),
        st.integers(0, LAST),
        st.integers(0, LAST),
    ),
    max_size=60,
)


class ProgressRules(SynchronousTestCase):
    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(EVENTS)
    def test_invariants(self, events: list[tuple[str, int, int]]) -> None:
        """Whatever is sent, answered or lost, the invariants of Progress hold."""
        progress = Progress(5, WINDOW)
        for what, a, b in events:
            match = progress.match
            if what == "send" and not progress.is_paused:
                left = LAST - progress.next_index + 1
                full = progress.state is ProgressState.REPLICATE and progress.inflights.full
                progress.sent_entries(0 if full else min(a % 4, left))
            elif what == "accept" and a < progress.next_index:
                progress.accepted(a)
                if progress.state is ProgressState.PROBE:
                    progress.become_replicate()
                progress.inflights.free_through(a)
            elif what == "reject" and progress.rejected(a, b):
                if progress.state is ProgressState.REPLICATE:
                    progress.become_probe()
            elif what == "heartbeat":
                progress.flow_paused = False
            elif what == "snapshot" and a > match:
                progress.become_snapshot(a)
            elif what == "probe":
                progress.become_probe()
            self.assertGreaterEqual(progress.match, match)
            self.check(progress)

    def check(self, progress: Progress) -> None:
        self.assertLess(progress.match, progress.next_index)
        self.assertLessEqual(len(progress.inflights), WINDOW)
        if progress.state is not ProgressState.REPLICATE:
            self.assertEqual(len(progress.inflights), 0)
        in_snapshot = progress.state is ProgressState.SNAPSHOT
        self.assertEqual(progress.pending_snapshot > 0, in_snapshot)
        self.assertTrue(progress.is_paused or not in_snapshot)

    def test_window_is_freed_in_order(self) -> None:
        """An answer frees every append up to its index."""
        window = Inflights(3)
        for index in (4, 6, 9):
            window.add(index)
        self.assertTrue(window.full)
        window.free_through(7)
        self.assertEqual(len(window), 1)
        window.free_through(3)
        self.assertEqual(len(window), 1)

    def test_full_window_pauses_until_an_answer(self) -> None:
        """Appends stop when the window is full, and go on once one of them is answered."""
        progress = Progress(1, 2)
        progress.become_replicate()
        progress.sent_entries(1)
        self.assertFalse(progress.is_paused)
        progress.sent_entries(1)
        self.assertTrue(progress.is_paused)
        self.assertTrue(progress.accepted(1))
        progress.inflights.free_through(1)
        self.assertFalse(progress.is_paused)

    def test_late_rejections_are_ignored(self) -> None:
        """A rejection of what has been acknowledged, or is not being probed, changes nothing."""
        progress = Progress(6, 2)
        self.assertFalse(progress.rejected(3, 2))
        self.assertTrue(progress.rejected(5, 2))
        self.assertEqual(progress.next_index, 3)
        progress.accepted(4)
        progress.become_replicate()
        self.assertFalse(progress.rejected(4, 1))

    def test_failed_snapshot_is_forgotten(self) -> None:
        """Probing goes on behind a snapshot that arrived, but not behind one that failed."""
        for arrived, next_index in ((True, 11), (False, 3)):
            progress = Progress(3, 2)
            progress.accepted(2)
            progress.become_snapshot(10)
            if not arrived:
                progress.pending_snapshot = 0
            progress.become_probe()
            self.assertEqual(progress.next_index, next_index)
