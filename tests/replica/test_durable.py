"""The durable side of a replica: what is written when, and where a sync runs."""

from __future__ import annotations

import time
from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.raft import MemoryLog
from etcdtw.raft.messages import Entry, HardState
from etcdtw.replica.durable import CATCH_UP_ENTRIES, PREPARE_AGAIN_SECONDS, DurableLog
from etcdtw.storage.wal import Wal
from etcdtw.testing.disk import SimDisk
from tests.logs import logged
from tests.replica.floor import HeldWorker

SMALL_SEGMENT = 4096


class NothingUnsyncedSurvives(Random):
    """The worst dice for a power cut."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return 0


class DurableLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.disk = SimDisk()
        self.worker, self.background = HeldWorker(), HeldWorker()
        self.clock = Clock()
        self.tail = MemoryLog(HardState())
        self.log = self.durable()
        self.events: list[str] = []

    def durable(self, inline_seconds: float = 1000.0) -> DurableLog:
        self.directory = f"/wal{self.disk.operations}"
        wal = Wal.create(self.disk, self.directory, b"meta", SMALL_SEGMENT)
        return DurableLog(
            wal,
            self.tail,
            self.worker,
            self.background,
            inline_seconds,
            clock_seconds=self.clock.seconds,
        )

    def append(self, state: HardState | None, *indices: int, size: int = 1) -> bool:
        return self.log.append(state, [Entry(1, index, data=b"d" * size) for index in indices])

    def synced_entries(self) -> list[int]:
        """Indices of the entries that a power cut leaves."""
        twin = self.disk.copy()
        twin.crash(NothingUnsyncedSurvives())
        return [entry.index for entry in Wal.open(twin, self.directory)[1].entries]

    def stored_state(self) -> HardState:
        twin = self.disk.copy()
        twin.kill()
        return Wal.open(twin, self.directory)[1].hard_state

    def sync_on_worker(self) -> None:
        self.log.sync_on_worker(
            lambda: self.events.append("done"),
            lambda error: self.events.append(f"failed: {error}"),
        )

    def test_slow_syncs(self) -> None:
        """A sync of more than a second is told, wherever it runs."""
        said = logged(self, "etcdtw.wal")
        seconds = iter([0.0, 0.5, 10.0, 11.25, 20.0, 22.5])
        self.patch(time, "monotonic", lambda: next(seconds))
        self.append(None, 1)
        self.log.sync()
        self.assertEqual(said, [])
        self.log.sync()
        done: list[int] = []
        self.log.sync_on_worker(lambda: done.append(len(said)), self.fail)
        self.assertEqual(len(said), 1)
        self.worker.release()
        self.assertEqual(done, [2])
        self.assertEqual([each["took"] for each in said], ["1.250s", "2.500s"])
        self.assertEqual({each["log_format"] for each in said}, {"slow fdatasync"})

    def test_must_sync(self) -> None:
        """Entries, a new term and a new vote need a sync; a commit index that moved does not."""
        self.assertTrue(self.append(HardState(1, 0, 0)))
        self.assertTrue(self.append(HardState(1, 2, 0)))
        self.assertTrue(self.append(None, 1))
        self.assertFalse(self.append(HardState(1, 2, 1)))
        self.assertTrue(self.append(HardState(1, 2, 2), 2))

    def test_commit_of_a_snapshot(self) -> None:
        """What is applied is committed: a snapshot's index is written as such even while Raft still
        waits for a disk before it hands the newer commit index out. Term and vote stay."""
        self.append(HardState(3, 1, 4), 1, 2, 3, 4)
        self.log.flush(9)
        self.assertEqual(self.stored_state(), HardState(3, 1, 9))
        self.log.flush(7)
        self.assertEqual(self.stored_state(), HardState(3, 1, 9))

    def test_commit_index(self) -> None:
        """A commit index is written by ``flush``, once, and survives a kill without a sync."""
        self.append(HardState(1, 1, 0))
        self.append(None, 1, 2, 3)
        self.assertEqual(self.stored_state().commit, 0)
        self.log.flush(3)
        self.assertEqual(self.stored_state(), HardState(1, 1, 3))
        operations = self.disk.operations
        self.log.flush(3)
        self.assertEqual(self.disk.operations, operations)
        self.append(HardState(2, 0, 3))
        self.log.flush(2)
        self.assertEqual(self.stored_state(), HardState(2, 0, 3))

    def test_in_turn(self) -> None:
        """What was appended is durable when ``sync`` returns, whether or not it was begun before
        and entries followed; beginning alone promises nothing."""
        self.append(HardState(1, 1, 0), 1)
        self.log.begin_sync()
        self.append(None, 2)
        self.assertEqual(self.synced_entries(), [])
        self.log.sync()
        self.assertEqual(self.synced_entries(), [1, 2])
        self.append(None, 3)
        self.log.sync()
        self.assertEqual(self.synced_entries(), [1, 2, 3])

    def test_on_worker(self) -> None:
        """On a slow disk the sync runs on the worker, unless nobody else needs the reactor and
        it is not slower than ten times the limit."""
        self.log = self.durable(inline_seconds=0.001)
        for average, others_wait, inline in (
            (0.0005, True, True),
            (0.005, True, False),
            (0.005, False, True),
            (0.05, False, False),
        ):
            self.log._average_seconds = average
            self.assertEqual(self.log.syncs_in_turn(others_wait), inline, (average, others_wait))
        self.append(None, 1)
        self.sync_on_worker()
        self.assertEqual((self.events, self.synced_entries()), ([], []))
        self.worker.release()
        self.assertEqual((self.events, self.synced_entries()), (["done"], [1]))

    def test_failures(self) -> None:
        """A sync that fails raises where it ran inline, and is reported from the worker."""
        self.disk.fail_when(
            lambda number, name, path: OSError(5, "gone") if "sync" in name else None
        )
        self.append(None, 1)
        self.assertRaises(OSError, self.log.sync)
        self.sync_on_worker()
        self.worker.release()
        self.assertEqual(len(self.events), 1)
        self.assertIn("failed", self.events[0])

    def test_next_segment(self) -> None:
        """The next segment is prepared in the background, once, when half of one is full; the
        log goes on when that fails, and does not try again at once: the disk may be full."""
        self.append(None, 1, size=SMALL_SEGMENT // 4)
        self.assertEqual(self.background.waiting, [])
        self.append(None, 2, size=SMALL_SEGMENT // 2)
        self.append(None, 3, size=10)
        self.assertEqual(len(self.background.waiting), 1)
        self.disk.fail_when(lambda number, name, path: OSError(28, "full"))
        self.background.release()
        self.disk.heal()
        self.append(None, 4, size=10)
        self.assertEqual(self.background.waiting, [])
        self.clock.advance(PREPARE_AGAIN_SECONDS)
        self.append(None, 5, size=10)
        self.assertEqual(len(self.background.waiting), 1)
        self.background.release()
        self.append(None, 6, size=SMALL_SEGMENT)
        self.log.begin_sync()
        self.log.sync()
        self.assertEqual(len(self.log.wal.segment_names), 2)

    def test_compact(self) -> None:
        """Entries far behind the applied index leave memory, in large steps; enough of them stay
        for a follower that lags."""
        count = 2 * CATCH_UP_ENTRIES + 1
        self.append(None, *range(1, count + 1))
        self.log.compact(2 * CATCH_UP_ENTRIES)
        self.assertEqual(self.tail.first_index(), 1)
        self.log.compact(count)
        self.assertEqual(self.tail.first_index(), count - CATCH_UP_ENTRIES + 1)
