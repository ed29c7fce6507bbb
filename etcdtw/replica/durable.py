"""The durable side of a replica: the WAL, its in-memory tail, and where a sync runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from twisted.logger import Logger

from etcdtw.counting import Histogram, doubling
from etcdtw.raft import MemoryLog
from etcdtw.raft.messages import Entry, HardState
from etcdtw.storage.interfaces import IWorker
from etcdtw.storage.wal import Wal

CATCH_UP_ENTRIES = 5000
"""Entries kept in memory behind the applied index, for followers that lag (etcd's default)."""

NEEDED_ENTRIES_MAX = 1_000_000
"""Entries that are kept behind the applied index at most, whoever else needs them."""

PREPARE_AGAIN_SECONDS = 10.0
"""After a segment that could not be prepared. On a disk that is nearly full each try takes the rest
of it for a moment, which others may need just then."""

SLOW_SYNC_SECONDS = 1.0
"""A sync that takes longer is told."""

_SPIKE_SECONDS = 0.02

log = Logger(namespace="etcdtw.wal")


class DurableLog:
    """Appends to the WAL and its in-memory tail, and syncs.

    A sync blocks. While the last ones were short (moving average below ``inline_seconds``) it runs
    right here, which is quickest for a lone writer and for batches alike. On a slower disk it runs
    on the worker, so that the reactor stays free for those who do not wait for the disk; when
    nobody else asked for anything lately there is nobody to stay free for, and a sync may take
    ten times as long before it moves. A reactor that is kept busy starves a thread, which is why
    the thread is the exception.
    """

    def __init__(
        self,
        wal: Wal,
        tail: MemoryLog,
        worker: IWorker,
        background: IWorker,
        inline_seconds: float = 0.001,
        catch_up_entries: int = CATCH_UP_ENTRIES,
        clock_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """``worker`` syncs; ``background`` prepares segments, which takes longer than a sync may
        wait for. What a sync takes is real time; ``clock_seconds`` is that of the member."""
        self.wal = wal
        self.tail = tail
        self._worker = worker
        self._background = background
        self._inline_seconds = inline_seconds
        self._catch_up_entries = catch_up_entries
        self._average_seconds = 0.0
        self._saved_state, _ = tail.initial_state()
        self._preparing = False
        self._clock_seconds = clock_seconds
        self._prepare_after = 0.0
        self.sync_seconds = Histogram(doubling(0.001, 14))
        self.last_sync_seconds = 0.0
        self.disk_is_busy: Callable[[], bool] = lambda: False
        """Whether somebody else has much to write just now, so that any sync may take long."""

        self.needed_from: Callable[[], int | None] = lambda: None
        """The index behind which somebody will need all entries; None: nobody does."""

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> bool:
        """Hand both to the WAL; True when a sync must follow before anybody may rely on them."""
        if hard_state is not None:
            self._saved_state = hard_state
        must_sync = self.wal.append(hard_state, entries)
        if entries:
            self.tail.append(entries)
        if self.wal.wants_next_segment and not self._preparing:
            self._prepare()
        return must_sync

    def syncs_in_turn(self, others_wait: bool) -> bool:
        """Whether the disk is quick enough for a sync in the turn; ``others_wait`` tells whether
        anybody would miss the reactor meanwhile."""
        limit = self._inline_seconds if others_wait else 10 * self._inline_seconds
        return self._average_seconds < limit and not self.disk_is_busy()

    def begin_sync(self) -> None:
        """Have the disk begin with what was appended; ``sync`` must follow in this turn."""
        self.wal.begin_sync()

    def sync(self) -> None:
        """Return once everything appended is durable."""
        self._sync()
        self._tell()

    def _sync(self) -> None:
        begin = time.monotonic()
        self.wal.sync()
        # One spike (a journal commit, a neighbour's burst) must not move all syncs to the worker.
        seconds = time.monotonic() - begin
        self.sync_seconds.observe(seconds)
        self.last_sync_seconds = seconds
        self._average_seconds += (min(seconds, _SPIKE_SECONDS) - self._average_seconds) / 8

    def sync_on_worker(
        self, done: Callable[[], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Make everything appended durable; one of the two is called afterwards."""

        def synced(_: object) -> None:
            self._tell()
            done()

        self._worker.run(self._sync, synced, failed)

    def _tell(self) -> None:
        """Alerts look for these words."""
        seconds = self.last_sync_seconds
        if seconds > SLOW_SYNC_SECONDS:
            log.warn("slow fdatasync", took=f"{seconds:.3f}s", expected_duration="1s")

    def flush(self, commit: int) -> None:
        """Write a commit index that is ahead of the one written last. It is learnt again if it is
        lost, so this is for now and then and for the end, and needs no sync."""
        if commit > self._saved_state.commit:
            self._saved_state = self._saved_state._replace(commit=commit)
            self.wal.append(self._saved_state, [])

    def compact(self, applied: int) -> None:
        """Forget entries in memory that are far behind the applied index."""
        upto = applied - self._catch_up_entries
        if upto - self.tail.first_index() < self._catch_up_entries:
            return
        needed_from = self.needed_from()
        if needed_from is not None:
            upto = min(upto, max(needed_from, applied - NEEDED_ENTRIES_MAX))
        self.tail.compact(upto)

    def close(self) -> None:
        self.wal.sync()
        self.wal.close()

    def _prepare(self) -> None:
        if self._clock_seconds() >= self._prepare_after:
            self._preparing = True
            self._background.run(self.wal.prepare_next_segment, self._prepared, self._not_prepared)

    def _prepared(self, _: object) -> None:
        self._preparing = False

    def _not_prepared(self, error: BaseException) -> None:
        """The next cut makes its own segment and meets the same error where it can be told."""
        self._preparing = False
        self._prepare_after = self._clock_seconds() + PREPARE_AGAIN_SECONDS
