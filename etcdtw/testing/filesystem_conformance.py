"""What every ``IFilesystem`` must do, as test cases for its author to run.

Mix ``FilesystemConformance`` into a ``twisted.trial.unittest.SynchronousTestCase`` and give it
``make_filesystem``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from zope.interface.verify import verifyObject

from etcdtw.storage.interfaces import IFile, IFilesystem

if TYPE_CHECKING:
    from unittest import TestCase as _Base
else:
    _Base = object


class FilesystemConformance(_Base):
    """The rules, one test each."""

    def make_filesystem(self) -> tuple[IFilesystem, str]:
        """A filesystem and an empty directory in it."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.fs, self.root = self.make_filesystem()

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _create(self, name: str, data: bytes = b"") -> IFile:
        file = self.fs.open(self._path(name), create=True)
        self.addCleanup(file.close)
        if data:
            file.pwrite(data, 0)
        return file

    def _assert_errno(
        self, number: int, call: Callable[..., object], *args: object, **kwargs: object
    ) -> None:
        with self.assertRaises(OSError) as raised:
            call(*args, **kwargs)
        self.assertEqual(raised.exception.errno, number)
        self.assertTrue(raised.exception.filename, "an error names the file")

    def test_provides_the_interfaces(self) -> None:
        """Filesystem and files provide what they claim."""
        verifyObject(IFilesystem, self.fs)
        verifyObject(IFile, self._create("a"))

    def test_written_bytes_are_read_back(self) -> None:
        """What was written at an offset is read from there, by any handle."""
        file = self._create("a")
        file.pwrite(b"hello", 5000)
        self.assertEqual(file.pread(5, 5000), b"hello")
        other = self.fs.open_readonly(self._path("a"))
        self.addCleanup(other.close)
        self.assertEqual(other.pread(7, 4998), b"\0\0hello")

    def test_gap_reads_as_zeros(self) -> None:
        """Bytes that were never written are zero."""
        file = self._create("a")
        file.pwrite(b"x", 10000)
        self.assertEqual(file.pread(10000, 0), bytes(10000))

    def test_reading_stops_at_the_end(self) -> None:
        """A read is short only at the end of the file, and empty past it."""
        file = self._create("a", b"abc")
        self.assertEqual(file.pread(10, 1), b"bc")
        self.assertEqual(file.pread(10, 3), b"")
        self.assertEqual(file.pread(10, 99), b"")

    def test_overwriting_keeps_the_rest(self) -> None:
        """A write changes its own bytes only."""
        file = self._create("a", b"x" * 9000)
        file.pwrite(b"yyy", 4095)
        self.assertEqual(file.pread(9000, 0), b"x" * 4095 + b"yyy" + b"x" * 4902)
        self.assertEqual(file.size(), 9000)

    def test_truncate_cuts_and_extends(self) -> None:
        """Cut bytes are gone for good: extending again shows zeros."""
        file = self._create("a", b"abcdef")
        file.truncate(2)
        self.assertEqual(file.size(), 2)
        file.truncate(6)
        self.assertEqual(file.pread(6, 0), b"ab\0\0\0\0")

    def test_preallocate_extends_but_never_cuts(self) -> None:
        """Reserved bytes are zero and count in the size; what was there stays."""
        file = self._create("a", b"abc")
        file.preallocate(8192)
        self.assertEqual(file.size(), 8192)
        self.assertEqual(file.pread(5, 0), b"abc\0\0")
        file.preallocate(10)
        self.assertEqual(file.size(), 8192)

    def test_open_wants_an_existing_file(self) -> None:
        """Without ``create`` a missing file is an error, with ``exclusive`` an existing one."""
        self._assert_errno(errno.ENOENT, self.fs.open, self._path("a"))
        self._assert_errno(errno.ENOENT, self.fs.open_readonly, self._path("a"))
        self._create("a")
        self._assert_errno(errno.EEXIST, self.fs.open, self._path("a"), exclusive=True)

    def test_open_in_a_missing_directory(self) -> None:
        """Files are not created where there is no directory."""
        self._assert_errno(errno.ENOENT, self.fs.open, self._path("no/a"), create=True)

    def test_readonly_refuses_writes(self) -> None:
        """A handle for reading cannot write."""
        self._create("a")
        file = self.fs.open_readonly(self._path("a"))
        self.addCleanup(file.close)
        self._assert_errno(errno.EBADF, file.pwrite, b"x", 0)

    def test_listdir_is_sorted(self) -> None:
        """Names come in order, without their directory."""
        for name in ("b", "a", "c"):
            self._create(name)
        self.fs.makedirs(self._path("aa"))
        self.assertEqual(self.fs.listdir(self.root), ["a", "aa", "b", "c"])
        self._assert_errno(errno.ENOENT, self.fs.listdir, self._path("missing"))

    def test_exists_and_isdir(self) -> None:
        """Files exist, directories exist and are directories."""
        self._create("a")
        self.fs.makedirs(self._path("d/e"))
        seen = [(self.fs.exists(self._path(n)), self.fs.isdir(self._path(n))) for n in "adx"]
        self.assertEqual(seen, [(True, False), (True, True), (False, False)])

    def test_makedirs_is_content_with_what_exists(self) -> None:
        """Making a directory twice is fine; over a file it is not."""
        self.fs.makedirs(self._path("d/e"))
        self.fs.makedirs(self._path("d/e"))
        self._create("a")
        self._assert_errno(errno.EEXIST, self.fs.makedirs, self._path("a"))

    def test_rename_replaces(self) -> None:
        """The target of a rename is replaced, and open handles follow the file."""
        file = self._create("a", b"new")
        self._create("b", b"old")
        self.fs.rename(self._path("a"), self._path("b"))
        file.pwrite(b"er", 3)
        moved = self.fs.open_readonly(self._path("b"))
        self.addCleanup(moved.close)
        self.assertEqual(moved.pread(10, 0), b"newer")
        self.assertEqual(self.fs.listdir(self.root), ["b"])

    def test_rename_of_a_directory(self) -> None:
        """A directory moves with its files, over an empty directory too, not over a full one."""
        self.fs.makedirs(self._path("d"))
        self._create("d/a", b"x")
        self.fs.makedirs(self._path("e"))
        self.fs.rename(self._path("d"), self._path("e"))
        self.assertEqual(self.fs.listdir(self._path("e")), ["a"])
        self.fs.makedirs(self._path("f"))
        self._assert_errno(errno.ENOTEMPTY, self.fs.rename, self._path("f"), self._path("e"))

    def test_rename_of_nothing(self) -> None:
        """Renaming a missing file is an error."""
        self._assert_errno(errno.ENOENT, self.fs.rename, self._path("a"), self._path("b"))

    def test_remove_and_rmdir(self) -> None:
        """Files and empty directories can be removed; an open handle outlives its name."""
        file = self._create("a", b"x")
        self.fs.remove(self._path("a"))
        self.assertEqual(file.pread(1, 0), b"x")
        self.assertFalse(self.fs.exists(self._path("a")))
        self._assert_errno(errno.ENOENT, self.fs.remove, self._path("a"))
        self.fs.makedirs(self._path("d/e"))
        self._assert_errno(errno.ENOTEMPTY, self.fs.rmdir, self._path("d"))
        self.fs.rmdir(self._path("d/e"))
        self.assertEqual(self.fs.listdir(self._path("d")), [])

    def test_syncs_return(self) -> None:
        """Files and directories can be synced at any time."""
        file = self._create("a", b"x")
        file.sync_data()
        file.sync_data()
        self.fs.sync_dir(self.root)
        self._assert_errno(errno.ENOENT, self.fs.sync_dir, self._path("missing"))

    def test_lock_excludes_other_handles(self) -> None:
        """Only one handle holds a file's lock, within a process too, until it is closed."""
        first = self._create("a")
        second = self.fs.open(self._path("a"))
        self.addCleanup(second.close)
        first.lock()
        first.lock()
        self.assertRaises(BlockingIOError, second.lock)
        first.close()
        second.lock()

    def test_flock_excludes_other_handles(self) -> None:
        """The same for flock."""
        first = self._create("a")
        second = self.fs.open(self._path("a"))
        self.addCleanup(second.close)
        first.flock()
        first.flock()
        self.assertRaises(BlockingIOError, second.flock)
        first.close()
        second.flock()

    def test_the_two_locks_do_not_see_each_other(self) -> None:
        """An flock on a file with an open-file-description lock is granted, as on Linux."""
        first = self._create("a")
        second = self.fs.open(self._path("a"))
        self.addCleanup(second.close)
        first.lock()
        second.flock()

    def test_lock_survives_a_rename(self) -> None:
        """The lock belongs to the file, not to its name."""
        first = self._create("a")
        first.lock()
        self.fs.rename(self._path("a"), self._path("b"))
        second = self.fs.open(self._path("b"))
        self.addCleanup(second.close)
        self.assertRaises(BlockingIOError, second.lock)

    def test_closing_twice(self) -> None:
        """Closing again does nothing; using a closed file is an error."""
        file = self._create("a", b"x")
        file.close()
        file.close()
        self._assert_errno(errno.EBADF, file.pread, 1, 0)
        self._assert_errno(errno.EBADF, file.pwrite, b"x", 0)
