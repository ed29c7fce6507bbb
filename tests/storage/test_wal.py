"""Writing, reading, changing and releasing segments of the write-ahead log."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import CorruptError, StorageError
from etcdtw.raft.messages import EMPTY_HARD_STATE, ConfState, Entry, HardState
from etcdtw.storage.wal import (
    SEGMENT_BYTES,
    Wal,
    WalSnapshot,
    decode_metadata,
    encode_metadata,
    is_wal_directory,
    read_wal,
    valid_snapshots,
)
from etcdtw.storage.wal.names import SegmentName
from etcdtw.storage.wal.records import encode_chained, encode_frame
from etcdtw.testing.disk import SimDisk
from tests.storage.wals import SMALL, entries, new_wal, reopen, write


class CreateTests(SynchronousTestCase):
    """A new log."""

    def test_first_segment(self) -> None:
        """It holds the checksum 0, the metadata and the snapshot at 0, and is preallocated."""
        disk = SimDisk()
        wal = Wal.create(disk, "/wal", encode_metadata(1, 2))
        self.assertEqual(wal.segment_names, ["0000000000000000-0000000000000000.wal"])
        file = disk.open_readonly("/wal/0000000000000000-0000000000000000.wal")
        self.assertEqual(file.size(), SEGMENT_BYTES)
        self.assertEqual(file.pread(16, 0), bytes.fromhex("0400000000000084 0804100000000000"))
        contents = read_wal(disk, "/wal", WalSnapshot())
        assert contents.metadata is not None, "it begins with its metadata"
        self.assertEqual(decode_metadata(contents.metadata), (1, 2))
        self.assertEqual(contents.hard_state, EMPTY_HARD_STATE)
        self.assertEqual(contents.entries, [])

    def test_an_existing_log_is_not_replaced(self) -> None:
        """Creating a log where there is one is refused, naming the directory."""
        disk = SimDisk()
        new_wal(disk).close()
        error = self.assertRaises(StorageError, new_wal, disk)
        self.assertIn("/wal", str(error))

    def test_an_interrupted_creation_starts_over(self) -> None:
        """What an earlier attempt left in wal.tmp, or an empty wal directory, is no obstacle."""
        disk = SimDisk()
        disk.makedirs("/wal.tmp")
        disk.makedirs("/wal")
        disk.open("/wal.tmp/0000000000000000-0000000000000000.wal", create=True).pwrite(b"x", 0)
        new_wal(disk)
        self.assertEqual(disk.listdir("/"), ["wal"])
        self.assertTrue(is_wal_directory(disk, "/wal"))
        self.assertFalse(is_wal_directory(disk, "/nowhere"))


class AppendTests(SynchronousTestCase):
    """What comes back, and what needs a sync."""

    def setUp(self) -> None:
        self.disk = SimDisk()
        self.wal = new_wal(self.disk)

    def test_entries_and_state_come_back(self) -> None:
        """Everything appended is read again, and the log goes on from there."""
        first = [*entries(1, 3), Entry(1, 4, data=None), Entry(1, 5, data=b"")]
        write(self.wal, first)
        wal, contents = reopen(self.disk)
        self.assertEqual(contents.entries, first)
        self.assertEqual(contents.hard_state, HardState(1, 7, 5))
        self.assertEqual(contents.metadata, b"meta")
        self.assertEqual(wal.last_index, 5)
        write(wal, entries(6, 2))
        self.assertEqual(reopen(self.disk)[1].entries, first + entries(6, 2))

    def test_an_overwritten_suffix(self) -> None:
        """An entry whose index is there already replaces it and all that follow."""
        write(self.wal, entries(1, 5))
        write(self.wal, entries(3, 1, term=2))
        self.assertEqual(reopen(self.disk)[1].entries, entries(1, 2) + entries(3, 1, term=2))

    def test_what_needs_a_sync(self) -> None:
        """Entries, a new term and a new vote need one; a commit index alone does not."""
        append = self.wal.append
        self.assertFalse(append(None, []))
        self.assertFalse(append(EMPTY_HARD_STATE, []))
        self.assertTrue(append(HardState(1, 0, 0), []))
        self.assertTrue(append(HardState(1, 2, 0), []))
        self.assertFalse(append(HardState(1, 2, 9), []))
        self.assertTrue(append(HardState(1, 2, 9), entries(1, 1)))
        self.assertTrue(append(None, entries(2, 1)))

    def test_a_batch_is_one_write(self) -> None:
        """A batch with its state reaches the page cache by a single call."""
        before = self.disk.operations
        self.wal.append(HardState(1, 2, 0), entries(1, 20))
        self.assertEqual(self.disk.operations - before, 1)

    def test_after_an_error_nothing_goes(self) -> None:
        """A log whose write or sync failed takes no more work."""
        for failing in (1, 2):
            disk = SimDisk()
            wal = new_wal(disk)
            disk.fail_operation(failing)
            self.assertRaises(OSError, write, wal, entries(1, 1))
            disk.heal()
            self.assertRaises(StorageError, wal.append, None, entries(2, 1))
            self.assertRaises(StorageError, wal.sync)
            wal.close()
            wal.close()


class SegmentTests(SynchronousTestCase):
    """Changing segments."""

    def setUp(self) -> None:
        self.disk = SimDisk()
        self.wal = new_wal(self.disk)

    def fill(self, wal: Wal, first: int, count: int) -> None:
        for index in range(first, first + count):
            write(wal, entries(index, 1))

    def test_names_and_order(self) -> None:
        """Segments count up and are named after the first entry that they may hold."""
        self.fill(self.wal, 1, 100)
        names = self.wal.segment_names
        self.assertGreater(len(names), 3)
        self.assertEqual([name[:16] for name in names], [f"{n:016x}" for n in range(len(names))])
        firsts = [int(name[17:33], 16) for name in names]
        self.assertEqual(firsts, sorted(set(firsts)))
        wal, contents = reopen(self.disk)
        self.assertEqual(contents.entries, entries(1, 100))
        self.assertEqual(wal.segment_names[:-1], names[:-1])

    def test_start_of_a_later_segment(self) -> None:
        """It repeats checksum, metadata and state; the one before ends where its records end."""
        self.fill(self.wal, 1, 40)
        first, second, *_ = self.wal.segment_names
        old = self.disk.open_readonly(f"/wal/{first}")
        tail = old.pread(8, old.size() - 24)
        self.assertGreaterEqual(old.size(), SMALL)
        self.assertNotEqual(tail, bytes(8))
        contents = read_wal(self.disk, "/wal", WalSnapshot())
        crc_frame = self.disk.open_readonly(f"/wal/{second}").pread(16, 0)
        self.assertEqual(crc_frame[8:11], b"\x08\x04\x10")
        self.assertEqual(contents.entries, entries(1, 40))

    def test_a_change_waits_for_the_next_sync(self) -> None:
        """The appending thread syncs nothing; until the sync the new segment has no name, and
        further appends go on."""
        self.fill(self.wal, 1, 20)
        before = self.disk.listdir("/wal")
        syncs: list[str] = []
        self.disk.fail_when(lambda number, name, path: syncs.append(name))
        self.wal.append(None, entries(21, 30))
        self.wal.append(None, entries(51, 60))
        self.assertFalse([name for name in syncs if name.startswith("sync") or name == "rename"])
        self.assertEqual([n for n in self.disk.listdir("/wal") if n.endswith(".wal")], before)
        del syncs[:]
        self.wal.sync()
        self.assertEqual(syncs, ["sync_data", "sync_data", "rename", "sync_dir", "sync_data"])
        self.assertEqual(reopen(self.disk)[1].entries, entries(1, 110))

    def test_a_prepared_segment_is_used(self) -> None:
        """A change of segments takes the prepared file instead of making one."""
        self.assertFalse(self.wal.wants_next_segment)
        self.fill(self.wal, 1, 20)
        self.assertTrue(self.wal.wants_next_segment)
        self.wal.prepare_next_segment()
        self.assertFalse(self.wal.wants_next_segment)
        self.assertIn("0.tmp", self.disk.listdir("/wal"))
        names: list[str] = []
        self.disk.fail_when(lambda number, name, path: names.append(name))
        self.wal.append(None, entries(21, 30))
        self.assertNotIn("create", names)
        self.wal.prepare_next_segment()
        self.assertIn("1.tmp", self.disk.listdir("/wal"))
        self.wal.sync()
        self.wal.append(None, entries(51, 50))
        self.wal.sync()
        self.wal.prepare_next_segment()
        self.assertEqual([n for n in self.disk.listdir("/wal") if "tmp" in n], ["0.tmp"])
        self.wal.close()
        self.assertEqual([n for n in self.disk.listdir("/wal") if "tmp" in n], [])
        self.assertEqual(reopen(self.disk)[1].entries, entries(1, 100))

    def test_preparing_twice(self) -> None:
        """A second preparation finds nothing to do; after closing likewise."""
        self.wal.prepare_next_segment()
        before = self.disk.operations
        self.wal.prepare_next_segment()
        self.assertEqual(self.disk.operations, before)
        self.wal.close()
        self.wal.prepare_next_segment()
        self.assertEqual([n for n in self.disk.listdir("/wal") if "tmp" in n], [])

    def test_a_failed_preparation(self) -> None:
        """On a disk that is nearly full the attempt gives its bytes back, and the log goes on."""
        disk = SimDisk(capacity=SMALL + 1000)
        wal = new_wal(disk)
        self.assertRaises(OSError, wal.prepare_next_segment)
        self.assertEqual(disk.listdir("/wal"), wal.segment_names)
        write(wal, entries(1, 3))
        self.assertEqual(reopen(disk)[1].entries, entries(1, 3))

    def test_leftover_files_are_removed(self) -> None:
        """Prepared or unnamed segments of a dead process are removed when the log is opened."""
        self.wal.prepare_next_segment()
        self.wal.append(None, entries(1, 60))
        self.wal.prepare_next_segment()
        reopen(self.disk)
        self.assertEqual([name for name in self.disk.listdir("/wal") if name.endswith(".tmp")], [])

    def test_segment_names(self) -> None:
        """Only etcd's form of a name is one."""
        name = SegmentName(10, 255)
        self.assertEqual(str(name), "000000000000000a-00000000000000ff.wal")
        self.assertEqual(SegmentName.parse(str(name)), name)
        for wrong in ("0.tmp", "000000000000000A-00000000000000ff.wal", str(name) + ".broken"):
            self.assertIsNone(SegmentName.parse(wrong))


