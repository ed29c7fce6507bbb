"""What is purged, and when."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.purging import PURGE_SECONDS, Purging
from etcdtw.storage.datadir import DataDir
from etcdtw.testing.disk import SimDisk
from tests.storage_lmdb.keyspaces import HeldWorker


class PurgingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.disk = SimDisk()
        self.data_dir = DataDir(self.disk, "/data")
        self.data_dir.create()
        self.disk.makedirs(self.data_dir.wal_dir)
        for number in range(4):
            path = f"{self.data_dir.wal_dir}/{number:016x}-{number:016x}.wal"
            self.disk.open(path, create=True).close()
        self.clock, self.worker = Clock(), HeldWorker()
        self.purging = Purging(self.data_dir, 2, 2, lambda: 0, self.worker, self.clock)
        self.purging.start()

    def left(self) -> int:
        return len(self.disk.listdir(self.data_dir.wal_dir))

    def test_by_the_worker(self) -> None:
        """Nothing is removed in a turn of the reactor; the worker gets one file after the other,
        and the next time comes after the last."""
        self.clock.advance(PURGE_SECONDS)
        self.assertEqual(self.left(), 4)
        self.worker.do()
        self.assertEqual(self.left(), 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.worker.finish()
        self.assertEqual((self.left(), self.worker.busy), (2, False))
        self.disk.open(f"{self.data_dir.wal_dir}/{9:016x}-{9:016x}.wal", create=True).close()
        self.clock.advance(PURGE_SECONDS)
        self.worker.finish()
        self.assertEqual(self.left(), 2)

    def test_failing(self) -> None:
        """A disk that refuses is tried again the next time."""
        self.disk.fail_operation(1)
        self.clock.advance(PURGE_SECONDS)
        self.worker.finish()
        self.assertEqual(self.left(), 4)
        self.disk.heal()
        self.clock.advance(PURGE_SECONDS)
        self.worker.finish()
        self.assertEqual(self.left(), 2)

    def test_stop(self) -> None:
        """After that nothing begins."""
        self.purging.stop()
        self.clock.advance(PURGE_SECONDS)
        self.assertFalse(self.worker.busy)
