"""The write-ahead log against logs that real etcd wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.raft.codec import decode_entry, decode_hard_state, encode_entry
from etcdtw.raft.messages import Entry, HardState
from etcdtw.storage.wal import Wal, WalSnapshot, decode_metadata, read_wal, valid_snapshots
from etcdtw.storage.wal.reader import RecordReader
from etcdtw.storage.wal.records import (
    CRC,
    ENTRY,
    METADATA,
    SNAPSHOT,
    STATE,
    decode_record,
)
from etcdtw.testing.disk import SimDisk
from tests.storage.recorded import NAMES, Recorded, recorded

TYPES = {"metadata": METADATA, "entry": ENTRY, "state": STATE, "crc": CRC, "snapshot": SNAPSHOT}
WAL = "/data/member/wal"


def hard_state(record: dict[str, Any]) -> HardState:
    value = record["value"]
    return HardState(int(value["term"]), int(value["vote"]), int(value["commit"]))


def snapshot_key(record: dict[str, Any]) -> tuple[int, int]:
    return int(record["value"]["index"]), int(record["value"]["term"])


class RecordedWalTests(SynchronousTestCase):
    """Every recorded directory reads as recorded, and is written again byte for byte."""

    def each(self, check: Callable[[Recorded, SimDisk, list[dict[str, Any]]], None]) -> None:
        self.assertEqual(len(NAMES), 12)
        for name in NAMES:
            data = recorded(name)
            disk = SimDisk()
            data.put_on(disk, "/data")
            (wal_name,) = data.wal_names
            check(data, disk, data.decoded[wal_name]["records"])

    def test_records(self) -> None:
        """Types, checksums, offsets and framing are the recorded ones, in order."""

        def check(data: Recorded, disk: SimDisk, records: list[dict[str, Any]]) -> None:
            (wal_name,) = data.wal_names
            file = disk.open_readonly(f"/data/member/{wal_name}")
            reader = RecordReader([file])
            end = 0
            found = []
            for record_type, content in reader:
                field = file.pread(8, end)[::-1].hex()
                _, crc, _ = decode_record(file.pread(int(field[2:], 16), end + 8))
                found.append((end, field, record_type, f"{crc:08x}"))
                if record_type == ENTRY:
                    text = records[len(found) - 1].get("entry_hex")
                    self.assertIn(text, (None, (content or b"").hex()))
                end = reader.offset
            self.assertEqual(
                found,
                [(r["off"], r["frame_len_hex"], TYPES[r["type"]], r["crc"]) for r in records],
            )
            self.assertEqual(end, data.decoded[wal_name]["end_of_records"])

        self.each(check)

    def test_contents(self) -> None:
        """Metadata, last state and the surviving entries are the recorded ones."""

        def check(data: Recorded, disk: SimDisk, records: list[dict[str, Any]]) -> None:
            contents = read_wal(disk, WAL, WalSnapshot())
            (metadata,) = [r["value"] for r in records if r["type"] == "metadata"]
            assert contents.metadata is not None, "a log begins with it"
            self.assertEqual(
                decode_metadata(contents.metadata),
                (int(metadata["NodeID"]), int(metadata["ClusterID"])),
            )
            states = [hard_state(r) for r in records if r["type"] == "state"]
            self.assertEqual(contents.hard_state, states[-1])
            wanted: dict[int, dict[str, Any]] = {}
            for record in records:
                if record["type"] == "entry":
                    index = int(record["value"]["Index"])
                    wanted = {k: v for k, v in wanted.items() if k < index}
                    wanted[index] = record
            self.assertEqual([each.index for each in contents.entries], sorted(wanted))
            for entry in contents.entries:
                text = wanted[entry.index].get("entry_hex")
                self.assertIn(text, (None, encode_entry(entry).hex()))

        self.each(check)

    def test_valid_snapshots(self) -> None:
        """The log vouches for the snapshots that it records up to the commit index."""

        def check(data: Recorded, disk: SimDisk, records: list[dict[str, Any]]) -> None:
            commit = [hard_state(r) for r in records if r["type"] == "state"][-1].commit
            wanted = [snapshot_key(r) for r in records if r["type"] == "snapshot"]
            found = [(each.index, each.term) for each in valid_snapshots(disk, WAL)]
            self.assertEqual(found, [each for each in wanted if each[0] <= commit])

        self.each(check)

    def test_opening_at_every_snapshot(self) -> None:
        """From each recorded snapshot on, the log gives exactly the entries after it."""

        def check(data: Recorded, disk: SimDisk, records: list[dict[str, Any]]) -> None:
            whole = read_wal(disk, WAL, WalSnapshot())
            for index, term in [snapshot_key(r) for r in records if r["type"] == "snapshot"]:
                wal, contents = Wal.open(disk, WAL, WalSnapshot(index, term))
                wal.close()
                self.assertEqual(contents.entries, whole.entries[index:])

        self.each(check)

    def test_writing_the_same_bytes(self) -> None:
        """The recorded values written again give the recorded file."""

        def check(data: Recorded, disk: SimDisk, records: list[dict[str, Any]]) -> None:
            (wal_name,) = data.wal_names
            reader = RecordReader([disk.open_readonly(f"/data/member/{wal_name}")])
            disk.makedirs("/copy/member")
            wal: Wal | None = None
            for record_type, content in reader:
                assert content is not None or record_type == CRC
                wal = write_again(disk, wal, record_type, content or b"")
            assert wal is not None
            wal.sync()
            copy = disk.open_readonly(f"/copy/member/{wal_name}")
            content, size = data.files[wal_name]
            self.assertEqual(copy.size(), size)
            self.assertEqual(copy.pread(1 << 17, 0).rstrip(b"\0"), content)

        self.each(check)


def write_again(disk: SimDisk, wal: Wal | None, record_type: int, content: bytes) -> Wal | None:
    if record_type == METADATA:
        return Wal.create(disk, "/copy/member/wal", content)
    if wal is None:
        return None
    if record_type == ENTRY:
        wal.append(None, [decode_entry(content)])
    elif record_type == STATE:
        wal.append(decode_hard_state(content), [])
    elif record_type == SNAPSHOT and WalSnapshot.decode(content).index > 0:
        wal.save_snapshot(WalSnapshot.decode(content))
    return wal


class BatchTests(SynchronousTestCase):
    """How writes are grouped does not show in the file."""

    def test_one_by_one_or_at_once(self) -> None:
        """Entries appended singly and in one batch give the same bytes."""
        entries = [Entry(1 + n // 7, n + 1, data=b"x" * (n * 37 % 300)) for n in range(100)]
        files = []
        for step in (1, 9, 100):
            disk = SimDisk()
            wal = Wal.create(disk, "/wal", b"meta")
            for start in range(0, len(entries), step):
                wal.append(None, entries[start : start + step])
            wal.append(HardState(15, 1, 100), [])
            file = disk.open_readonly(f"/wal/{wal.segment_names[0]}")
            files.append(file.pread(100_000, 0))
        self.assertEqual(files[0], files[1])
        self.assertEqual(files[0], files[2])