class SnapshotTests(SynchronousTestCase):
    """Snapshot records, and what they allow to let go."""

    def setUp(self) -> None:
        self.disk = SimDisk()
        self.wal = new_wal(self.disk)
        for index in range(1, 101):
            write(self.wal, entries(index, 1))
            if index == 50:
                self.snapshot = WalSnapshot(50, 1, ConfState(voters=(1, 2)))
                self.wal.save_snapshot(self.snapshot)
                self.wal.sync()

    def test_opening_at_a_snapshot(self) -> None:
        """Only what follows the snapshot is read, from the segment that may hold its index on."""
        wal, contents = reopen(self.disk, WalSnapshot(50, 1))
        self.assertEqual(contents.entries, entries(51, 50))
        self.assertLess(len(wal.segment_names), len(self.wal.segment_names))

    def test_valid_snapshots(self) -> None:
        """The log lists the snapshots at or below its commit index, with their configuration."""
        self.wal.save_snapshot(WalSnapshot(1000, 1))
        self.assertEqual(valid_snapshots(self.disk, "/wal"), [WalSnapshot(), self.snapshot])

    def test_valid_snapshots_since(self) -> None:
        """Those from an index on are found without a look at what the log holds before it."""
        for index in range(101, 301):
            write(self.wal, entries(index, 1))
            if index % 50 == 0:
                self.wal.save_snapshot(WalSnapshot(index - 10, 1))
        self.wal.append(HardState(1, 0, 300), [])
        self.wal.sync()
        known = valid_snapshots(self.disk, "/wal")
        self.assertEqual([each.index for each in known], [0, 50, 140, 190, 240, 290])
        for each in known:
            since = valid_snapshots(self.disk, "/wal", each.index)
            self.assertEqual(since, known[known.index(each) :])
            self.assertEqual(valid_snapshots(self.disk, "/wal", each.index + 1), since[1:])
        self.disk.open(f"/wal/{self.wal.segment_names[0]}").pwrite(b"xxxx", 200)
        self.assertEqual(valid_snapshots(self.disk, "/wal", 290), known[-1:])
        self.assertRaises(CorruptError, valid_snapshots, self.disk, "/wal", 0)

    def test_half_undone_purge(self) -> None:
        """A power cut may undo the removal of an old segment and keep that of a newer one."""
        for index in range(101, 301):
            write(self.wal, entries(index, 1))
        newest = WalSnapshot(290, 1)
        self.wal.save_snapshot(newest)
        self.wal.sync()
        names = [SegmentName.parse(name) for name in self.disk.listdir("/wal")]
        known = [name for name in names if name is not None and name.first_index <= 290]
        self.assertGreater(len(known), 2)
        self.disk.remove(f"/wal/{known[-2]}")
        self.assertEqual(valid_snapshots(self.disk, "/wal"), [newest])
        self.assertEqual(reopen(self.disk, newest)[1].entries, entries(291, 10))

    def test_a_snapshot_of_another_term(self) -> None:
        """A snapshot whose term the log contradicts is refused."""
        error = self.assertRaises(CorruptError, reopen, self.disk, WalSnapshot(50, 2))
        self.assertIn("wal: snapshot mismatch", str(error))

    def test_an_unknown_snapshot(self) -> None:
        """A snapshot that the log does not record is refused."""
        error = self.assertRaises(StorageError, reopen, self.disk, WalSnapshot(60, 1))
        self.assertIn("wal: snapshot not found", str(error))

    def test_replaced_from_before_the_snapshot(self) -> None:
        """Entries behind the snapshot that were replaced together with older ones are gone."""
        write(self.wal, entries(40, 30, term=2))
        self.wal.save_snapshot(WalSnapshot(60, 2))
        self.wal.sync()
        wal, contents = reopen(self.disk, WalSnapshot(60, 2))
        self.assertEqual(contents.entries, entries(61, 9, term=2))
        write(wal, entries(55, 3, term=3))
        contents = reopen(self.disk, WalSnapshot(60, 2))[1]
        self.assertEqual((contents.entries, contents.last_index), ([], 60))

    def test_an_installed_snapshot(self) -> None:
        """After a snapshot ahead of the log, entries go on behind it."""
        self.wal.save_snapshot(WalSnapshot(500, 3))
        self.assertEqual(self.wal.last_index, 500)
        write(self.wal, entries(501, 40, term=3))
        contents = reopen(self.disk, WalSnapshot(500, 3))[1]
        self.assertEqual(contents.entries, entries(501, 40, term=3))

    def test_release(self) -> None:
        """Segments are unlocked up to the one before the snapshot's, as etcd does."""
        names = self.wal.segment_names
        firsts = [int(name[17:33], 16) for name in names]
        keep = max(n for n, first in enumerate(firsts) if first < 50)
        self.wal.release_to(50)
        self.assertEqual(self.wal.segment_names, names[keep:])
        for place, name in enumerate(names):
            file = self.disk.open(f"/wal/{name}")
            if place < keep:
                file.lock()
            else:
                self.assertRaises(BlockingIOError, file.lock)
            file.close()

    def test_release_needs_a_durable_snapshot(self) -> None:
        """Segments are never released for a snapshot whose record was not synced."""
        self.wal.save_snapshot(WalSnapshot(100, 1))
        self.assertRaises(AssertionError, self.wal.release_to, 100)
        self.wal.sync()
        self.wal.release_to(100)

    def test_release_during_a_change_of_segments(self) -> None:
        """The segment before an unsynced change stays held."""
        self.wal.save_snapshot(WalSnapshot(100, 1))
        self.wal.sync()
        self.wal.append(None, entries(101, 60))
        self.wal.release_to(100)
        self.wal.sync()
        self.assertEqual(reopen(self.disk, WalSnapshot(100, 1))[1].entries, entries(101, 60))

    def test_purged_log(self) -> None:
        """When old segments are gone, the log opens from a snapshot but not from the start."""
        names = self.wal.segment_names
        firsts = [int(name[17:33], 16) for name in names]
        for name, following in zip(names, firsts[1:], strict=False):
            if following <= 50:
                self.disk.remove(f"/wal/{name}")
        self.assertEqual(reopen(self.disk, WalSnapshot(50, 1))[1].entries, entries(51, 50))
        error = self.assertRaises(StorageError, reopen, self.disk)
        self.assertIn("wal: file not found", str(error))


