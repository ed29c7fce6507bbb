"""A member's log: what its disk holds, and behind that what is not durable yet."""

from __future__ import annotations

from collections.abc import Sequence

from etcdtw.raft.errors import LogCompacted, LogLost, LogUnavailable
from etcdtw.raft.interfaces import ILogView
from etcdtw.raft.messages import Entry, EntryType, Snapshot
from etcdtw.raft.sizes import count_max, within_bytes

SCAN_BYTES = 1 << 20
"""How much of the log is looked at in one piece."""


class RaftLog:
    """The whole log, durable or not, and how far it is committed, handed out and applied.

    ::

        view:     first ......... durable ...  (its tail past durable may be overwritten)
        unstable:                 durable+1 ... taken ... last_index

    Invariants: ``applied <= offered <= committed <= last_index``, ``offered <= durable <= taken <=
    last_index``. ``_unstable[0]`` has index ``durable + 1``. Committed entries never change. While
    ``snapshot`` is set the disk's entries do not count: it stands for all up to ``durable``.
    """

    __slots__ = (
        "_unstable",
        "_view",
        "applied",
        "committed",
        "durable",
        "last_index",
        "offered",
        "snapshot",
        "snapshot_taken",
        "taken",
    )

    def __init__(self, view: ILogView, commit: int, applied: int) -> None:
        self._view = view
        self._unstable: list[Entry] = []
        compacted = view.first_index() - 1
        self.last_index: int = view.last_index()
        """Index of the last entry, durable or not."""
        self.durable = self.last_index
        """Everything up to here is on disk and will be there after a crash."""
        self.taken = self.last_index
        """Everything up to here was given out to be made durable."""
        self.applied = max(applied, compacted)
        """The state machine has applied everything up to here."""
        self.offered = self.applied
        """Everything up to here was given out to be applied."""
        self.committed = max(commit, self.applied)
        """A majority is known to hold everything up to here."""
        self.snapshot: Snapshot | None = None
        """A snapshot received from the leader that is not durable yet."""
        self.snapshot_taken = False
        if self.committed > self.last_index:
            raise LogLost(
                f"the log ends at entry {self.last_index} but {self.committed} was committed"
            )

    # --- reading -------------------------------------------------------------------------------

    @property
    def first_index(self) -> int:
        """Index of the first entry that can be read."""
        if self.snapshot is not None:
            return self.snapshot.index + 1
        return self._view.first_index()

    def term(self, index: int) -> int:
        """The entry's term; raises LogCompacted or LogUnavailable as ILogView does."""
        position = index - self.durable
        if position > 0:
            if position > len(self._unstable):
                raise LogUnavailable(f"entry {index} is past the last one, {self.last_index}")
            return self._unstable[position - 1].term
        if self.snapshot is not None:
            if position == 0:
                return self.snapshot.term
            raise LogCompacted(f"entry {index} is gone, a snapshot replaces it")
        return self._view.term(index)

    def last_term(self) -> int:
        return self.term(self.last_index)

    def matches(self, index: int, term: int) -> bool:
        """Whether the log holds an entry with this index and term (or 0 and 0)."""
        if index > self.last_index:
            return False
        try:
            return self.term(index) == term
        except LogCompacted:
            return False

    def entries_from(self, lo: int, max_bytes: int | None) -> list[Entry]:
        """Entries from ``lo`` on: as many as fit in ``max_bytes``, at least one if any is left."""
        last = self.last_index
        if lo > last:
            return []
        hi = min(last, lo - 1 + count_max(max_bytes, last - lo + 1)) + 1
        start = lo - self.durable - 1
        if start >= 0:
            return within_bytes(self._unstable[start : start + hi - lo], max_bytes)
        if self.snapshot is not None:
            raise LogCompacted(f"entry {lo} is gone, a snapshot replaces it")
        held = min(hi, self.durable + 1)
        entries = self._view.entries(lo, held, max_bytes)
        if held == hi or len(entries) < held - lo:
            return entries
        return within_bytes(entries + self._unstable[: hi - held], max_bytes)

    def load_snapshot(self) -> Snapshot:
        """A snapshot for a follower; raises SnapshotTemporarilyUnavailable as ILogView does."""
        return self._view.snapshot()

    def has_conf_change(self, lo: int, hi: int) -> bool:
        """Whether one of the entries ``lo <= index < hi`` changes the configuration."""
        while lo < hi:
            entries = self.entries_from(lo, SCAN_BYTES)[: hi - lo]
            if any(each.type != EntryType.NORMAL for each in entries):
                return True
            lo += len(entries)
        return False

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends so is at least as up to date as this one (Raft 5.4.1)."""
        last_term = self.last_term()
        return term > last_term or (term == last_term and index >= self.last_index)

    def conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """The highest entry up to ``index`` whose term is at most ``term``: its index and term.

        An append that failed with (index, term) can only fit there or below. The term is 0 when
        it is not known any more.
        """
        while index > 0:
            try:
                ours = self.term(index)
            except (LogCompacted, LogUnavailable):
                return index, 0
            if ours <= term:
                return index, ours
            index -= 1
        return 0, 0

    # --- growing -------------------------------------------------------------------------------

    def append(self, entries: list[Entry]) -> None:
        """Add entries that follow the last one."""
        self._unstable += entries
        self.last_index += len(entries)

    def follow(
        self, prev_index: int, prev_term: int, commit: int, entries: Sequence[Entry]
    ) -> int | None:
        """Take over entries of a leader that come after (prev_index, prev_term) (Raft 5.3).

        What conflicts is overwritten, what is there already stays. The index up to which the logs
        agree now, or None when there is no such previous entry.
        """
        if not self.matches(prev_index, prev_term):
            return None
        last_new = prev_index + len(entries)
        for position, entry in enumerate(entries):
            if not self.matches(entry.index, entry.term):
                self._overwrite(list(entries[position:]))
                break
        self.commit_to(min(commit, last_new))
        return last_new

    def _overwrite(self, entries: list[Entry]) -> None:
        after = entries[0].index - 1
        assert after >= self.committed, (
            f"entry {after + 1} conflicts with one that was committed, up to {self.committed}"
        )
        if after < self.durable:
            self._unstable = entries
            self.durable = after
        else:
            del self._unstable[after - self.durable :]
            self._unstable += entries
        self.taken = min(self.taken, after)
        self.last_index = entries[-1].index

    def restore(self, snapshot: Snapshot) -> None:
        """Start over from a leader's snapshot; it is given out to be made durable."""
        self.snapshot = snapshot
        self.snapshot_taken = False
        self._unstable = []
        self.last_index = self.durable = self.taken = self.committed = snapshot.index

    def commit_to(self, index: int) -> None:
        """A majority holds everything up to ``index``; never goes back."""
        if index <= self.committed:
            return
        if index > self.last_index:
            raise LogLost(
                f"entry {index} is committed but the log ends at {self.last_index}: "
                "was the log corrupted, truncated or lost?"
            )
        self.committed = index

    # --- given out -----------------------------------------------------------------------------

    @property
    def has_untaken_snapshot(self) -> bool:
        """Whether a received snapshot waits to be made durable."""
        return self.snapshot is not None and not self.snapshot_taken

    def take_snapshot(self) -> Snapshot | None:
        """The received snapshot; it is not given out again."""
        self.snapshot_taken = True
        return self.snapshot

    def take_unstable(self) -> list[Entry]:
        """The entries that wait to be made durable; they are not given out again."""
        start = self.taken - self.durable
        self.taken = self.last_index
        return self._unstable[start:] if start else self._unstable.copy()

    def taken_is_durable(self, snapshot: Snapshot | None) -> None:
        """What was taken is on disk now, except what was overwritten in the meantime."""
        if snapshot is not None and self.snapshot is snapshot:
            self.snapshot = None
            self.applied = max(self.applied, snapshot.index)
            self.offered = max(self.offered, snapshot.index)
        count = self.taken - self.durable
        if count:
            if count == len(self._unstable):
                self._unstable = []
            else:
                del self._unstable[:count]
            self.durable = self.taken
            assert self._view.last_index() >= self.durable, "persisted without the log's append"

    @property
    def committed_taken(self) -> int:
        """How much of what was given out to be made durable is committed, 0 while a snapshot is to
        replace it. What was given out after that may have been overwritten here since."""
        return min(self.committed, self.taken) if self.snapshot is None else 0

    @property
    def has_committed(self) -> bool:
        """Whether committed entries wait to be applied that are durable here."""
        offered = self.offered
        return offered < self.committed and offered < self.durable and self.snapshot is None

    def take_committed(self, max_bytes: int) -> list[Entry]:
        """The next committed and durable entries; they are not given out again."""
        hi = min(self.committed, self.durable) + 1
        entries: list[Entry] = self._view.entries(self.offered + 1, hi, max_bytes)
        self.offered = entries[-1].index
        return entries

    def applied_to(self, index: int) -> None:
        """The state machine has applied everything up to ``index``."""
        assert self.applied <= index <= self.committed, (
            f"applied {index} is not between {self.applied} and {self.committed}"
        )
        self.applied = index
        self.offered = max(self.offered, index)
