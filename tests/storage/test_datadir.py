"""The data directory."""

from __future__ import annotations

import os
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import StorageError
from etcdtw.storage.datadir import DataDir, DataDirKind
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.wal import Wal
from etcdtw.testing.disk import SimDisk
from tests.storage.recorded import NAMES, recorded
from tests.storage.test_filesystem import lock_seen_by_another_process
from tests.storage.wals import entries, write


class ContentsTests(SynchronousTestCase):
    """Whose directory it is."""

    def setUp(self) -> None:
        self.disk = SimDisk()
        self.data_dir = DataDir(self.disk, "/data/m1.etcd")

    def test_nothing_there(self) -> None:
        """A missing or empty directory is empty."""
        self.assertEqual(self.data_dir.contents().kind, DataDirKind.EMPTY)
        self.disk.makedirs("/data/m1.etcd")
        self.assertEqual(self.data_dir.contents().kind, DataDirKind.EMPTY)
        self.assertFalse(self.data_dir.has_wal())

    def test_member_or_proxy(self) -> None:
        """It belongs to a member or to a proxy, and to both is refused in etcd's words."""
        self.disk.makedirs("/data/m1.etcd/proxy")
        self.assertEqual(self.data_dir.contents().kind, DataDirKind.PROXY)
        self.disk.makedirs("/data/m1.etcd/member")
        error = self.assertRaises(StorageError, self.data_dir.contents)
        self.assertEqual(str(error), "invalid datadir; both member and proxy directories exist")
        self.disk.rmdir("/data/m1.etcd/proxy")
        self.assertEqual(self.data_dir.contents().kind, DataDirKind.MEMBER)

    def test_strangers(self) -> None:
        """Other names are warned of, one by one."""
        self.disk.makedirs("/data/m1.etcd/lost+found")
        self.disk.open("/data/m1.etcd/notes", create=True)
        found = self.data_dir.contents()
        self.assertEqual(found.kind, DataDirKind.EMPTY)
        self.assertEqual(len(found.warnings), 2)
        self.assertIn("found invalid file under data directory", found.warnings[0])
        self.assertIn("lost+found", found.warnings[0])

    def test_recorded_directories(self) -> None:
        """Directories of real etcd are a member's, with a log."""
        for name in NAMES:
            disk = SimDisk()
            recorded(name).put_on(disk, "/data")
            data_dir = DataDir(disk, "/data")
            self.assertEqual(data_dir.contents().kind, DataDirKind.MEMBER)
            self.assertTrue(data_dir.has_wal())

    def test_created_directories_are_durable(self) -> None:
        """Every directory that was made survives a power cut."""
        for seed in range(5):
            disk = SimDisk()
            DataDir(disk, "/data/m1", "/logs/deep/wal").create()
            disk.crash(Random(seed))
            self.assertTrue(disk.isdir("/data/m1/member/snap"))
            self.assertTrue(disk.isdir("/logs/deep"))
            self.assertFalse(disk.exists("/logs/deep/wal"))

    def test_paths(self) -> None:
        """The layout is etcd's, and a separate log directory replaces member/wal."""
        self.assertEqual(self.data_dir.wal_dir, "/data/m1.etcd/member/wal")
        self.assertEqual(self.data_dir.db_path, "/data/m1.etcd/member/snap/db")
        self.assertEqual(DataDir(self.disk, "/d", "/logs").wal_dir, "/logs")


class LockTests(SynchronousTestCase):
    """Two processes never share a directory."""

    def setUp(self) -> None:
        root = os.path.abspath(self.mktemp())
        self.data_dir = DataDir(OsFilesystem(), root)
        self.data_dir.create()

    def test_another_process_is_kept_out(self) -> None:
        """The lock is an flock on db, as bbolt's; a second holder is refused, naming the file."""
        self.data_dir.lock()
        self.assertEqual(lock_seen_by_another_process(self.data_dir.db_path, "flock"), "held")
        other = DataDir(OsFilesystem(), self.data_dir.path)
        error = self.assertRaises(StorageError, other.lock)
        self.assertIn(self.data_dir.db_path, str(error))
        self.assertIn("another process", str(error))
        self.data_dir.unlock()
        self.data_dir.unlock()
        other.lock()
        other.unlock()

    def test_segments_are_locked_too(self) -> None:
        """A real etcd that opens the log finds its segment locked in its own kind of lock."""
        wal = Wal.create(OsFilesystem(), self.data_dir.wal_dir, b"meta", 4096)
        path = f"{self.data_dir.wal_dir}/{wal.segment_names[0]}"
        self.assertEqual(lock_seen_by_another_process(path, "ofd"), "held")
        wal.close()
        self.assertEqual(lock_seen_by_another_process(path, "ofd"), "free")

    def test_modes(self) -> None:
        """Directories are for their owner only."""
        for path in (self.data_dir.path, self.data_dir.member_dir, self.data_dir.snap_dir):
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o700)


