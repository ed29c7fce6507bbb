"""What a simulated disk may lose, and what it must keep."""

from __future__ import annotations

import errno
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.testing.disk import SimDisk, SimFile
from etcdtw.testing.disk_nodes import PAGE_BYTES, SECTOR_BYTES


def durable_file(disk: SimDisk, path: str, data: bytes = b"") -> SimFile:
    file = disk.open(path, create=True)
    file.pwrite(data, 0)
    file.sync_data()
    disk.sync_dir("/")
    return file


def content(disk: SimDisk, path: str) -> bytes:
    file = disk.open_readonly(path)
    return file.pread(file.size(), 0)


class CrashTests(SynchronousTestCase):
    """A power cut."""

    def test_synced_bytes_stay(self) -> None:
        """What a sync returned for survives every crash."""
        for seed in range(30):
            disk = SimDisk()
            durable_file(disk, "/a", b"safe").pwrite(b"gone?", 100)
            disk.crash(Random(seed), scramble=True)
            self.assertEqual(content(disk, "/a")[:4], b"safe")

    def test_every_fate_of_a_write_occurs(self) -> None:
        """An unsynced write is kept, dropped or torn at a sector; only when asked, scrambled."""
        new = b"n" * SECTOR_BYTES * 2
        seen = set()
        for seed in range(60):
            disk = SimDisk()
            durable_file(disk, "/a", b"o" * len(new)).pwrite(new, 0)
            disk.crash(Random(seed))
            seen.add(content(disk, "/a"))
        old, fresh = b"o" * SECTOR_BYTES, b"n" * SECTOR_BYTES
        self.assertEqual(seen, {old + old, fresh + fresh, old + fresh, fresh + old})

    def test_scrambling(self) -> None:
        """Scrambled sectors hold neither the old nor the new bytes, and only where written."""
        found = False
        for seed in range(40):
            disk = SimDisk()
            durable_file(disk, "/a", b"o" * 700).pwrite(b"n" * 100, 300)
            disk.crash(Random(seed), scramble=True)
            data = content(disk, "/a")
            self.assertEqual(data[:300] + data[400:], b"o" * 600)
            found |= data[300:400] not in (b"o" * 100, b"n" * 100)
        self.assertTrue(found)

    def test_names_without_a_directory_sync(self) -> None:
        """A creation, rename or removal whose directory was not synced happened or did not."""
        seen = set()
        for seed in range(60):
            disk = SimDisk()
            durable_file(disk, "/a", b"1")
            durable_file(disk, "/b", b"2")
            disk.rename("/a", "/c")
            disk.remove("/b")
            disk.open("/d", create=True)
            disk.crash(Random(seed))
            seen.add(tuple(disk.listdir("/")))
        self.assertEqual(len(seen), 8)
        for names in seen:
            self.assertEqual(("a" in names) + ("c" in names), 1, "a rename is atomic")

    def test_names_after_a_directory_sync(self) -> None:
        """After the directory's sync they happened."""
        for seed in range(20):
            disk = SimDisk()
            durable_file(disk, "/a", b"1")
            disk.rename("/a", "/c")
            disk.sync_dir("/")
            disk.crash(Random(seed))
            self.assertEqual(disk.listdir("/"), ["c"])

    def test_handles_die_and_locks_go(self) -> None:
        """After a crash or the death of the process nobody holds anything."""
        for end in (lambda disk: disk.crash(Random(1)), SimDisk.kill):
            disk = SimDisk()
            file = durable_file(disk, "/a", b"1")
            file.lock()
            file.flock()
            end(disk)
            self.assertEqual(self.assertRaises(OSError, file.pwrite, b"x", 0).errno, errno.EBADF)
            again = disk.open("/a")
            again.lock()
            again.flock()

    def test_death_of_the_process_keeps_writes(self) -> None:
        """Without a power cut the page cache survives."""
        disk = SimDisk()
        disk.open("/a", create=True).pwrite(b"x", 0)
        disk.kill()
        self.assertEqual(content(disk, "/a"), b"x")

    def test_same_dice_same_disk(self) -> None:
        """A seed decides everything."""

        def run(seed: int) -> list[tuple[str, bytes]]:
            disk = SimDisk()
            for name in "abcdefgh":
                file = durable_file(disk, f"/{name}", b"o" * 3000)
                file.pwrite(b"n" * 3000, 0)
                disk.rename(f"/{name}", f"/{name}{name}")
            disk.crash(Random(seed), scramble=True)
            return [(name, content(disk, f"/{name}")) for name in disk.listdir("/")]

        self.assertEqual(run(5), run(5))
        self.assertNotEqual(run(5), run(6))


