"""Opening the log of an earlier run."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.parts import OpenedLog, reopen_log
from etcdtw.errors import StorageError
from etcdtw.raft.messages import ConfState, HardState, Snapshot
from etcdtw.storage.snap import SnapStore
from etcdtw.storage.wal import Wal, WalSnapshot, encode_metadata
from etcdtw.testing.disk import SimDisk
from tests.storage.wals import entries


class ReopenTests(SynchronousTestCase):
    """A log of 40 entries, 30 of them committed, with a snapshot at 10."""

    def setUp(self) -> None:
        self.disk = SimDisk()
        self.disk.makedirs("/snap")
        self.files = SnapStore(self.disk, "/snap")
        self.wal = Wal.create(self.disk, "/wal", encode_metadata(1, 2))
        self.wal.append(HardState(1, 1, 30), entries(1, 40))
        self.save(10)

    def save(self, index: int, recorded_term: int | None = 1) -> None:
        self.files.save(Snapshot(index, 1, ConfState(voters=(1,)), b"{}"))
        if recorded_term is not None:
            self.wal.save_snapshot(WalSnapshot(index, recorded_term))
            self.wal.sync()

    def reopen(self) -> OpenedLog:
        self.wal.close()
        opened = reopen_log(self.disk, "/wal", self.files)
        self.addCleanup(opened.wal.close)
        return opened

    def assert_opened(self, index: int) -> None:
        opened = self.reopen()
        self.assertEqual(opened.snapshot.index, index)
        self.assertEqual(opened.tail.last_index(), 40)
        self.assertEqual(opened.tail.first_index(), index + 1)

    def test_newest(self) -> None:
        """From its newest snapshot on."""
        self.save(20)
        self.assert_opened(20)

    def test_unrecorded(self) -> None:
        """A snapshot of which the log has no record was left by a run that died in between."""
        self.save(20, recorded_term=None)
        self.assert_opened(10)

    def test_of_another_term(self) -> None:
        """So was one that the log knows by another term."""
        self.save(20, recorded_term=2)
        self.assert_opened(10)

    def test_uncommitted(self) -> None:
        """What the log does not know to be committed is not relied on."""
        self.save(35)
        self.assert_opened(10)

    def test_none(self) -> None:
        """Without any that is vouched for, from the beginning."""
        self.disk.remove(f"/snap/{self.files.names()[0]}")
        self.save(35)
        self.assert_opened(0)

    def test_in_use(self) -> None:
        """What is wrong with the log itself is told."""
        with self.assertRaisesRegex(StorageError, "locked|in use|another process"):
            reopen_log(self.disk, "/wal", self.files)
