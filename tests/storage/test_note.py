"""The note of a bootstrap under way."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.storage.datadir import DataDir
from etcdtw.storage.note import NOTE_BYTES_MAX, NoteFile
from etcdtw.testing.disk import SimDisk

PATH = "/data/m.etcd"


class NoteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.disk = SimDisk()
        self.disk.makedirs("/data")
        self.disk.sync_dir("/")
        self.note = NoteFile(self.disk, PATH)

    def test_kept(self) -> None:
        """P30: what was written is there after a power cut, its directory too; it is nobody's
        stranger there."""
        self.assertEqual(self.note.read(), "")
        self.note.write("first")
        self.note.write("2nd")
        self.disk.crash(random.Random(1))
        self.assertEqual(NoteFile(self.disk, PATH).read(), "2nd")
        self.assertEqual(DataDir(self.disk, PATH).contents().warnings, ())

    def test_forgotten(self) -> None:
        """Forgetting leaves no file, and makes no directory."""
        self.note.write("")
        self.assertFalse(self.disk.exists(PATH))
        self.note.write("a")
        self.note.write("")
        self.assertEqual(self.disk.listdir(PATH), [])

    def test_strange(self) -> None:
        """A file that is no text, or far too long, is read without harm."""
        self.disk.makedirs(PATH)
        file = self.disk.open(f"{PATH}/bootstrap.note", create=True)
        file.pwrite(b"\xff" * (NOTE_BYTES_MAX + 1), 0)
        self.assertEqual(len(self.note.read()), NOTE_BYTES_MAX)
