"""``etcdtw ctl backup``: what is in a backup, and what is refused."""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.ctl.backup import backup
from etcdtw.app.ctl.commands import run
from etcdtw.app.parts import read_log
from etcdtw.errors import StorageError
from etcdtw.ids import RequestIds
from etcdtw.membership import bootstrap_entries, founding_member, publish_request
from etcdtw.pb.raft_internal_pb2 import InternalRaftRequest
from etcdtw.raft.messages import ConfState, Entry, HardState, Snapshot
from etcdtw.storage.backend.lmdb_environment import CONSISTENT_INDEX, META, create
from etcdtw.storage.backend.lmdb_view import open_view
from etcdtw.storage.bolt import BoltFile
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.snap import SnapStore
from etcdtw.storage.wal import Wal, WalSnapshot, decode_metadata, encode_metadata
from tests.storage.before_3_0 import LAST_INDEX, SNAPSHOT_INDEX, TERM, write_member

MAP_BYTES = 1 << 26
OWN = 0xABC
FOUNDER = founding_member("m", ["http://m:2380"], "token")
V3 = InternalRaftRequest(put={"key": b"k", "value": b"v"})
V2 = publish_request(1, FOUNDER.path, FOUNDER.attributes_json())


def records(index: int) -> list[tuple[bytes, list[tuple[bytes, bytes]]]]:
    """Buckets of a keyspace that is at this index."""
    return [
        (b"key", [(b"revision", b"record")]),
        (b"members", [(b"1", b"{}")]),
        (META, [(CONSISTENT_INDEX, index.to_bytes(8, "big"))]),
    ]


class BackupTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.fs = OsFilesystem()
        base = Path(self.mktemp()).absolute()
        self.source, self.target = base / "source", base / "target"
        self.entries = [
            *bootstrap_entries([FOUNDER]),
            Entry(2, 2, data=V2.SerializeToString()),
            Entry(2, 3, data=V3.SerializeToString()),
            Entry(3, 4),
        ]

    def made(self, keyspace_index: int = 4, entries: list[Entry] | None = None) -> DataDir:
        """The data directory of a stopped member."""
        data_dir = DataDir(self.fs, str(self.source))
        data_dir.create()
        entries = self.entries if entries is None else entries
        metadata = encode_metadata(OWN, 7)
        Wal.create(
            self.fs, data_dir.wal_dir, metadata, state=HardState(3, OWN, 2), entries=entries
        ).close()
        create(self.fs, data_dir.backend_path, MAP_BYTES, buckets=records(keyspace_index))
        data_dir.lock()
        data_dir.unlock()
        return data_dir

    def backup(self, with_v3: bool = False, wal_dir: str | None = None) -> DataDir:
        source = DataDir(self.fs, str(self.source))
        backup(self.fs, source, str(self.target), wal_dir, RequestIds(0, 1), with_v3)
        return DataDir(self.fs, str(self.target), wal_dir)

    def test_v2_only(self) -> None:
        """The log with its indexes, without v3 keys, under new ids, all of it committed; in the
        database only how far it is."""
        self.made()
        made = self.backup()
        snapshot, contents = read_log(self.fs, made)
        self.assertEqual(snapshot.index, 0)
        self.assertEqual(contents.entries, [*self.entries[:2], Entry(2, 3), self.entries[3]])
        self.assertEqual(contents.hard_state, HardState(3, 0, 4))
        member, cluster = decode_metadata(contents.metadata or b"")
        self.assertEqual(len({member, cluster, OWN, 7}), 4)
        with BoltFile.open(made.db_path) as database:
            self.assertEqual(database.buckets(), [META])
            self.assertEqual(dict(database.scan(META)), {CONSISTENT_INDEX: bytes(7) + b"\4"})

    def test_with_v3(self) -> None:
        """All entries, and all records but those about members; as far as the keyspace is."""
        self.made(keyspace_index=3)
        made = self.backup(with_v3=True)
        self.assertEqual(read_log(self.fs, made)[1].entries, self.entries)
        with BoltFile.open(made.db_path) as database:
            self.assertEqual(database.buckets(), [b"key", META])
            self.assertEqual(dict(database.scan(META)), {CONSISTENT_INDEX: bytes(7) + b"\3"})
            self.assertEqual(list(database.scan(b"key")), [(b"revision", b"record")])

    def test_snapshot(self) -> None:
        """The newest snapshot that the log vouches for comes along; a damaged one stays where it
        is, under its name."""
        data_dir = self.made()
        wal, _ = Wal.open(self.fs, data_dir.wal_dir)
        snapshots = SnapStore(self.fs, data_dir.snap_dir)
        good = Snapshot(2, 2, ConfState(voters=(FOUNDER.id,)), b"{}")
        snapshots.save(good)
        broken = Path(snapshots.save(good._replace(index=3)))
        broken.write_bytes(b"damage")
        for index in (2, 3):
            wal.save_snapshot(WalSnapshot(index, 2, good.conf_state))
        wal.append(HardState(3, OWN, 4), ())
        wal.close()
        snapshot, contents = read_log(self.fs, self.backup())
        self.assertEqual(snapshot, good)
        self.assertEqual([each.index for each in contents.entries], [3, 4])
        self.assertTrue(broken.exists())

    def test_before_databases(self) -> None:
        """Of etcd 2.3, with the log in a place of its own; it has no v3 keys."""
        write_member(self.source, OWN)
        self.assertRaises(StorageError, self.backup, with_v3=True)
        self.assertFalse(self.target.exists())
        made = self.backup(wal_dir=str(self.target) + "-wal")
        snapshot, contents = read_log(self.fs, made)
        self.assertEqual((snapshot.index, snapshot.term), (SNAPSHOT_INDEX, TERM))
        self.assertEqual(contents.last_index, LAST_INDEX)

    def test_refused(self) -> None:
        """No member's directory; a target that is there; a keyspace of another log."""
        flags = [f"--data-dir={self.source}", f"--backup-dir={self.target}"]
        for make, words, more in (
            (lambda: None, "it has no log", ()),
            (lambda: self.made(9), "does not belong to its log, from 0 to 4", ("--with-v3",)),
            (lambda: (self.target / "file").mkdir(parents=True), 'target" not empty', ()),
        ):
            make()
            said = StringIO()
            with redirect_stderr(said):
                self.assertEqual(run(["backup", *flags, *more]), 1)
            self.assertIn(words, said.getvalue())

    def test_same_keyspace(self) -> None:
        """The source's keyspace is what it was."""
        data_dir = self.made()
        self.backup(with_v3=True)
        view = open_view(data_dir.backend_path, MAP_BYTES, "test")
        self.addCleanup(view.close)
        self.assertEqual(view.buckets(), [b"key", b"members", META])
