"""Logs and snapshots of etcd 2.3: records without padding, one after the other."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import StorageError
from etcdtw.raft.messages import Entry, HardState
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.snap import SnapStore
from etcdtw.storage.wal import Wal, WalSnapshot, decode_metadata, read_wal, valid_snapshots
from tests.storage.before_3_0 import CLUSTER_ID, LAST_INDEX, SNAPSHOT_INDEX, TERM, write_member

OWN = 0xABC


class OldFormatTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(self.mktemp()).absolute()
        write_member(self.base, OWN, 0xDEF)
        self.wal = str(self.base / "member/wal")
        self.snap = str(self.base / "member/snap")
        self.fs = OsFilesystem()

    def test_read(self) -> None:
        """Entries, states and the snapshot are found, and whose they are."""
        contents = read_wal(self.fs, self.wal, WalSnapshot())
        self.assertEqual([each.index for each in contents.entries], [*range(1, LAST_INDEX + 1)])
        self.assertEqual(contents.hard_state, HardState(TERM, 0, LAST_INDEX))
        self.assertEqual(decode_metadata(contents.metadata or b""), (OWN, CLUSTER_ID))
        valid = valid_snapshots(self.fs, self.wal)
        self.assertEqual([each.index for each in valid], [0, SNAPSHOT_INDEX])
        snapshot = SnapStore(self.fs, self.snap).load_newest(lambda since: valid)
        assert snapshot is not None, "it is there"
        self.assertEqual((snapshot.index, snapshot.term), (SNAPSHOT_INDEX, TERM))
        self.assertEqual(snapshot.conf_state.voters, (OWN, 0xDEF))

    def test_gone_on_with(self) -> None:
        """What is appended to such a log is padded, as etcd 3 does, and all of it is read again."""
        start = WalSnapshot(SNAPSHOT_INDEX, TERM)
        wal, before = Wal.open(self.fs, self.wal, start)
        added = [Entry(TERM, LAST_INDEX + each, data=b"x" * each) for each in (1, 2, 3)]
        wal.append(HardState(TERM, OWN, LAST_INDEX + 3), added)
        wal.sync()
        wal.close()
        again, contents = Wal.open(self.fs, self.wal, start)
        again.close()
        self.assertEqual(contents.entries, [*before.entries, *added])
        self.assertEqual(contents.hard_state.vote, OWN)

    def test_damage(self) -> None:
        """A bit that flipped in a record is found; a record that ends early is dropped."""
        (path,) = Path(self.wal).iterdir()
        whole = path.read_bytes()
        for place in range(20, len(whole), 97):
            path.write_bytes(whole[:place] + bytes((whole[place] ^ 4,)) + whole[place + 1 :])
            try:
                found = len(read_wal(self.fs, self.wal, WalSnapshot()).entries)
            except StorageError:
                continue
            # A length that says too much looks like a record that was cut short.
            self.assertLess(found, LAST_INDEX)
        path.write_bytes(whole[:-30])
        wal, contents = Wal.open(self.fs, self.wal)
        wal.close()
        self.assertEqual(contents.entries[-1].index, LAST_INDEX - 1)

    def test_in_use(self) -> None:
        """While etcd 2.3 has its log locked, the directory is refused and stays as it is."""
        (path,) = Path(self.wal).iterdir()
        held = self.fs.open_readonly(str(path))
        held.flock()
        data_dir = DataDir(self.fs, str(self.base))
        refused = self.assertRaises(StorageError, data_dir.lock)
        self.assertIn("another process is using this data directory", str(refused))
        held.close()
        self.assertFalse((self.base / "member/snap/db").exists())
        data_dir.lock()
        self.assertTrue((self.base / "member/snap/db").exists())
        data_dir.withdraw()
        self.assertFalse((self.base / "member/snap/db").exists())
