"""Snapshots of the own state: what a restart begins with, and what lets old log segments go."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from etcdtw.errors import StorageError
from etcdtw.raft.messages import NO_NODE, ConfState, HardState, Snapshot
from etcdtw.raft.state_machine import Saving
from etcdtw.replica.replica import Replica
from etcdtw.replica.slices import Slices
from etcdtw.storage.interfaces import IWorker
from etcdtw.storage.snap import SnapStore
from etcdtw.storage.wal import WalSnapshot

RETRY_SECONDS = 1.0
"""Between a snapshot that found no space and the next try."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

log = Logger(namespace="etcdtw.member")


class Durable(Protocol):
    """What is asked of the keyspace."""

    def wait_durable(self, index: int, done: Callable[[], None]) -> None: ...


class Snapshots:
    """Writes a ``.snap`` file whenever more than ``every`` entries were applied since the last.

    In this order, each step after the one before is durable: the keyspace has every applied entry;
    the ``.snap`` file has the rest of the state; the log says that the file is there; the segments
    that only older states needed are let go. A crash between any two leaves a start from the older
    snapshot, or from the new one.
    """

    def __init__(
        self,
        replica: Replica,
        keyspace: Durable,
        files: SnapStore,
        worker: IWorker,
        slices: Slices,
        clock: IReactorTime,
        every: int,
        newest: int,
    ) -> None:
        """``worker`` writes the files; ``newest`` is the index of the snapshot that this run began
        with, 0 for none."""
        self.newest = newest
        self.on_saved: list[Callable[[int], None]] = []
        self._replica = replica
        self._keyspace = keyspace
        self._files = files
        self._worker = worker
        self._slices = slices
        self._clock = clock
        self._every = every
        self._busy = False
        self._stopped = False
        self._retry: IDelayedCall | None = None
        replica.on_turn_end.append(self._turn_ended)

    def stop(self) -> None:
        """Begin nothing more; what is half done is done again after the next start."""
        self._stopped = True
        if self._retry is not None and self._retry.active():
            self._retry.cancel()

    def _turn_ended(self) -> None:
        replica = self._replica
        if replica.applied_index - self.newest > self._every and not (self._busy or self._stopped):
            self._busy = True
            index = replica.applied_index
            log.info(
                "triggering snapshot",
                local_member_applied_index=index,
                local_member_snapshot_index=self.newest,
                local_member_snapshot_count=self._every,
            )
            term, conf_state = replica.durable.tail.term(index), replica.node.conf_state()
            saving = replica.machine.begin_save()
            self._slices.run(
                saving.step, lambda: self._written_out(index, term, conf_state, saving)
            )

    def _written_out(self, index: int, term: int, conf_state: ConfState, saving: Saving) -> None:
        snapshot = Snapshot(index=index, term=term, conf_state=conf_state, data=saving.result())
        self._keyspace.wait_durable(index, lambda: self._save(snapshot))

    def _save(self, snapshot: Snapshot) -> None:
        if not self._stopped:
            self._worker.run(
                lambda: self._files.save(snapshot),
                lambda _: self._saved(snapshot),
                lambda error: self._not_saved(snapshot, error),
            )

    def _not_saved(self, snapshot: Snapshot, error: BaseException) -> None:
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            self._retry = self._clock.callLater(RETRY_SECONDS, self._save, snapshot)
        else:
            self._replica.fail(error)

    def _saved(self, snapshot: Snapshot) -> None:
        if self._stopped:
            return
        durable = self._replica.durable
        record = WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state)
        try:
            # A snapshot counts only up to the commit index that the log knows, and what was applied
            # is committed even where Raft has not handed that out yet.
            durable.flush(snapshot.index)
            durable.wal.save_snapshot(record)
        except (OSError, StorageError) as error:
            self._replica.fail(error)
            return
        durable.sync_on_worker(lambda: self._recorded(snapshot.index), self._replica.fail)

    def _recorded(self, index: int) -> None:
        if self._stopped:
            return
        self._replica.durable.wal.release_to(index)
        log.info("saved snapshot", snapshot_index=index)
        self.newest = index
        self._busy = False
        for each in self.on_saved:
            each(index)


def record_received(replica: Replica, files: SnapStore, snapshot: Snapshot, term: int) -> None:
    """Note a snapshot that another member sent in ``term``, whose database is in its place: from
    here on a start begins with it. Blocks. OSError, StorageError, after which nobody can tell what
    the log holds."""
    files.save(snapshot)
    durable, node = replica.durable, replica.node
    vote = node.vote if node.term >= term else NO_NODE
    # By way of ``append``, so that the end of this life writes no lower commit index behind it: the
    # snapshot would count no more.
    durable.append(HardState(max(node.term, term), vote, snapshot.index), [])
    durable.wal.save_snapshot(WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state))
    durable.wal.sync()
