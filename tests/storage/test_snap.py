"""Snapshot files."""

from __future__ import annotations

import errno
from functools import partial
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import CorruptError
from etcdtw.raft.messages import ConfState, Snapshot
from etcdtw.storage.filesystem import write_synced
from etcdtw.storage.snap import SnapStore, decode_snap_file, encode_snap_file
from etcdtw.storage.wal import WalSnapshot, valid_snapshots
from etcdtw.testing.disk import SimDisk
from tests.storage.recorded import NAMES, recorded


def snapshot(index: int, term: int = 1, data: bytes = b"state") -> Snapshot:
    return Snapshot(index, term, ConfState(voters=(1, 2)), data)


def store(disk: SimDisk) -> SnapStore:
    disk.makedirs("/snap")
    disk.sync_dir("/")
    return SnapStore(disk, "/snap")


class RecordedSnapTests(SynchronousTestCase):
    """Files that real etcd wrote."""

    def test_every_recorded_file(self) -> None:
        """Each has the recorded metadata, and is written again byte for byte."""
        count = 0
        for name in NAMES:
            data = recorded(name)
            for path, decoded in data.decoded.items():
                if not path.endswith(".snap"):
                    continue
                content, size = data.files[path]
                content = content.ljust(size, b"\0")
                found = decode_snap_file(content)
                metadata = decoded["metadata"]
                self.assertEqual(found.index, int(metadata["index"]))
                self.assertEqual(found.term, int(metadata["term"]))
                voters = tuple(int(each) for each in metadata["conf_state"]["voters"])
                self.assertEqual(found.conf_state.voters, voters)
                self.assertEqual(encode_snap_file(found), content)
                count += 1
        self.assertEqual(count, 8)

    def test_newest_valid(self) -> None:
        """The newest file that the log vouches for is the one that etcd would start from."""
        for name in NAMES:
            disk = SimDisk()
            recorded(name).put_on(disk, "/data")
            valid = valid_snapshots(disk, "/data/member/wal")
            vouched_for = partial(valid_snapshots, disk, "/data/member/wal")
            found = SnapStore(disk, "/data/member/snap").load_newest(vouched_for)
            indexes = [each.index for each in valid]
            self.assertEqual(found.index if found else 0, max(indexes))


class SnapStoreTests(SynchronousTestCase):
    """Saving and loading."""

    def setUp(self) -> None:
        self.disk = SimDisk()
        self.store = store(self.disk)

    def damage(self, name: str, data: bytes) -> None:
        file = self.disk.open(f"/snap/{name}", create=True)
        file.truncate(0)
        file.pwrite(data, 0)

    def test_names(self) -> None:
        """Files are named term, then index, in hex."""
        path = self.store.save(snapshot(255, 16))
        self.assertEqual(path, "/snap/0000000000000010-00000000000000ff.snap")
        self.assertEqual(self.store.load_newest(None), snapshot(255, 16))

    def test_nothing_saved(self) -> None:
        """Without a file there is no snapshot."""
        self.assertIsNone(self.store.load_newest(None))

    def test_newest_first(self) -> None:
        """The newest one wins, unless the log does not vouch for it."""
        for index in (10, 30, 20):
            self.store.save(snapshot(index))
        self.assertEqual(self.store.load_newest(None), snapshot(30))
        valid = [WalSnapshot(), WalSnapshot(10, 1), WalSnapshot(20, 1), WalSnapshot(30, 2)]
        self.assertEqual(self.store.load_newest(lambda since: valid), snapshot(20))
        self.assertIsNone(self.store.load_newest(lambda since: [WalSnapshot()]))

    def test_broken_files_are_set_aside(self) -> None:
        """A file that is empty, damaged or garbage is renamed and the next older one is used."""
        self.store.save(snapshot(1))
        whole = encode_snap_file(snapshot(9))
        cases = [b"", b"\x08\x00", whole[:-1] + b"?", whole[:-5], b"\xff\xff", b"\x0a\x01a"]
        for number, data in enumerate(cases):
            self.damage(f"0000000000000002-{number:016x}.snap", data)
        self.assertEqual(self.store.load_newest(None), snapshot(1))
        self.assertEqual(len(self.store.broken), len(cases))
        names = self.disk.listdir("/snap")
        self.assertEqual(len([name for name in names if name.endswith(".snap.broken")]), len(cases))

    def test_texts(self) -> None:
        """What is wrong is said in etcd's words, with the file."""
        self.damage("a.snap", b"")
        error = self.assertRaises(CorruptError, self.store.load, "a.snap")
        self.assertEqual(str(error), "snap: empty snapshot: /snap/a.snap")
        self.damage("a.snap", encode_snap_file(snapshot(9))[:-1] + b"\x07")
        error = self.assertRaises(CorruptError, self.store.load, "a.snap")
        self.assertEqual(str(error), "snap: crc mismatch: /snap/a.snap")

    def test_a_disk_error_is_not_a_broken_file(self) -> None:
        """A file that cannot be read for another reason keeps its name."""
        self.disk.makedirs("/snap/0000000000000001-0000000000000001.snap")
        error = self.assertRaises(OSError, self.store.load_newest, None)
        self.assertEqual(error.errno, errno.EISDIR)

    def test_waiting_databases(self) -> None:
        """Received backends older than the snapshot are removed."""
        for name in ("0000000000000009.snap.db", "000000000000000a.snap.db", "db"):
            self.disk.open(f"/snap/{name}", create=True)
        removed = self.store.remove_databases_before(10)
        self.assertEqual(removed, ["/snap/0000000000000009.snap.db"])
        self.assertEqual(self.disk.listdir("/snap"), ["000000000000000a.snap.db", "db"])

    def test_every_failure_while_saving(self) -> None:
        """Whichever operation fails, the file is whole or absent after a power cut."""
        number = 0
        while True:
            number += 1
            disk = SimDisk()
            saved = store(disk)
            saved.save(snapshot(1))
            disk.fail_operation(number)
            try:
                saved.save(snapshot(2))
            except OSError:
                disk.heal()
                disk.crash(Random(number))
                self.assertIn(saved.load_newest(None), (snapshot(1), snapshot(2)))
                self.assertEqual(saved.broken, [])
            else:
                break
        self.assertGreater(number, 5)
        disk.crash(Random(0))
        self.assertEqual(saved.load_newest(None), snapshot(2))

    def test_received_index(self) -> None:
        """How far a received database had got is remembered over a power cut, the last one's."""
        disk = SimDisk()
        disk.makedirs("/snap")
        disk.sync_dir("/")
        self.assertEqual(SnapStore(disk, "/snap").received_index(), 0)
        for index in (12146, 977):
            SnapStore(disk, "/snap").note_received(index)
            disk.crash(Random(index))
            self.assertEqual(SnapStore(disk, "/snap").received_index(), index)
        write_synced(disk, "/snap/received", b"\0\0")
        with self.assertRaisesRegex(CorruptError, "not a number: /snap/received"):
            SnapStore(disk, "/snap").received_index()
        self.assertEqual(SnapStore(disk, "/snap").names(), [])

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.integers(0, 8 * len(encode_snap_file(snapshot(9))) - 1))
    def test_one_flipped_bit(self, position: int) -> None:
        """A damaged file is refused, or says the same as before."""
        data = bytearray(encode_snap_file(snapshot(9)))
        data[position // 8] ^= 1 << position % 8
        try:
            found = decode_snap_file(bytes(data))
        except ValueError:
            return
        self.assertEqual(found, snapshot(9))
