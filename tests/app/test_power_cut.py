"""What was acknowledged survives a power cut at any moment."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.mvcc.interfaces import IBackendView
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.testing.disk import SimDisk, SimFile
from tests.app.simulated_member import Call, SimulatedMember

PUTS_PER_TURN = (1, 3, 1, 7, 2, 1)
ROUNDS = 6


class Ledger:
    """Writes made on a recording disk, and how long the disk's journal was at each answer and at
    each commit of the keyspace."""

    def __init__(self, disk: SimDisk | None = None, **settings: Any) -> None:
        self.disk = disk or SimDisk(record=True)
        self.settings = settings
        self.member = SimulatedMember(self.disk, **settings)
        self.began_from: set[int] = set()
        self.commits: list[tuple[int, IBackendView]] = []
        self.member.backend.on_durable.append(lambda index: self._committed())
        self.acknowledged: list[tuple[int, bytes, int]] = []
        self._number = 0

    def run(self) -> None:
        for size in PUTS_PER_TURN * ROUNDS:
            calls = [self._put() for _ in range(size)]
            self.member.settle()
            for key, call in calls:
                assert call.body is not None, f"{key!r} was not acknowledged: {call.error}"
                self.acknowledged.append((len(self.disk.journal), key, self.member.revision))
            self.member.clock.advance(0.1)
            if size == 3:
                self.member.backend.commit()

    def _committed(self) -> None:
        self.commits.append((len(self.disk.journal), self.member.backend.view("test")))

    def _put(self) -> tuple[bytes, Call]:
        self._number += 1
        key = b"key-%d" % self._number
        return key, self.member.put(key, b"value of " + key)

    def keyspace(self, length: int) -> MemoryBackend:
        """The keyspace as it was committed when the journal had this length."""
        backend = MemoryBackend(durable=True)
        views = [view for at, view in self.commits if at <= length]
        if views:
            for bucket in views[-1].buckets():
                for key, value in views[-1].scan(bucket, b"", None):
                    backend.put(bucket, key, value)
            backend.end_entry(views[-1].index, views[-1].term)
            backend.commit()
        return backend

    def lost(self, seed: int) -> list[str]:
        """For every moment of the journal, what a restart after a power cut then misses."""
        missing = []
        dice = Random(seed)
        for moment, disk in self.disk.states(Random(seed)):
            due = [each for each in self.acknowledged if each[0] <= moment]
            if not due:
                continue
            keyspace = self.keyspace(moment + dice.randrange(2))
            restarted = SimulatedMember(disk, keyspace, **self.settings)
            self.began_from.add(restarted.core.snapshots.newest)
            missing += [
                f"{key!r} after operation {moment}"
                for _, key, _ in due
                if restarted.value(key) != b"value of " + key
            ]
            if restarted.revision < max(revision for _, _, revision in due):
                missing.append(f"the revision went back after operation {moment}")
        return missing


class ForgetfulDisk(SimDisk):
    """A disk one of whose syncs does nothing."""

    forgotten_sync = 9
    syncs = 0

    def open(
        self, path: str, *, create: bool = False, exclusive: bool = False, mode: int = 0o600
    ) -> SimFile:
        file = super().open(path, create=create, exclusive=exclusive, mode=mode)
        return Forgetful(self, file)


class Forgetful(SimFile):
    """A file with another ``sync_data``."""

    def __init__(self, disk: ForgetfulDisk, file: SimFile) -> None:
        super().__init__(disk, file._node, file.path, file._writable)
        self._forgetful = disk

    def sync_data(self) -> None:
        disk = self._forgetful
        disk.syncs += 1
        if disk.syncs != disk.forgotten_sync:
            super().sync_data()


class PowerCutTests(SynchronousTestCase):
    def test_nothing_acknowledged_is_lost(self) -> None:
        """Restarted from every sync, write and rename with only the synced bytes and a random
        part of the others, a member has everything that it ever acknowledged."""
        ledger = Ledger()
        ledger.run()
        for seed in range(3):
            self.assertEqual(ledger.lost(seed), [])

    def test_with_snapshots(self) -> None:
        """So it has when it began from a snapshot, whichever of the keyspace, the snapshot, the
        log's record of it and the release of segments a power cut came between."""
        ledger = Ledger(snapshot_count=13)
        ledger.run()
        for seed in range(2):
            self.assertEqual(ledger.lost(seed), [])
        self.assertGreater(len(ledger.began_from), 4)

    def test_a_missing_sync_is_noticed(self) -> None:
        """The check above fails as soon as one sync is left out."""
        ledger = Ledger(ForgetfulDisk(record=True))
        ledger.run()
        self.assertTrue(any(ledger.lost(seed) for seed in range(5)))

    def test_a_failed_sync_acknowledges_nothing(self) -> None:
        """When the disk fails under a batch, the member ends and none of the batch is answered
        with success; what came before is there after a restart."""
        disk = SimDisk()
        member = SimulatedMember(disk)
        first = member.put(b"a", b"1")
        member.settle()
        disk.fail_when(lambda number, name, path: OSError(5, "gone") if "sync" in name else None)
        second = member.put(b"b", b"2")
        member.settle()
        self.assertIsNotNone(first.body)
        self.assertIsNone(second.body)
        self.assertEqual(len(member.fatal), 1)
        disk.heal()
        disk.crash(Random(4))
        self.assertEqual(SimulatedMember(disk).value(b"a"), b"1")

    def test_a_failed_sync_leaves_the_keyspace_behind(self) -> None:
        """What was applied while the sync that failed was under way may be gone from the log, so it
        gets to the keyspace neither by and by nor at the end: the next start would refuse it."""
        disk = SimDisk(record=True)
        member = SimulatedMember(disk)
        member.put(b"a", b"1")
        member.settle()
        member.backend.commit()
        member.clock.advance(1)
        before = len(disk.journal)
        disk.fail_when(lambda number, name, path: OSError(5, "gone") if "sync" in name else None)
        member.put(b"b", b"2")
        member.settle()
        member.clock.advance(1)
        member.backend.commit()
        member.backend.crash()
        found = [state for moment, state in disk.states(Random(4)) if moment <= before][-1]
        restarted = SimulatedMember(found, member.backend)
        self.assertEqual((restarted.value(b"a"), restarted.value(b"b")), (b"1", None))
