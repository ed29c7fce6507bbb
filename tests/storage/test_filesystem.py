"""The files of the operating system."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.storage import filesystem
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.interfaces import IFilesystem
from etcdtw.testing.disk import SimDisk
from etcdtw.testing.filesystem_conformance import FilesystemConformance

TRY_LOCK = """
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    if sys.argv[2] == "flock":
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
except BlockingIOError:
    print("held")
else:
    print("free")
"""


def lock_seen_by_another_process(path: str, kind: str) -> str:
    command = [sys.executable, "-S", "-c", TRY_LOCK, path, kind]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class OsFilesystemTests(FilesystemConformance, SynchronousTestCase):
    """The operating system's files keep the rules, and a few of their own."""

    def make_filesystem(self) -> tuple[IFilesystem, str]:
        root = os.path.abspath(self.mktemp())
        os.makedirs(root)
        return OsFilesystem(), root

    def test_modes(self) -> None:
        """Files are 0600 unless asked otherwise, directories 0700, parents included."""
        self.addCleanup(os.umask, os.umask(0o022))
        self._create("a")
        self.fs.open(self._path("b"), create=True, mode=0o666).close()
        self.fs.makedirs(self._path("c/d"))
        modes = [os.stat(self._path(name)).st_mode & 0o777 for name in ("a", "b", "c", "c/d")]
        self.assertEqual(modes, [0o600, 0o644, 0o700, 0o700])

    def test_errors_say_how_much_and_where(self) -> None:
        """A full disk is reported with the file and the number of bytes."""
        if not os.path.exists("/dev/full"):
            self.skipTest("this system has no /dev/full")
        file = self.fs.open("/dev/full")
        self.addCleanup(file.close)
        error = self.assertRaises(OSError, file.pwrite, b"x" * 321, 0)
        self.assertEqual(error.errno, errno.ENOSPC)
        self.assertIn("321 bytes", str(error))
        self.assertIn("/dev/full", str(error))

    def test_given_back(self) -> None:
        """A file without a name is freed piece by piece, down to less than one; where it has
        another name, as in a backup of links, it stays what it is."""
        self.patch(filesystem, "SHRINK_BYTES", 1 << 10)
        self.patch(filesystem, "SHRINK_PAUSE_SECONDS", 0.0)
        file = self._create("a", b"x" * 10_000)
        file.give_back()
        os.link(self._path("a"), self._path("b"))
        self.fs.remove(self._path("a"))
        file.give_back()
        self.assertEqual(file.size(), 10_000)
        self.fs.remove(self._path("b"))
        file.give_back()
        self.assertEqual(file.size(), 10_000 % 1024)

    def test_another_process_sees_the_lock(self) -> None:
        """The lock on a segment is an open-file-description lock: a process that asks with flock
        is not kept out, one that asks in kind is."""
        file = self._create("a")
        file.lock()
        self.assertEqual(lock_seen_by_another_process(file.path, "ofd"), "held")
        self.assertEqual(lock_seen_by_another_process(file.path, "flock"), "free")
        file.close()
        self.assertEqual(lock_seen_by_another_process(self._path("a"), "ofd"), "free")

    def test_another_process_sees_the_flock(self) -> None:
        """The lock on the database is an flock."""
        file = self._create("a")
        file.flock()
        self.assertEqual(lock_seen_by_another_process(file.path, "flock"), "held")
        self.assertEqual(lock_seen_by_another_process(file.path, "ofd"), "free")

    def test_without_syncs(self) -> None:
        """A filesystem told not to sync does everything else."""
        fs = OsFilesystem(sync=False)
        file = fs.open(self._path("a"), create=True)
        self.addCleanup(file.close)
        file.pwrite(b"x", 0)
        file.sync_data()
        fs.sync_dir(self.root)
        self.assertEqual(file.pread(1, 0), b"x")


class SimDiskConformanceTests(FilesystemConformance, SynchronousTestCase):
    """The simulated disk keeps the same rules."""

    def make_filesystem(self) -> tuple[IFilesystem, str]:
        disk = SimDisk()
        disk.makedirs("/some/where")
        return disk, "/some/where"
