"""``etcdtw ctl snapshot restore`` beside what etcdutl made of the same file."""

from __future__ import annotations

import lzma
import os
import tarfile
from contextlib import redirect_stderr
from hashlib import sha256
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.ctl.commands import run
from etcdtw.app.ctl.hashkv import offline_hash
from etcdtw.app.ctl.restore import check_digest
from etcdtw.errors import StorageError
from etcdtw.storage.backend.lmdb_view import open_view
from etcdtw.storage.bolt import BoltFile
from etcdtw.storage.datadir import STAND_IN

SNAPSHOT = Path(__file__).parents[1] / "storage_bolt/vectors/single-3.5.snapshot.db.xz"
RESTORED = Path(__file__).parents[1] / "storage/vectors/wal-3.5/restored-r1.tar.xz"
WAL = "member/wal/0000000000000000-0000000000000000.wal"
SNAP = "member/snap/0000000000000001-0000000000000003.snap"
FLAGS = (
    "--name=r1",
    "--initial-cluster=r0=http://127.0.0.1:23701,r1=http://127.0.0.1:23702,"
    "r2=http://127.0.0.1:23703",
    "--initial-cluster-token=restored",
    "--initial-advertise-peer-urls=http://127.0.0.1:23702",
)


class RestoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(os.path.abspath(self.mktemp()))
        self.base.mkdir()
        self.snapshot = self.base / "snapshot.db"
        self.snapshot.write_bytes(lzma.decompress(SNAPSHOT.read_bytes()))

    def restore(self, *flags: str) -> Path:
        directory = self.base / "r1"
        words = ["snapshot", "restore", str(self.snapshot), f"--data-dir={directory}"]
        self.assertEqual(run([*words, *(flags or FLAGS)]), 0)
        return directory

    def test_as_etcdutl(self) -> None:
        """Log and ``.snap`` are byte for byte what etcdutl writes, and the keyspace has the records
        that its database has."""
        ours = self.restore()
        with tarfile.open(RESTORED) as archive:
            for each in filter(tarfile.TarInfo.isfile, archive):
                file = self.base / "theirs" / each.name
                file.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(each)
                assert content is not None, f"{each.name} is a file"
                file.write_bytes(content.read())
        theirs = self.base / "theirs/r1"
        self.assertEqual((ours / WAL).read_bytes(), (theirs / WAL).read_bytes())
        self.assertEqual((ours / SNAP).read_bytes(), (theirs / SNAP).read_bytes())
        view = open_view(str(ours / "member/snap/kv.lmdb"), 1 << 30, "test")
        self.addCleanup(view.close)
        with BoltFile.open(str(theirs / "member/snap/db")) as database:
            self.assertEqual(view.buckets(), database.buckets())
            for bucket in database.buckets():
                self.assertEqual(list(view.scan(bucket, b"", None)), list(database.scan(bucket)))

    def test_looks_like_a_member(self) -> None:
        """Its hash can be asked for before a member ever ran there, and etcd's own programs find
        what tells them that its keys are elsewhere."""
        ours = self.restore()
        self.assertEqual(offline_hash(str(ours)), offline_hash(str(self.snapshot)))
        self.assertEqual((ours / "member/snap/db").read_bytes(), STAND_IN)

    def test_separate_wal(self) -> None:
        """The log goes where ``--wal-dir`` says, and nothing is left of the making."""
        directory = self.restore(*FLAGS, f"--wal-dir={self.base}/elsewhere/wal")
        self.assertFalse((directory / "member/wal").exists())
        self.assertTrue((self.base / "elsewhere/wal").is_dir())
        self.assertEqual(
            sorted(each.name for each in self.base.iterdir()), ["elsewhere", "r1", "snapshot.db"]
        )

    def test_other_disks(self) -> None:
        """Data and log may each be on a disk of their own: nothing is moved from one to another,
        and a directory that is there and empty is kept, as by etcdutl."""
        directory = self.base / "r1"
        directory.mkdir()
        inode = directory.stat().st_ino
        moved = []
        rename = os.rename

        def noting(old: str, new: str) -> None:
            moved.append((Path(old), Path(new)))
            rename(old, new)

        self.patch(os, "rename", noting)
        self.restore(*FLAGS, f"--wal-dir={self.base}/elsewhere/wal")
        self.assertEqual(directory.stat().st_ino, inode)
        self.assertEqual([each.name for each in directory.iterdir()], ["member"])
        for old, new in moved:
            disks = {(self.base / "elsewhere") in (each, *each.parents) for each in (old, new)}
            self.assertEqual(len(disks), 1, f"{old} is moved to {new}")
            disks = {directory in each.parents for each in (old, new)}
            self.assertEqual(len(disks), 1, f"{old} is moved to {new}")

    def test_existing_directory(self) -> None:
        """A directory with something in it is left alone, and so is one for the log."""
        (self.base / "r1").mkdir()
        (self.base / "r1/file").touch()
        (self.base / "wal").mkdir()
        words = ["snapshot", "restore", str(self.snapshot), *FLAGS]
        for more, said in (
            ([f"--data-dir={self.base}/r1"], f'data-dir "{self.base}/r1" not empty or could not'),
            ([f"--data-dir={self.base}/r2", f"--wal-dir={self.base}/wal"], '/wal" exists'),
        ):
            with redirect_stderr(StringIO()) as stderr:
                self.assertEqual(run([*words, *more]), 1)
            self.assertIn(said, stderr.getvalue())
        self.assertEqual([each.name for each in (self.base / "r1").iterdir()], ["file"])

    def test_no_snapshot(self) -> None:
        """A file that is missing, or is no database, leaves nothing behind."""
        self.snapshot.write_bytes(b"x" * 5000)
        for name, said in (
            ("missing", f"Error: open {self.base}/missing: no such file or directory\n"),
            ("snapshot.db", "not a whole bbolt file"),
        ):
            words = ["snapshot", "restore", f"{self.base}/{name}", f"--data-dir={self.base}/r1"]
            with redirect_stderr(StringIO()) as stderr:
                self.assertEqual(run([*words, *FLAGS, "--skip-hash-check"]), 1)
            self.assertIn(said, stderr.getvalue())
            self.assertEqual([each.name for each in self.base.iterdir()], ["snapshot.db"])

    def test_digest(self) -> None:
        """A wrong or missing digest is refused in etcd's words, unless it is not to be checked."""
        whole = self.snapshot.read_bytes()
        check_digest(str(self.snapshot))
        self.snapshot.write_bytes(whole[:-32])
        with self.assertRaisesRegex(
            StorageError, "snapshot missing hash but --skip-hash-check=false"
        ):
            check_digest(str(self.snapshot))
        check_digest(str(self.snapshot), skip=True)
        self.snapshot.write_bytes(b"x" + whole[1:])
        with self.assertRaisesRegex(
            StorageError, "expected sha256 .*, got " + sha256(b"x" + whole[1:-32]).hexdigest()
        ):
            check_digest(str(self.snapshot))

    def test_advertised(self) -> None:
        """The list must have the member's URLs, or others of the same addresses; nothing is made
        otherwise."""
        words = ["snapshot", "restore", str(self.snapshot), f"--data-dir={self.base / 'r1'}"]
        listed = "--initial-cluster=default=http://127.0.0.1:1"
        for wrong, said in (
            ([listed], "--initial-cluster has default=http://127.0.0.1:1 but missing from "
             "--initial-advertise-peer-urls=http://localhost:2380"),
            ([listed, "--initial-advertise-peer-urls=http://127.0.0.1:1,http://127.0.0.1:2"],
             "--initial-advertise-peer-urls has http://127.0.0.1:2 but missing from "),
        ):  # fmt: skip
            with redirect_stderr(StringIO()) as stderr:
                self.assertEqual(run([*words, *wrong]), 1)
            self.assertIn(said, stderr.getvalue())
            self.assertFalse((self.base / "r1").exists())
        self.restore(listed, "--initial-advertise-peer-urls=http://127.0.0.1:1")

    def test_name_that_is_not_listed(self) -> None:
        """A member that is not in the cluster's list is refused."""
        with redirect_stderr(StringIO()) as said:
            words = ["snapshot", "restore", str(self.snapshot), f"--data-dir={self.base}/r1"]
            self.assertEqual(run([*words, *FLAGS, "--name=r9"]), 1)
        self.assertIn('couldn\'t find local name "r9"', said.getvalue())
        self.assertFalse((self.base / "r1").exists())
