"""Snapshots of simulated members: of their own state, and between them.

What goes along with one is the whole backend, as between real members.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from etcdtw.errors import StorageError
from etcdtw.raft.messages import Message, Snapshot
from etcdtw.replica.catching_up import CatchingUp
from etcdtw.replica.replica import Replica
from etcdtw.replica.slices import Slices
from etcdtw.replica.snapshots import record_received
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.storage.interfaces import IWorker
from etcdtw.storage.snap import SnapStore
from etcdtw.testing.cluster_machine import LedgerMachine
from etcdtw.testing.disk import SimDisk
from etcdtw.testing.time import MemberTime

LINGER_SECONDS = 1.0
"""As long as worlds of seconds can wait for who got a snapshot; logs are to be short."""

SNAP_DIRECTORY = "/data/member/snap"


def database_path(index: int) -> str:
    """Where the backend that came with a snapshot waits for its installation."""
    return f"{SNAP_DIRECTORY}/{index:016x}.snap.db"


def dump(backend: MemoryBackend) -> bytes:
    """Everything durable in a backend, and the entry that it is as of."""
    view = backend.view("snapshot")
    records = {
        bucket.hex(): [(key.hex(), value.hex()) for key, value in view.scan(bucket, b"", None)]
        for bucket in view.buckets()
    }
    return json.dumps([(view.index, view.term), records]).encode()


def load(dumped: bytes) -> MemoryBackend:
    """The backend that was dumped, all of it durable."""
    (index, term), buckets = json.loads(dumped)
    backend = MemoryBackend(durable=True)
    for bucket, records in buckets.items():
        for key, value in records:
            backend.put(bytes.fromhex(bucket), bytes.fromhex(key), bytes.fromhex(value))
    backend.end_entry(index, term)
    backend.commit()
    return backend


def install(disk: SimDisk, backend: MemoryBackend, index: int) -> MemoryBackend:
    """The backend of a start that begins with a snapshot at ``index``: the one that came with it,
    if it came from elsewhere and ``backend`` has not got that far."""
    path = database_path(index)
    if not index or not disk.exists(path):
        return backend
    if backend.consistent_index()[0] < index:
        file = disk.open_readonly(path)
        backend = load(file.pread(file.size(), 0))
        file.close()
    disk.remove(path)
    return backend


class MemoryBody:
    """Takes a database as it comes."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)

    def write(self, data: bytes) -> None:
        self.content += data

    def discard(self) -> None:
        self.content.clear()


class SnapshotSending(Protocol):
    """The side of a transport that carries snapshots."""

    def post_snapshot(self, message: Message, body: bytes) -> None: ...


class SimExchange:
    """One life's snapshots to and from other members; ``begin_again`` as in a real member."""

    def __init__(
        self,
        replica: Replica,
        machine: LedgerMachine,
        backend: MemoryBackend,
        files: SnapStore,
        disk: SimDisk,
        slices: Slices,
        worker: IWorker,
        transport: SnapshotSending,
        clock: MemberTime,
        rare: Counter[str],
        begin_again: Callable[[int], None],
    ) -> None:
        """``begin_again`` gets the index of the snapshot to begin with."""
        self._replica = replica
        self._machine = machine
        self._backend = backend
        self._files = files
        self._disk = disk
        self._slices = slices
        self._worker = worker
        self._transport = transport
        self._rare = rare
        self._begin_again = begin_again
        self._catching_up = CatchingUp(replica.durable, clock, LINGER_SECONDS)
        self._installing = False

    def send(self, message: Message) -> None:
        """Send the state as of now to a member that is too far behind for the log."""
        replica, machine = self._replica, self._machine
        index = replica.applied_index
        term, conf_state = replica.durable.tail.term(index), replica.node.conf_state()
        saving = machine.begin_save()
        wanted = message.snapshot
        self._catching_up.begin(message.to, index if wanted is None else wanted.index)

        def saved() -> None:
            whole = message._replace(snapshot=Snapshot(index, term, conf_state, saving.result()))
            machine.wait_durable(
                index, lambda: self._transport.post_snapshot(whole, dump(self._backend))
            )

        self._slices.run(saving.step, saved)

    def snapshot_ended(self, member_id: int, ok: bool) -> None:
        """A snapshot for this member has arrived, or will not."""
        self._catching_up.end(member_id, ok)
        self._replica.snapshot_sent(member_id, ok)

    def snapshot_received(self, message: Message, store: Any, done: Callable[[str], None]) -> None:
        """Write the database of a MemoryBody down, then the rest, and begin again."""
        snapshot, replica = message.snapshot, self._replica
        assert snapshot is not None, "only snapshots come here"
        if snapshot.index <= replica.node.committed or self._installing:
            done("busy" if self._installing else "")
            return
        self._installing = True
        database = bytes(store.content)  # who sends it may be gone before it is written

        def prepared(_: object) -> None:
            if snapshot.index <= replica.node.committed:
                # Another leader had the entries meanwhile, and this member is further now.
                self._installing = False
                self._rare["received snapshot overtaken"] += 1
                path = database_path(snapshot.index)
                self._worker.run(lambda: self._disk.remove(path), lambda _: done(""), replica.fail)
                return
            try:
                record_received(replica, self._files, snapshot, message.term)
            except (OSError, StorageError) as error:
                replica.fail(error)
                return
            done("")
            self._begin_again(snapshot.index)

        self._worker.run(
            lambda: self._write(database_path(snapshot.index), database),
            prepared,
            replica.fail,
        )

    def _write(self, path: str, data: bytes) -> None:
        building = f"{SNAP_DIRECTORY}/tmp.received"
        file = self._disk.open(building, create=True, mode=0o600)
        file.truncate(0)
        file.pwrite(data, 0)
        file.sync_data()
        file.close()
        self._disk.rename(building, path)
        self._disk.sync_dir(SNAP_DIRECTORY)