class RefusalTests(SynchronousTestCase):
    """Logs that contradict themselves."""

    def log(self, *records: tuple[int, bytes]) -> SimDisk:
        """A log of these records after the usual beginning."""
        disk = SimDisk()
        new_wal(disk).close()
        wal, _ = Wal.open(disk, "/wal", segment_bytes=SMALL)
        offset, crc = wal._offset, wal._crc
        file = disk.open(f"/wal/{wal.segment_names[0]}")
        for record_type, data in records:
            frame, crc = encode_chained(record_type, crc, data)
            file.pwrite(frame, offset)
            offset += len(frame)
        return disk

    def refused(self, disk: SimDisk) -> str:
        return str(self.assertRaises(CorruptError, reopen, disk))

    def test_two_metadata(self) -> None:
        """Two different metadata records are refused, equal ones are not."""
        reopen(self.log((1, b"meta")))
        self.assertIn("wal: conflicting metadata found", self.refused(self.log((1, b"other"))))

    def test_unknown_type(self) -> None:
        """A record of an unknown type is refused."""
        self.assertIn("unexpected block type 9", self.refused(self.log((9, b"x"))))

    def test_a_gap(self) -> None:
        """Entries with a gap are refused."""
        text = self.refused(self.log((2, bytes.fromhex("080010011805"))))
        self.assertIn("wal: slice bounds out of range", text)

    def test_a_wrong_chain(self) -> None:
        """A checksum record that does not continue the log is refused."""
        disk = self.log()
        wal, _ = reopen(disk)
        file = disk.open(f"/wal/{wal.segment_names[0]}")
        file.pwrite(encode_frame(4, wal._crc ^ 1, None), wal._offset)
        self.assertIn("wal: crc mismatch", self.refused(disk))

    def test_records_of_the_wrong_kind(self) -> None:
        """Record headers have no checksum, so a record must look exactly like its type."""
        entry = bytes.fromhex("08001001180122 0161".replace(" ", ""))
        for record in ((3, entry), (2, bytes.fromhex("080110001805")), (5, entry), (3, b"")):
            self.refused(self.log(record))

    def test_a_missing_segment(self) -> None:
        """A hole in the sequence of segments is refused, naming the missing one."""
        disk = SimDisk()
        wal = new_wal(disk)
        for index in range(1, 101):
            write(wal, entries(index, 1))
        disk.remove(f"/wal/{wal.segment_names[1]}")
        error = self.assertRaises(StorageError, reopen, disk)
        self.assertIn("0000000000000001", str(error))

    def test_an_empty_directory(self) -> None:
        """A directory without a segment is refused."""
        disk = SimDisk()
        disk.makedirs("/wal")
        error = self.assertRaises(StorageError, reopen, disk)
        self.assertIn("wal: file not found", str(error))

    def test_a_locked_log(self) -> None:
        """A log that another process holds is refused, naming the segment and leaving it be."""
        disk = SimDisk()
        wal = new_wal(disk)
        error = self.assertRaises(StorageError, Wal.open, disk, "/wal", WalSnapshot(), SMALL)
        self.assertIn(f"/wal/{wal.segment_names[0]}", str(error))
        self.assertIn("another process", str(error))
        write(wal, entries(1, 1))
        wal.close()
        self.assertEqual(reopen(disk)[1].entries, entries(1, 1))
