"""A log in memory: the tail of the WAL in a member, the whole log in tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zope.interface import implementer

from etcdtw.raft.errors import LogCompacted, LogUnavailable, SnapshotTemporarilyUnavailable
from etcdtw.raft.interfaces import ILogView
from etcdtw.raft.messages import ConfState, Entry, HardState, Snapshot
from etcdtw.raft.sizes import count_max, within_bytes


@implementer(ILogView)
class MemoryLog:
    """Entries in a list, from the one after the last compaction on.

    ``_entries[k]`` has index ``_base + 1 + k``. ``_base`` and ``_base_term`` are index and term of
    the last entry that is gone, 0 and 0 when none is.
    """

    def __init__(
        self, hard_state: HardState | None = None, conf_state: ConfState | None = None
    ) -> None:
        self._hard_state = hard_state if hard_state is not None else HardState()
        self._conf_state = conf_state if conf_state is not None else ConfState()
        self._entries: list[Entry] = []
        self._base = 0
        self._base_term = 0
        self._snapshot: Snapshot | None = None
        self._source: Callable[[], Snapshot] | None = None

    # --- ILogView ------------------------------------------------------------------------------

    def initial_state(self) -> tuple[HardState, ConfState]:
        return self._hard_state, self._conf_state

    def first_index(self) -> int:
        return self._base + 1

    def last_index(self) -> int:
        return self._base + len(self._entries)

    def term(self, index: int) -> int:
        position = index - self._base
        if position <= 0:
            if position == 0:
                return self._base_term
            raise LogCompacted(f"entry {index} is gone, the first one is {self._base + 1}")
        if position > len(self._entries):
            raise LogUnavailable(f"entry {index} is past the last one, {self.last_index()}")
        return self._entries[position - 1].term

    def entries(self, lo: int, hi: int, max_bytes: int | None) -> list[Entry]:
        if lo <= self._base:
            raise LogCompacted(f"entry {lo} is gone, the first one is {self._base + 1}")
        if hi - 1 > self.last_index():
            raise LogUnavailable(f"entry {hi - 1} is past the last one, {self.last_index()}")
        start = lo - self._base - 1
        return within_bytes(self._entries[start : start + count_max(max_bytes, hi - lo)], max_bytes)

    def snapshot(self) -> Snapshot:
        """From the source if one is set, else the last one created or applied."""
        if self._source is not None:
            return self._source()
        if self._snapshot is None:
            raise SnapshotTemporarilyUnavailable("no snapshot was made yet")
        return self._snapshot

    # --- its owner -----------------------------------------------------------------------------

    def set_hard_state(self, hard_state: HardState) -> None:
        """Remember what was saved last."""
        self._hard_state = hard_state

    def set_conf_state(self, conf_state: ConfState) -> None:
        """The configuration as of the applied index that the node will start from."""
        self._conf_state = conf_state

    def set_snapshot_source(self, source: Callable[[], Snapshot]) -> None:
        """Ask ``source`` for snapshots; it may raise SnapshotTemporarilyUnavailable."""
        self._source = source

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries, in place of those held with the same or a higher index.

        Entries that are compacted already are skipped; a gap is a bug of the caller.
        """
        if not entries:
            return
        position = entries[0].index - self._base - 1
        if position == len(self._entries):
            self._entries += entries
            return
        if position < 0:
            entries = entries[-position:]
            position = 0
            if not entries:
                return
        assert position <= len(self._entries), (
            f"a gap in the log: entry {entries[0].index} after {self.last_index()}"
        )
        del self._entries[position:]
        self._entries += entries

    def compact(self, index: int) -> None:
        """Forget the entries up to ``index``, which the caller has applied."""
        if index <= self._base:
            return
        self._base_term = self.term(index)
        del self._entries[: index - self._base]
        self._base = index

    def create_snapshot(self, index: int, conf_state: ConfState, data: bytes) -> Snapshot:
        """Keep a snapshot of the state as of ``index`` for followers that need one."""
        self._snapshot = Snapshot(
            data=data, conf_state=conf_state, index=index, term=self.term(index)
        )
        self._conf_state = conf_state
        return self._snapshot

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Start over from a snapshot: all entries held are dropped."""
        self._snapshot = snapshot
        self._conf_state = snapshot.conf_state
        self._base = snapshot.index
        self._base_term = snapshot.term
        self._entries = []
