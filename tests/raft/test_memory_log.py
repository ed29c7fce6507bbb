"""The log in memory, as the core reads it and its owner feeds it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from etcdtw.raft import (
    ILogView,
    LogCompacted,
    LogUnavailable,
    MemoryLog,
    SnapshotTemporarilyUnavailable,
)
from etcdtw.raft.messages import ConfState, HardState, Snapshot
from etcdtw.raft.sizes import ENTRY_OVERHEAD_BYTES
from tests.raft.lone_node import entries_of, entry

STATE = ConfState(voters=(1, 2))


def log_of(*terms: int, compacted: int = 0) -> MemoryLog:
    log = MemoryLog()
    log.append(entries_of(terms))
    log.compact(compacted)
    return log


class MemoryLogRules(SynchronousTestCase):
    def terms(self, log: MemoryLog) -> list[int]:
        return [e.term for e in log.entries(log.first_index(), log.last_index() + 1, None)]

    def test_provides_the_interface(self) -> None:
        """It is an ILogView."""
        self.assertTrue(verifyObject(ILogView, MemoryLog()))

    def test_empty(self) -> None:
        """An empty log begins at 1, ends at 0, and knows the term of index 0."""
        log = MemoryLog()
        self.assertEqual((log.first_index(), log.last_index(), log.term(0)), (1, 0, 0))
        self.assertEqual(log.initial_state(), (HardState(), ConfState()))

    def test_terms_outside(self) -> None:
        """Terms are known from the last compacted entry to the last one."""
        log = log_of(1, 1, 2, 3, compacted=2)
        self.assertEqual([log.term(each) for each in (2, 3, 4)], [1, 2, 3])
        self.assertRaises(LogCompacted, log.term, 1)
        self.assertRaises(LogUnavailable, log.term, 5)

    def test_entries_outside(self) -> None:
        """Entries that are gone or not there yet are told apart."""
        log = log_of(1, 1, 2, 3, compacted=2)
        self.assertEqual(log.entries(3, 5, None), entries_of([2, 3], 3))
        self.assertRaises(LogCompacted, log.entries, 2, 4, None)
        self.assertRaises(LogUnavailable, log.entries, 3, 6, None)

    def test_entries_are_limited_by_size(self) -> None:
        """As many entries as fit are given, but always one."""
        log = MemoryLog()
        log.append([entry(1, index, b"x" * 76) for index in range(1, 5)])
        each = 76 + ENTRY_OVERHEAD_BYTES
        for limit, count in ((0, 1), (each, 1), (2 * each - 1, 1), (2 * each, 2), (9 * each, 4)):
            self.assertEqual(len(log.entries(1, 5, limit)), count, limit)

    def test_append_replaces(self) -> None:
        """What is appended takes the place of entries with the same or a higher index."""
        for first, terms, expected in (
            (4, [4], [1, 2, 3, 4]),
            (3, [4], [1, 2, 4]),
            (2, [4, 4], [1, 4, 4]),
            (1, [4], [4]),
        ):
            log = log_of(1, 2, 3)
            log.append(entries_of(terms, first))
            self.assertEqual(self.terms(log), expected)

    def test_append_below_the_compaction(self) -> None:
        """Entries that were compacted already are skipped."""
        log = log_of(1, 1, 1, compacted=2)
        log.append(entries_of([1, 1], 1))
        self.assertEqual(self.terms(log), [1])
        log.append(entries_of([1, 1, 5], 1))
        self.assertEqual(self.terms(log), [5])

    def test_gap_is_a_bug(self) -> None:
        """Entries that do not follow on what is there are refused."""
        self.assertRaises(AssertionError, log_of(1).append, entries_of([1], 3))

    def test_compact(self) -> None:
        """Compaction forgets entries, is idempotent, and cannot reach past the end."""
        log = log_of(1, 2, 3)
        log.compact(2)
        log.compact(1)
        self.assertEqual((log.first_index(), log.last_index(), log.term(2)), (3, 3, 2))
        log.compact(3)
        self.assertEqual((log.first_index(), log.last_index(), log.term(3)), (4, 3, 3))
        self.assertRaises(LogUnavailable, log.compact, 4)

    def test_snapshots(self) -> None:
        """A snapshot comes from the source, else is the last one, else cannot be had."""
        log = log_of(1, 2)
        self.assertRaises(SnapshotTemporarilyUnavailable, log.snapshot)
        made = log.create_snapshot(2, STATE, b"state")
        self.assertEqual((log.snapshot(), made.term), (made, 2))
        other = Snapshot(index=9, term=9, conf_state=STATE, data=None)
        log.set_snapshot_source(lambda: other)
        self.assertIs(log.snapshot(), other)

    def test_apply_snapshot(self) -> None:
        """A received snapshot replaces the log and the configuration."""
        log = log_of(1, 1)
        log.apply_snapshot(Snapshot(index=7, term=3, conf_state=STATE, data=b""))
        self.assertEqual((log.first_index(), log.last_index(), log.term(7)), (8, 7, 3))
        self.assertEqual(log.initial_state()[1], STATE)
