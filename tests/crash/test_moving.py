"""Taking over etcd's directory and handing it back, killed at every operation of the disk."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.ctl.export import export_data_dir
from etcdtw.app.ctl.hashkv import OfflineHash, offline_hash
from etcdtw.errors import StorageError
from etcdtw.raft.messages import HardState, Snapshot
from etcdtw.storage.adopt import adopt
from etcdtw.storage.backend import lmdb_environment
from etcdtw.storage.backend.lmdb_backend import LmdbSettings
from etcdtw.storage.backend.lmdb_environment import CONSISTENT_INDEX, META
from etcdtw.storage.bolt import BoltFile
from etcdtw.storage.bolt.writer import write_bolt
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.filesystem import OsFilesystem, give_back
from etcdtw.storage.interfaces import IFile, IFilesystem
from etcdtw.storage.received import database_name, install
from etcdtw.storage.snap import SnapStore
from etcdtw.storage.wal import Wal, WalSnapshot
from tests.crash.forking import in_child
from tests.crash.seam import Death, DyingFilesystem, dying
from tests.storage.recorded import recorded

RECORDED = "wal-3.5/single.clean"
STEPS_MAX = 60
RECEIVED_INDEX = 100_000


def take_over(fs: IFilesystem, directory: str) -> None:
    data_dir = DataDir(fs, directory)
    data_dir.lock()
    settings = LmdbSettings(data_dir.backend_path, sync=False)
    adopt(fs, data_dir, settings, lambda index: index)
    data_dir.unlock()


class MovingTests(SynchronousTestCase):
    timeout = 240

    def setUp(self) -> None:
        self.base = Path(os.path.abspath(self.mktemp()))
        self.source = self.base / "source"
        for name, (content, size) in recorded(RECORDED).files.items():
            path = self.source / "member" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.truncate(path, size)
        self.expected = offline_hash(str(self.source))

    def test_taking_over(self) -> None:
        """Whatever was done before the kill, the next start has all of it, and the database is
        kept as it was."""
        database = (self.source / "member/snap/db").read_bytes()

        def check(directory: Path) -> None:
            take_over(OsFilesystem(sync=False), str(directory))
            snap = directory / "member/snap"
            lmdb_environment.remove_leftovers(OsFilesystem(), str(snap / "kv.lmdb"))
            self.assertEqual((snap / "db.adopted").read_bytes(), database)
            self.assertEqual(
                {each.name.removesuffix("-lock") for each in snap.iterdir()},
                {"db", "db.adopted", "kv.lmdb"},
            )
            self.assertEqual(self.hash_of(directory), self.expected)

        self.kill_at_every_step(self.source, take_over, check)

    def test_position(self) -> None:
        """The keyspace is at the index that the check decides on, not at that of the database."""
        data_dir = DataDir(OsFilesystem(sync=False), str(self.source))
        data_dir.lock()
        settings = LmdbSettings(data_dir.backend_path, sync=False)
        adopt(OsFilesystem(sync=False), data_dir, settings, lambda index: index - 3)
        data_dir.unlock()
        adopted = BoltFile.open(str(self.source / "member/snap/db.adopted"))
        with adopted as database:
            before = int.from_bytes(dict(database.scan(META))[CONSISTENT_INDEX], "big")
        opened = lmdb_environment.open_environment(settings.path, settings.map_bytes, sync=False)
        with opened.env.begin() as txn:
            after, _ = lmdb_environment.read_position(txn, opened.databases)
        opened.env.close()
        self.assertEqual(after, before - 3)

    def test_handing_back(self) -> None:
        """Whatever was done before the kill, the next export ends with the same database."""
        ours = self.base / "ours"
        shutil.copytree(self.source, ours)
        take_over(OsFilesystem(sync=False), str(ours))

        def check(directory: Path) -> None:
            snap = directory / "member/snap"
            if (snap / "kv.lmdb").exists():
                export_data_dir(OsFilesystem(sync=False), str(directory))
            self.assertEqual(self.hash_of(directory), self.expected)
            self.assertTrue((snap / "kv.lmdb.exported").exists())

        self.kill_at_every_step(ours, lambda fs, path: export_data_dir(fs, path), check)

    def test_hash_without_the_log(self) -> None:
        """A hash needs no log, which may lie elsewhere, but a keyspace; where none is nothing is
        left behind."""
        shutil.rmtree(self.source / "member/wal")
        self.assertEqual(self.hash_of(self.source), self.expected)
        take_over(OsFilesystem(sync=False), str(self.source))
        self.assertEqual(self.hash_of(self.source), self.expected)
        empty = self.base / "empty"
        (empty / "member/snap").mkdir(parents=True)
        with self.assertRaisesRegex(StorageError, "is not the data directory of a member"):
            self.hash_of(empty)
        self.assertEqual(list((empty / "member/snap").iterdir()), [])

    def hash_of(self, directory: Path) -> OfflineHash:
        return offline_hash(str(directory))

    def amid_installing(self) -> Path:
        """A directory of ours with another member's database that is not the keyspace yet."""
        ours = self.base / "installing"
        shutil.copytree(self.source, ours)
        take_over(OsFilesystem(sync=False), str(ours))
        snap = ours / "member/snap"
        (snap / "db.adopted").unlink()
        with BoltFile.open(str(self.source / "member/snap/db")) as database:
            later = dict(database.scan(META))
            later[CONSISTENT_INDEX] = RECEIVED_INDEX.to_bytes(8, "big")
            write_bolt(
                str(snap / database_name(RECEIVED_INDEX)),
                database.buckets(),
                lambda name: iter(sorted(later.items())) if name == META else database.scan(name),
                sync=False,
            )
        return ours

    def test_exported_amid_installing(self) -> None:
        """A member that was killed while it installed a snapshot is exported with the snapshot's
        keyspace, which is what its log goes on from."""
        ours, fs = self.amid_installing(), OsFilesystem(sync=False)
        wal, _ = Wal.open(fs, str(ours / "member/wal"))
        SnapStore(fs, str(ours / "member/snap")).save(Snapshot(RECEIVED_INDEX, 9))
        wal.append(HardState(9, 0, RECEIVED_INDEX), [])
        wal.save_snapshot(WalSnapshot(RECEIVED_INDEX, 9))
        wal.close()
        with BoltFile.open(export_data_dir(fs, str(ours))) as database:
            index = dict(database.scan(META))[CONSISTENT_INDEX]
        self.assertEqual(int.from_bytes(index, "big"), RECEIVED_INDEX)
        self.assertFalse((ours / "member/snap" / database_name(RECEIVED_INDEX)).exists())

    def test_installing(self) -> None:
        """Whatever was done before the kill, the next start has the received keyspace, and
        nothing else is left."""
        ours = self.amid_installing()

        def put_in_place(fs: IFilesystem, directory: str) -> None:
            data_dir = DataDir(fs, directory)
            data_dir.lock()
            settings = LmdbSettings(data_dir.backend_path, sync=False)
            unwanted: list[IFile] = []
            install(fs, settings, data_dir.snap_dir, RECEIVED_INDEX, unwanted)
            give_back(unwanted)
            data_dir.unlock()

        def check(directory: Path) -> None:
            put_in_place(OsFilesystem(sync=False), str(directory))
            snap = directory / "member/snap"
            lmdb_environment.remove_leftovers(OsFilesystem(), str(snap / "kv.lmdb"))
            settings = LmdbSettings(str(snap / "kv.lmdb"), sync=False)
            opened = lmdb_environment.open_environment(settings.path, settings.map_bytes)
            with opened.env.begin() as txn:
                index, _ = lmdb_environment.read_position(txn, opened.databases)
            opened.env.close()
            self.assertEqual(index, RECEIVED_INDEX)
            names = {each.name.removesuffix("-lock") for each in snap.iterdir()}
            # What is left half made is removed at the start, before this.
            self.assertEqual(names - {"tmp.received"}, {"db", "kv.lmdb", "received"})
            received = SnapStore(OsFilesystem(), str(snap)).received_index()
            self.assertEqual(received, RECEIVED_INDEX)
            self.assertEqual(self.hash_of(directory), self.expected)

        self.kill_at_every_step(ours, put_in_place, check)

    def kill_at_every_step(
        self,
        source: Path,
        work: Callable[[IFilesystem, str], object],
        check: Callable[[Path], None],
    ) -> None:
        killed = 0
        for at in range(1, STEPS_MAX):
            for seed in range(2):
                directory = self.base / f"killed-{at}-{seed}"
                shutil.copytree(source, directory)
                was_killed = self.killed_amid(work, str(directory), Death(at, Random(seed)))
                check(directory)
                shutil.rmtree(directory)
                killed += was_killed
            if not was_killed:
                self.assertGreater(killed, 10)
                return
        self.fail(f"not done after {STEPS_MAX} steps")

    def killed_amid(
        self, work: Callable[[IFilesystem, str], object], directory: str, death: Death
    ) -> bool:
        """Whether it was killed before it was done. Batches of records that go into LMDB count as
        operations too."""

        def lived() -> None:
            put_sorted = dying(death, lmdb_environment.put_sorted)
            with mock.patch.object(lmdb_environment, "put_sorted", put_sorted):
                work(DyingFilesystem(death), directory)

        code = os.waitstatus_to_exitcode(os.waitpid(in_child(lived), 0)[1])
        self.assertIn(code, (0, -signal.SIGKILL))
        return code != 0