class PurgeTests(SynchronousTestCase):
    """What is thrown away."""

    def setUp(self) -> None:
        self.disk = SimDisk()
        self.data_dir = DataDir(self.disk, "/data")
        self.data_dir.create()
        self.disk.makedirs(self.data_dir.wal_dir)
        for number in range(8):
            self.touch(f"wal/{number:016x}-{number * 10:016x}.wal")
            self.touch(f"snap/0000000000000001-{number:016x}.snap")
            self.touch(f"snap/{number:016x}.snap.db")
        self.touch("wal/0.tmp")
        self.touch("snap/db")

    def touch(self, name: str) -> None:
        self.disk.open(f"/data/member/{name}", create=True).close()

    def counts(self) -> tuple[int, int, int]:
        names = self.disk.listdir(self.data_dir.wal_dir) + self.disk.listdir(self.data_dir.snap_dir)
        return (
            sum(name.endswith(".wal") for name in names),
            sum(name.endswith(".snap") for name in names),
            sum(name.endswith(".snap.db") for name in names),
        )

    def test_the_newest_stay(self) -> None:
        """So many segments, snapshots and received backends stay, the newest of each."""
        removed = list(self.data_dir.purge(3, 5, 7))
        self.assertEqual(self.counts(), (3, 5, 5))
        self.assertEqual(len(removed), 11)
        self.assertIn(f"{self.data_dir.wal_dir}/{0:016x}-{0:016x}.wal", removed)
        self.assertEqual(list(self.data_dir.purge(3, 5, 7)), [])

    def test_snapshots_that_the_log_does_not_know(self) -> None:
        """A start may have to begin with the one before them, so they push out no other."""
        removed = set(self.data_dir.purge(0, 1, 5))
        self.assertEqual(
            removed,
            {
                f"{self.data_dir.snap_dir}/{name}"
                for number in range(5)
                for name in (f"0000000000000001-{number:016x}.snap", f"{number:016x}.snap.db")
            },
        )

    def test_zero_keeps_all(self) -> None:
        """0 means no limit."""
        self.assertEqual(list(self.data_dir.purge(0, 0, 7)), [])
        self.assertEqual(self.counts(), (8, 8, 8))

    def test_one_by_one(self) -> None:
        """A file goes when it is asked for, and no earlier."""
        paths = self.data_dir.purge(3, 0, 7)
        self.assertEqual(self.counts()[0], 8)
        next(paths)
        self.assertEqual(self.counts()[0], 7)
        self.assertEqual(len(list(paths)), 4)

    def test_held_segments_stay(self) -> None:
        """A locked segment and everything after it stays, so that the log keeps no hole."""
        self.disk.open(f"{self.data_dir.wal_dir}/{2:016x}-{20:016x}.wal").lock()
        self.assertEqual(len(list(self.data_dir.purge(1, 0, 7))), 2)
        self.assertEqual(self.counts()[0], 6)

    def test_purge_never_takes_a_live_log(self) -> None:
        """Of a log in use only released segments go, whatever the limit."""
        disk = SimDisk()
        data_dir = DataDir(disk, "/data")
        data_dir.create()
        wal = Wal.create(disk, data_dir.wal_dir, b"meta", 1024)
        for index in range(1, 60):
            write(wal, entries(index, 1))
        held = wal.segment_names
        self.assertEqual(list(data_dir.purge(1, 1, 0)), [])
        self.assertEqual(disk.listdir(data_dir.wal_dir), held)

    def test_scratch(self) -> None:
        """What an interrupted defragmentation or snapshot left is removed at start."""
        for name in ("db.tmp.123", "tmp456", "tmp.0000000000000001-0000000000000009.snap"):
            self.touch(f"snap/{name}")
        self.assertEqual(len(self.data_dir.remove_scratch()), 3)
        self.assertEqual(self.counts(), (8, 8, 8))
        self.assertTrue(self.disk.exists(self.data_dir.db_path))
