"""Logs that were cut short or damaged: repaired to a prefix or refused, never silently wrong."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import CorruptError, StorageError
from etcdtw.raft.messages import ConfState, Entry, EntryType, HardState
from etcdtw.storage.wal import Wal, WalContents, WalSnapshot, read_wal
from etcdtw.storage.wal.reader import RecordReader
from etcdtw.testing.disk import SimDisk
from tests.storage.wals import entries, new_wal, reopen

BIG = 1 << 20
NAME = "0000000000000000-0000000000000000.wal"


def written() -> Wal:
    disk = SimDisk()
    wal = new_wal(disk, BIG)
    wal.append(HardState(1, 0, 2), [Entry(1, 1, EntryType.CONF_CHANGE, b"\x08\0\x10\0\x18\1")])
    wal.append(HardState(1, 7, 2), entries(2, 3))
    wal.append(HardState(2, 7, 4), [Entry(2, 5, data=None)])
    wal.save_snapshot(WalSnapshot(4, 1, ConfState(voters=(1,))))
    wal.append(HardState(2, 7, 5), entries(6, 3, term=2, size=1200))
    wal.append(HardState(2, 7, 8), entries(9, 2, term=2, size=5))
    wal.sync()
    return wal


@cache
def image() -> bytes:
    wal = written()
    return wal._tail.file.pread(wal._offset, 0)


@cache
def prefixes() -> tuple[list[int], list[WalContents]]:
    """Ends of records, and what the log says when it ends there."""
    disk = laid_down(image())
    reader = RecordReader([disk.open_readonly(f"/wal/{NAME}")])
    ends = [reader.offset for _ in reader]
    return ends, [read_wal(laid_down(image()[:end]), "/wal", WalSnapshot()) for end in ends[2:]]


def laid_down(data: bytes, size: int = BIG) -> SimDisk:
    disk = SimDisk()
    disk.makedirs("/wal")
    file = disk.open(f"/wal/{NAME}", create=True)
    file.pwrite(data, 0)
    file.truncate(max(size, len(data)))
    return disk


class CutTests(SynchronousTestCase):
    """A log that ends too early."""

    def check_prefix(self, disk: SimDisk, length: int) -> None:
        """What is read is what was written up to the last whole record, and writing goes on."""
        ends, contents = prefixes()
        whole = max(number for number, end in enumerate(ends) if end <= length)
        wal, found = reopen(disk, segment_bytes=BIG)
        self.assertEqual(found, contents[whole - 2])
        following = entries(found.last_index + 1, 2, term=9)
        wal.append(None, following)
        wal.sync()
        self.assertEqual(reopen(disk, segment_bytes=BIG)[1].entries, found.entries + following)

    def test_file_cut_at_every_byte(self) -> None:
        """A file that ends at any byte of the last records is repaired to the records before."""
        data = image()
        for length in range(len(data) - 150, len(data)):
            self.check_prefix(laid_down(data[:length], 0), length)

    def test_file_cut_anywhere(self) -> None:
        """The same at some bytes of all records after the beginning."""
        data = image()
        for length in range(prefixes()[0][2], len(data), 13):
            self.check_prefix(laid_down(data[:length], 0), length)

    def test_zeros_from_any_sector_on(self) -> None:
        """A write of which only the first sectors reached the disk is dropped."""
        data = image()
        for length in range(512, len(data), 512):
            self.check_prefix(laid_down(data[:length]), length)

    def test_any_one_sector_missing(self) -> None:
        """A write of which one sector in the middle is missing is dropped from there on."""
        data = image()
        for start in range(512, len(data), 512):
            torn = data[:start] + bytes(512) + data[start + 512 :]
            self.check_prefix(laid_down(torn), start)

    def test_the_broken_file_is_kept(self) -> None:
        """The repair leaves a copy of the segment as it was."""
        data = image()[:-3]
        disk = laid_down(data, 0)
        reopen(disk, segment_bytes=BIG)
        copy = disk.open_readonly(f"/wal/{NAME}.broken")
        self.assertEqual(copy.pread(copy.size(), 0), data)

    def test_reading_without_repair(self) -> None:
        """A reader that takes no lock sees the whole records and changes nothing."""
        disk = laid_down(image()[:-3], 0)
        before = disk.operations
        contents = read_wal(disk, "/wal", WalSnapshot())
        self.assertEqual(contents, prefixes()[1][-2])
        self.assertEqual(disk.operations, before)

    def test_a_torn_record_in_an_older_segment(self) -> None:
        """Only the last segment may be repaired."""
        disk = SimDisk()
        wal = new_wal(disk)
        for index in range(1, 60):
            wal.append(None, entries(index, 1))
            wal.sync()
        first = disk.open(f"/wal/{wal.segment_names[0]}")
        first.truncate(first.size() - 5)
        self.assertRaises(CorruptError, reopen, disk)
        self.assertFalse([name for name in disk.listdir("/wal") if name.endswith("broken")])

    def test_garbage_after_the_end_is_cleared(self) -> None:
        """What lies behind the last record when the log is opened never comes back."""
        data = image()
        disk = laid_down(data + bytes(8) + b"\xff" * 5000)
        wal, found = reopen(disk, segment_bytes=BIG)
        self.assertEqual(found, prefixes()[1][-1])
        wal.append(None, entries(11, 1, term=2, size=3))
        wal.sync()
        self.assertEqual(
            reopen(disk, segment_bytes=BIG)[1].entries,
            found.entries + entries(11, 1, term=2, size=3),
        )


class FlipTests(SynchronousTestCase):
    """A log with damaged bytes."""

    def assert_prefix_or_refused(self, data: bytes) -> str:
        try:
            found = reopen(laid_down(data), segment_bytes=BIG)[1]
        except StorageError:
            return "refused"
        self.assertIn(found, prefixes()[1])
        return "prefix"

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(st.integers(0, 8 * len(image()) - 1))
    def test_one_bit(self, position: int) -> None:
        """One flipped bit anywhere gives a prefix of the log or a refusal."""
        data = bytearray(image())
        data[position // 8] ^= 1 << position % 8
        self.assert_prefix_or_refused(bytes(data))

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.integers(0, len(image()) - 1), st.binary(min_size=1, max_size=20))
    def test_some_bytes(self, position: int, garbage: bytes) -> None:
        """Overwritten bytes give a prefix of the log or a refusal."""
        data = bytearray(image())
        data[position : position + len(garbage)] = garbage
        self.assert_prefix_or_refused(bytes(data))

    def test_every_bit_of_every_header(self) -> None:
        """Headers have no checksum of their own, yet no flipped bit in one goes unnoticed."""
        data = image()
        start = 0
        outcomes = set()
        for end in prefixes()[0]:
            for place in range(start, min(start + 18, end)):
                for bit in range(8):
                    flipped = bytearray(data)
                    flipped[place] ^= 1 << bit
                    outcomes.add(self.assert_prefix_or_refused(bytes(flipped)))
            start = end
        self.assertEqual(outcomes, {"prefix", "refused"})
