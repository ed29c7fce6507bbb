"""Power cuts and failing disks at every point of the log's life."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import StorageError
from etcdtw.raft.messages import HardState
from etcdtw.storage.wal import Wal, WalContents, WalSnapshot, valid_snapshots
from etcdtw.storage.wal.reader import SECTOR_BYTES
from etcdtw.testing.disk import SimDisk
from tests.storage.wals import SMALL, entries, new_wal, reopen

ROUNDS = 25
PER_ROUND = 7


class Acknowledged:
    """What a run was told is durable: the last synced index and term, and the last snapshot."""

    def __init__(self) -> None:
        self.index = 0
        self.appended = 0
        self.snapshot = WalSnapshot()
        self.snapshots = {self.snapshot}
        self.created = False


def run(disk: SimDisk, acknowledged: Acknowledged) -> None:
    """A log that is created, changes segments with and without a prepared one, and records a
    snapshot now and then."""
    wal = new_wal(disk)
    acknowledged.created = True
    for number in range(ROUNDS):
        batch = entries(1 + number * PER_ROUND, PER_ROUND)
        acknowledged.appended = batch[-1].index
        wal.append(HardState(1, 7, batch[-1].index), batch)
        wal.sync()
        acknowledged.index = batch[-1].index
        if number % 4 == 1:
            wal.prepare_next_segment()
        if number % 5 == 4:
            snapshot = WalSnapshot(acknowledged.index - 2, 1)
            acknowledged.snapshots.add(snapshot)
            wal.save_snapshot(snapshot)
            wal.sync()
            acknowledged.snapshot = snapshot
            wal.release_to(snapshot.index)
    wal.close()


class CrashTests(SynchronousTestCase):
    """A power cut after any operation loses nothing that a sync returned for."""

    def check(self, disk: SimDisk, known: Acknowledged) -> None:
        if not known.created and not disk.exists("/wal"):
            return  # a log that nobody was told about is absent or whole
        found = valid_snapshots(disk, "/wal")
        self.assertIn(known.snapshot, found)
        self.assertLessEqual(set(found), known.snapshots)
        for snapshot in (WalSnapshot(), known.snapshot):
            wal, contents = reopen(disk, snapshot)
            self.check_contents(contents, snapshot, known)
            wal.close()
        self.check_going_on(disk, contents)

    def check_contents(
        self, contents: WalContents, snapshot: WalSnapshot, known: Acknowledged
    ) -> None:
        count = len(contents.entries)
        self.assertEqual(contents.entries, entries(snapshot.index + 1, count))
        self.assertGreaterEqual(snapshot.index + count, known.index)
        self.assertLessEqual(snapshot.index + count, known.appended)
        self.assertGreaterEqual(contents.hard_state.commit, known.index)
        self.assertEqual(contents.metadata, b"meta")

    def check_going_on(self, disk: SimDisk, before: WalContents) -> None:
        """The log takes new entries and survives the next power cut too."""
        wal, contents = reopen(disk)
        following = entries(contents.last_index + 1, 3, term=2)
        wal.append(HardState(2, 7, 0), following)
        wal.sync()
        disk.crash(Random(1))
        self.assertEqual(reopen(disk)[1].entries, contents.entries + following)

    def test_power_cut_after_every_operation(self) -> None:
        """At every journal entry: acknowledged entries, states and snapshots are there, in order,
        with nothing that was never written."""
        disk = SimDisk(record=True)
        acknowledged = Acknowledged()
        known: list[dict[str, object]] = []

        def note(number: int, name: str, path: str) -> None:
            known.append(dict(vars(acknowledged), snapshots=set(acknowledged.snapshots)))

        disk.fail_when(note)
        run(disk, acknowledged)
        self.assertEqual(len(known), len(disk.journal))
        self.assertGreater(len(disk.journal), 80)
        for seed in range(3):
            for number, state in disk.states(Random(seed)):
                then = Acknowledged()
                vars(then).update(known[number])
                self.check(state, then)

    def test_power_cut_between_append_and_sync(self) -> None:
        """Whatever the dice do to an unsynced batch, the log opens with a prefix of it."""
        lengths = set()
        for seed in range(60):
            disk = SimDisk()
            wal = new_wal(disk)
            wal.append(HardState(1, 7, 0), entries(1, 5))
            wal.sync()
            wal.append(HardState(1, 7, 5), entries(6, 20))
            disk.crash(Random(seed))
            contents = reopen(disk)[1]
            self.assertEqual(contents.entries, entries(1, len(contents.entries)))
            self.assertGreaterEqual(len(contents.entries), 5)
            lengths.add(len(contents.entries))
        self.assertGreater(len(lengths), 3)

    def test_power_cut_during_a_repair(self) -> None:
        """A repair that is cut short is repeated by the next start."""
        disk = SimDisk(record=True)
        wal = new_wal(disk)
        wal.append(HardState(1, 7, 0), entries(1, 9))
        wal.sync()
        file = disk.open(f"/wal/{wal.segment_names[0]}")
        file.pwrite(bytes(512), 512)
        file.sync_data()
        start = len(disk.journal)
        survivors = reopen(disk)[1].entries
        self.assertIn(len(survivors), range(1, 9))
        for number, state in disk.states(Random(3)):
            if number >= start:
                self.assertEqual(reopen(state)[1].entries, survivors)


class FailureTests(SynchronousTestCase):
    """Every operation of a procedure fails once; afterwards the log is as it was or as it
    should be."""

    def each_failure(
        self, prepare: Callable[[SimDisk], Wal | None], act: Callable[[SimDisk, Wal | None], object]
    ) -> list[SimDisk]:
        """The disks, healed and as a new process sees them, after the 1st, 2nd, … operation of
        ``act`` failed."""
        disks = []
        for number in range(1, 200):
            disk = SimDisk()
            wal = prepare(disk)
            disk.fail_operation(number)
            try:
                act(disk, wal)
            except OSError:
                disk.heal()
                disk.crash(Random(number))
                disks.append(disk)
            else:
                return disks
        raise AssertionError("the procedure never came through")

    def test_create(self) -> None:
        """A failed creation leaves no log or a whole one, and can be repeated."""
        disks = self.each_failure(lambda disk: None, lambda disk, wal: new_wal(disk))
        self.assertGreater(len(disks), 7)
        for disk in disks:
            if not disk.exists("/wal"):
                new_wal(disk)
            self.assertEqual(reopen(disk)[1].metadata, b"meta")

    def filled(self, disk: SimDisk) -> Wal:
        wal = new_wal(disk)
        wal.append(HardState(1, 7, 0), entries(1, 30))
        wal.sync()
        return wal

    def append_and_cut(self, disk: SimDisk, wal: Wal | None) -> None:
        assert wal is not None
        wal.append(HardState(1, 7, 30), entries(31, 20))
        wal.sync()

    def test_append_and_cut(self) -> None:
        """A failed append or change of segments loses nothing from before it."""
        disks = self.each_failure(self.filled, self.append_and_cut)
        self.assertGreater(len(disks), 6)
        for disk in disks:
            found = reopen(disk)[1].entries
            self.assertEqual(found, entries(1, len(found)))
            self.assertGreaterEqual(len(found), 30)

    def test_cut_with_a_prepared_segment(self) -> None:
        """The same when the next segment was prepared."""

        def prepared(disk: SimDisk) -> Wal:
            wal = self.filled(disk)
            wal.prepare_next_segment()
            return wal

        for disk in self.each_failure(prepared, self.append_and_cut):
            found = reopen(disk)[1].entries
            self.assertEqual(found, entries(1, len(found)))
            self.assertGreaterEqual(len(found), 30)

    def test_save_snapshot(self) -> None:
        """A failed snapshot record is there or not, and the entries are."""

        def save(disk: SimDisk, wal: Wal | None) -> None:
            assert wal is not None
            wal.save_snapshot(WalSnapshot(20, 1))
            wal.append(HardState(1, 7, 30), [])
            wal.sync()

        disks = self.each_failure(self.filled, save)
        self.assertEqual(len(disks), 3)
        for disk in disks:
            for snapshot in valid_snapshots(disk, "/wal"):
                found = reopen(disk, snapshot)[1].entries
                self.assertEqual(found, entries(snapshot.index + 1, 30 - snapshot.index))

    def test_open(self) -> None:
        """A failed opening, with a torn end to repair, can be repeated."""

        def torn(disk: SimDisk) -> None:
            wal = self.filled(disk)
            file = disk.open(f"/wal/{wal.segment_names[0]}")
            file.truncate(wal._offset - 3)
            file.sync_data()
            disk.kill()

        def again(disk: SimDisk, wal: Wal | None) -> None:
            reopen(disk)

        disks = self.each_failure(torn, again)
        self.assertGreater(len(disks), 5)
        for disk in disks:
            self.assertEqual(reopen(disk)[1].entries, entries(1, 30))

    def test_repair_on_a_full_disk(self) -> None:
        """A segment that was prepared and not used gives its room to what a repair needs."""
        disk = SimDisk()
        wal = self.filled(disk)
        wal.prepare_next_segment()
        file = disk.open(f"/wal/{wal.segment_names[0]}")
        file.pwrite(bytes(SECTOR_BYTES), wal._offset // SECTOR_BYTES * SECTOR_BYTES)
        disk.kill()
        disk.capacity = 2 * SMALL
        found = reopen(disk)[1].entries
        self.assertEqual(found, entries(1, len(found)))
        self.assertEqual([name[-7:] for name in disk.listdir("/wal")], ["000.wal", ".broken"])

    def test_failed_opening_releases_its_locks(self) -> None:
        """After a failure while opening, nothing stays locked."""
        disk = SimDisk()
        wal = self.filled(disk)
        wal.close()
        name = wal.segment_names
        self.assertEqual(name, [])
        self.assertRaises(StorageError, Wal.open, disk, "/wal", WalSnapshot(9, 9), SMALL)
        Wal.open(disk, "/wal", WalSnapshot(), SMALL)

    def test_full_disk(self) -> None:
        """On a full disk the append fails; after space is made nothing acknowledged is gone."""
        for extra in (0, 1, 100, 700, 3000):
            disk = SimDisk(capacity=SMALL + extra)
            wal = new_wal(disk)
            synced = 0
            with self.assertRaises(OSError) as raised:
                for index in range(1, 100):
                    wal.append(HardState(1, 7, index), entries(index, 1))
                    wal.sync()
                    synced = index
            self.assertTrue(raised.exception.filename)
            disk.capacity = None
            disk.crash(Random(extra))
            found = reopen(disk)[1].entries
            self.assertEqual(found, entries(1, len(found)))
            self.assertGreaterEqual(len(found), synced)
