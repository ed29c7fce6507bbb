"""The log of the core: a durable part behind the view, and an unstable one before it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.raft import LogCompacted, LogLost, LogUnavailable, MemoryLog
from etcdtw.raft.log import RaftLog
from etcdtw.raft.messages import ConfState, Snapshot
from tests.raft.lone_node import entries_of, entry

SNAPSHOT = Snapshot(index=9, term=4, conf_state=ConfState(voters=(1,)), data=b"")


def raft_log(*durable: int, unstable: tuple[int, ...] = (), commit: int = 0) -> RaftLog:
    view = MemoryLog()
    view.append(entries_of(durable))
    log = RaftLog(view, commit, 0)
    log.append(entries_of(unstable, len(durable) + 1))
    return log


def terms_of(log: RaftLog) -> list[int]:
    return [each.term for each in log.entries_from(log.first_index, None)]


class Reading(SynchronousTestCase):
    def test_both_parts_read_as_one(self) -> None:
        """Terms and entries are found wherever they are."""
        log = raft_log(1, 1, unstable=(2, 3))
        self.assertEqual([log.term(each) for each in range(5)], [0, 1, 1, 2, 3])
        self.assertEqual(log.entries_from(2, None), entries_of([1, 2, 3], 2))
        self.assertEqual(log.entries_from(5, None), [])
        self.assertRaises(LogUnavailable, log.term, 5)

    def test_size_limit_spans_both_parts(self) -> None:
        """A size limit cuts at the same place, wherever the entries are."""
        for durable in range(5):
            log = raft_log(*[1] * durable, unstable=(1,) * (4 - durable))
            self.assertEqual(len(log.entries_from(1, 50)), 2, durable)
            self.assertEqual(len(log.entries_from(1, 1)), 1, durable)

    def test_conflict_by_term(self) -> None:
        """The highest entry is found whose term is not larger."""
        log = raft_log(1, 1, 3, unstable=(3, 5))
        for index, term, expected in (
            (5, 5, (5, 5)),
            (5, 4, (4, 3)),
            (5, 2, (2, 1)),
            (3, 3, (3, 3)),
            (2, 0, (0, 0)),
        ):
            self.assertEqual(log.conflict_by_term(index, term), expected)

    def test_commit_beyond_the_log_is_refused(self) -> None:
        """A log that lost what was committed must not go on."""
        self.assertRaises(LogLost, raft_log, 1, 1, commit=3)
        self.assertRaises(LogLost, raft_log(1, 1).commit_to, 3)


class Following(SynchronousTestCase):
    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(st.data())
    def test_follow_against_a_plain_list(self, data: st.DataObject) -> None:
        """Appends of leaders leave the log as they would leave a plain list of terms."""
        model = sorted(data.draw(st.lists(st.integers(1, 3), max_size=6)))
        durable = data.draw(st.integers(0, len(model)))
        log = raft_log(*model[:durable], unstable=tuple(model[durable:]))
        if data.draw(st.booleans()):
            log.take_unstable()
        prev = data.draw(st.integers(0, len(model) + 1))
        prev_term = data.draw(st.integers(0, 3)) if prev else 0
        news = sorted(data.draw(st.lists(st.integers(prev_term or 1, 4), max_size=4)))
        fits = prev <= len(model) and (prev == 0 or model[prev - 1] == prev_term)
        result = log.follow(prev, prev_term, 0, entries_of(news, prev + 1))
        if not fits:
            self.assertIsNone(result)
        else:
            self.assertEqual(result, prev + len(news))
            for position, term in enumerate(news, prev):
                if position >= len(model) or model[position] != term:
                    model = model[:position] + news[position - prev :]
                    break
        self.assertEqual(terms_of(log) if model else [], model)
        self.assertEqual(log.last_index, len(model))
        self.assertLessEqual(log.durable, log.taken)
        self.assertLessEqual(log.taken, log.last_index)

    def test_committed_entries_never_change(self) -> None:
        """An append that contradicts a committed entry is a bug somewhere."""
        log = raft_log(1, 1, commit=2)
        self.assertRaises(AssertionError, log.follow, 0, 0, 0, entries_of([2]))


class GivingOut(SynchronousTestCase):
    def test_taken_once(self) -> None:
        """Entries are given out to be made durable once."""
        log = raft_log(1, unstable=(1, 1))
        self.assertEqual(log.take_unstable(), entries_of([1, 1], 2))
        self.assertEqual(log.taken, log.last_index)
        log.append([entry(1, 4)])
        self.assertEqual(log.take_unstable(), entries_of([1], 4))

    def test_overwritten_meanwhile(self) -> None:
        """What was overwritten while it was being written does not count as durable."""
        view = MemoryLog()
        log = RaftLog(view, 0, 0)
        log.append(entries_of([1, 1, 1]))
        view.append(log.take_unstable())
        log.follow(1, 1, 0, entries_of([2], 2))
        log.taken_is_durable(None)
        self.assertEqual((log.durable, log.last_index), (1, 2))
        self.assertEqual(log.take_unstable(), entries_of([2], 2))

    def test_only_durable_entries_are_applied(self) -> None:
        """A committed entry is given out once it is on the own disk, and once only."""
        view = MemoryLog()
        log = RaftLog(view, 0, 0)
        log.append(entries_of([1, 1]))
        log.commit_to(2)
        self.assertFalse(log.has_committed)
        view.append(log.take_unstable())
        log.taken_is_durable(None)
        self.assertEqual(log.take_committed(1), entries_of([1]))
        self.assertEqual(log.take_committed(1), entries_of([1], 2))
        self.assertFalse(log.has_committed)

    def test_snapshot_hides_the_log(self) -> None:
        """A received snapshot stands for everything before it, and holds back what follows."""
        log = raft_log(1, 1, unstable=(1,), commit=2)
        log.restore(SNAPSHOT)
        log.append(entries_of([4], 10))
        log.commit_to(10)
        self.assertEqual((log.first_index, log.last_index, log.term(9)), (10, 10, 4))
        self.assertRaises(LogCompacted, log.term, 2)
        self.assertRaises(LogCompacted, log.entries_from, 2, None)
        self.assertFalse(log.has_committed)

    def test_newer_snapshot_stays(self) -> None:
        """A snapshot that came while another was being written is still to be written."""
        log = raft_log(1)
        log.restore(SNAPSHOT)
        taken = log.take_snapshot()
        newer = SNAPSHOT._replace(index=20)
        log.restore(newer)
        log.taken_is_durable(taken)
        self.assertIs(log.snapshot, newer)
        self.assertTrue(log.has_untaken_snapshot)
