"""Snapshots of the own state: when, in what order, and what a crash or a full disk does to them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.raft.messages import ConfState, Entry, HardState, MessageType, Snapshot
from etcdtw.replica.slices import Slices
from etcdtw.replica.snapshots import RETRY_SECONDS, Snapshots, record_received
from etcdtw.storage.snap import SnapStore
from etcdtw.storage.wal import WalSnapshot, valid_snapshots
from tests.replica.floor import OTHER, OWN, THIRD, Floor, HeldWorker

EVERY = 5


class Keyspace:
    """Durable when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, Callable[[], None]]] = []

    def wait_durable(self, index: int, done: Callable[[], None]) -> None:
        self.waiting.append((index, done))

    def commit(self) -> None:
        waiting, self.waiting = self.waiting, []
        for _, done in waiting:
            done()


class SnapshotsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.floor = Floor()
        self.floor.disk.makedirs("/snap")
        self.files = SnapStore(self.floor.disk, "/snap")
        self.keyspace = Keyspace()
        self.writer = HeldWorker()
        self.saved: list[int] = []
        self.snapshots = Snapshots(
            self.floor.replica,
            self.keyspace,
            self.files,
            self.writer,
            Slices(self.floor.clock),
            self.floor.clock,
            EVERY,
            0,
        )
        self.snapshots.on_saved.append(self.saved.append)
        self.floor.start()

    def write(self, count: int) -> None:
        for _ in range(count):
            self.floor.propose(f"w{self.floor.replica.applied_index}")
            self.floor.settle()

    def vouched_for(self) -> Snapshot | None:
        """The snapshot that a start after a power cut would begin from."""
        return self.files.load_newest(partial(valid_snapshots, self.floor.disk, "/wal"))

    def finish(self) -> None:
        self.keyspace.commit()
        self.writer.release()
        self.floor.finish_syncs()

    def test_when(self) -> None:
        """One is made when more entries than asked for were applied since the last."""
        applied = self.floor.replica.applied_index
        self.write(EVERY - applied)
        self.assertEqual(self.keyspace.waiting, [])
        self.write(1)
        self.assertEqual([index for index, _ in self.keyspace.waiting], [EVERY + 1])
        self.finish()
        self.assertEqual(self.saved, [EVERY + 1])
        self.write(EVERY)
        self.assertEqual(self.keyspace.waiting, [])
        self.write(1)
        self.finish()
        self.assertEqual(self.saved, [EVERY + 1, 2 * EVERY + 2])

    def test_order(self) -> None:
        """The keyspace first, then the file, then the log's record; only the last makes it count,
        and none of them holds up requests."""
        self.write(EVERY + 1 - self.floor.replica.applied_index)
        index = self.floor.replica.applied_index
        self.assertEqual(self.files.names(), [])
        self.write(1)
        self.keyspace.commit()
        self.assertEqual((self.files.names(), len(self.writer.waiting)), ([], 1))
        self.writer.release()
        self.assertEqual(len(self.files.names()), 1)
        self.assertEqual(self.saved, [])
        self.floor.finish_syncs()
        self.assertEqual(self.saved, [index])
        found = self.vouched_for()
        assert found is not None, "no snapshot counts"
        self.assertEqual((found.index, found.data), (index, b"as of %d" % index))

    def test_one_at_a_time(self) -> None:
        """While one is being made no other is begun, however many entries come."""
        self.write(4 * EVERY)
        self.assertEqual(len(self.keyspace.waiting), 1)
        self.finish()
        self.write(1)
        self.assertEqual(len(self.keyspace.waiting), 1)

    def test_full_disk(self) -> None:
        """Without space for the file the member goes on and tries again."""
        self.write(EVERY + 1)
        self.floor.disk.fail_when(
            lambda number, name, path: OSError(errno.ENOSPC, "full") if "snap" in path else None
        )
        self.finish()
        self.floor.disk.heal()
        self.assertEqual((self.floor.fatal, self.saved), ([], []))
        self.floor.clock.advance(RETRY_SECONDS)
        self.finish()
        self.assertEqual(len(self.saved), 1)

    def test_broken_disk(self) -> None:
        """Any other error ends the member."""
        self.write(EVERY + 1)
        self.floor.disk.fail_when(
            lambda number, name, path: OSError(errno.EIO, "gone") if "snap" in path else None
        )
        self.finish()
        self.assertEqual(len(self.floor.fatal), 1)

    def test_full_disk_for_the_record(self) -> None:
        """A full disk where the log is to say that the file is there ends the member: nobody knows
        what the log holds then."""
        self.write(EVERY + 1)
        wal = self.floor.replica.durable.wal
        self.patch(wal, "save_snapshot", self._no_room)
        self.finish()
        self.assertEqual([type(each) for each in self.floor.fatal], [OSError])

    def test_received(self) -> None:
        """A start begins with a snapshot that came from another member, although the life that
        received it ends with a commit index of its own to write."""
        floor = Floor((OWN, OTHER, THIRD))
        floor.disk.makedirs("/snap")
        files = SnapStore(floor.disk, "/snap")
        floor.start()
        entries = [Entry(1, index, data=b"a") for index in (1, 2)]
        floor.hear(MessageType.APP, term=1, entries=entries)
        floor.hear(MessageType.HEARTBEAT, commit=2)
        self.assertEqual(floor.stored()[0].commit, 0)
        received = Snapshot(9, 1, ConfState(voters=(OWN, OTHER, THIRD)), b"{}")
        record_received(floor.replica, files, received, 1)
        floor.replica.stop()
        found = files.load_newest(partial(valid_snapshots, floor.disk, "/wal"))
        self.assertEqual(found, received)
        self.assertEqual(floor.stored()[0], HardState(1, 0, 9))

    @staticmethod
    def _no_room(snapshot: WalSnapshot) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    def test_stop(self) -> None:
        """After a stop nothing goes on, at whatever step it came."""
        for step in range(3):
            self.setUp()
            self.write(EVERY + 1)
            if step > 0:
                self.keyspace.commit()
            if step > 1:
                self.floor.disk.fail_when(lambda *_: OSError(errno.ENOSPC, "full"))
                self.writer.release()
                self.floor.disk.heal()
            self.snapshots.stop()
            self.floor.replica.stop()
            self.floor.clock.advance(RETRY_SECONDS)
            self.finish()
            self.assertEqual(self.saved, [])
            self.assertEqual(self.floor.clock.getDelayedCalls(), [])