class FaultTests(SynchronousTestCase):
    """Failing and full disks."""

    def test_a_broken_disk_stays_broken(self) -> None:
        """From the chosen operation on everything that writes fails, until the disk is healed."""
        disk = SimDisk()
        file = durable_file(disk, "/a")
        disk.fail_operation(2)
        file.pwrite(b"1", 0)
        self.assertEqual(self.assertRaises(OSError, file.pwrite, b"2", 1).errno, errno.EIO)
        self.assertRaises(OSError, file.sync_data)
        disk.heal()
        file.pwrite(b"2", 1)
        self.assertEqual(content(disk, "/a"), b"12")

    def test_a_failed_sync_is_not_made_good_by_the_next(self) -> None:
        """What a failed sync should have written may be lost although a later sync succeeds."""
        lost = False
        for seed in range(20):
            disk = SimDisk()
            file = durable_file(disk, "/a", b"o")
            file.pwrite(b"n", 0)
            disk.fail_operation(1)
            self.assertRaises(OSError, file.sync_data)
            disk.heal()
            file.sync_data()
            disk.crash(Random(seed))
            lost |= content(disk, "/a") == b"o"
        self.assertTrue(lost)

    def test_what_follows_a_failed_sync(self) -> None:
        """What a failed sync has lost does not come back over what was written and synced later:
        not a smaller size, and not older bytes of the same page."""
        for seed in range(20):
            disk = SimDisk()
            file = durable_file(disk, "/a", b"oooooooo")
            file.truncate(2)
            file.pwrite(b"n", 1)
            disk.fail_operation(1)
            self.assertRaises(OSError, file.sync_data)
            disk.heal()
            file.pwrite(b"later", 2)
            file.sync_data()
            disk.crash(Random(seed))
            self.assertEqual(content(disk, "/a"), b"onlater")

    def test_a_full_disk_takes_what_fits(self) -> None:
        """A write past the capacity is cut short; a reservation changes nothing."""
        disk = SimDisk(capacity=10)
        file = disk.open("/a", create=True)
        file.pwrite(b"12345678", 0)
        self.assertEqual(self.assertRaises(OSError, file.pwrite, b"abcd", 8).errno, errno.ENOSPC)
        self.assertEqual(content(disk, "/a"), b"12345678ab")
        self.assertEqual(self.assertRaises(OSError, file.preallocate, 11).errno, errno.ENOSPC)
        file.pwrite(b"x", 0)
        disk.open("/b", create=True)
        disk.remove("/a")
        disk.open("/b").pwrite(b"y", 0)


class JournalTests(SynchronousTestCase):
    """Going back to every point of a run."""

    def test_states(self) -> None:
        """There is one state per operation, and each holds what was synced before it."""
        disk = SimDisk(record=True)
        file = disk.open("/a", create=True)
        disk.sync_dir("/")
        for value in (b"1", b"2"):
            file.pwrite(value, 0)
            file.sync_data()
        names = [operation.name for operation in disk.journal]
        self.assertEqual(
            names, ["create", "sync_dir", "pwrite", "sync_data", "pwrite", "sync_data"]
        )
        after = dict(disk.states(Random(1)))
        self.assertEqual(content(after[3], "/a"), b"1")
        self.assertIn(content(after[4], "/a"), (b"1", b"2"))
        self.assertEqual(content(after[5], "/a"), b"2")
        self.assertEqual(content(disk, "/a"), b"2", "the disk itself is untouched")

    def test_copies_are_independent(self) -> None:
        """A copy and its original do not see each other's writes, even of a renamed open file."""
        disk = SimDisk()
        file = durable_file(disk, "/a", b"1")
        disk.rename("/a", "/b")
        twin = disk.copy()
        file.pwrite(b"2", 0)
        twin.open("/b").pwrite(b"3", 0)
        self.assertEqual((content(disk, "/b"), content(twin, "/b")), (b"2", b"3"))


class MemoryTests(SynchronousTestCase):
    """Big files of zeros are cheap."""

    def test_zeros_cost_nothing(self) -> None:
        """A preallocated or zero-filled segment takes no memory, whatever its length."""
        disk = SimDisk()
        file = disk.open("/a", create=True)
        file.preallocate(64_000_000)
        file.pwrite(bytes(1_000_000), 0)
        file.sync_data()
        self.assertEqual(disk.resident_bytes(), 0)
        file.pwrite(b"x", 5_000_000)
        self.assertEqual(disk.resident_bytes(), PAGE_BYTES)
        self.assertEqual(disk.open("/a").size(), 64_000_000)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.binary(min_size=1, max_size=40), st.integers(0, 9000)),
        st.tuples(st.just("truncate"), st.just(b""), st.integers(0, 9000)),
        st.tuples(st.just("preallocate"), st.just(b""), st.integers(0, 9000)),
    ),
    max_size=25,
)


class ModelTests(SynchronousTestCase):
    """Pages against one flat array of bytes."""

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(OPERATIONS)
    def test_like_a_bytearray(self, operations: list[tuple[str, bytes, int]]) -> None:
        """Any series of writes and resizes reads as on a plain array."""
        disk = SimDisk()
        file = disk.open("/a", create=True)
        disk.sync_dir("/")
        model = bytearray()
        for name, data, number in operations:
            if name == "write":
                file.pwrite(data, number)
                model.extend(bytes(max(0, number + len(data) - len(model))))
                model[number : number + len(data)] = data
            else:
                getattr(file, name)(number)
                if name == "truncate":
                    del model[number:]
                model.extend(bytes(max(0, number - len(model))))
        self.assertEqual(content(disk, "/a"), bytes(model))
        file.sync_data()
        disk.crash(Random(0))
        self.assertEqual(content(disk, "/a"), bytes(model))
