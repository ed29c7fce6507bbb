"""What a leader knows about one member's log, and how fast it may send to it."""

from __future__ import annotations

from collections import deque
from enum import Enum


class ProgressState(Enum):
    """``PROBE``: one append at a time, to find where the logs agree. ``REPLICATE``: appends are
    sent ahead of their answers. ``SNAPSHOT``: none until the snapshot is known to have arrived."""

    PROBE = "StateProbe"
    REPLICATE = "StateReplicate"
    SNAPSHOT = "StateSnapshot"


class Inflights:
    """Appends sent and not answered: the last index of each, ascending, at most ``limit``."""

    __slots__ = ("_last_indexes", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._last_indexes: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._last_indexes)

    @property
    def full(self) -> bool:
        return len(self._last_indexes) >= self.limit

    def add(self, last_index: int) -> None:
        assert not self.full, "an append was sent although too many are in flight"
        self._last_indexes.append(last_index)

    def free_through(self, index: int) -> None:
        """The member holds everything up to ``index``."""
        pending = self._last_indexes
        while pending and pending[0] <= index:
            pending.popleft()

    def clear(self) -> None:
        self._last_indexes.clear()


class Progress:
    """One member as the leader sees it.

    Invariants: ``match < next_index``; in ``SNAPSHOT``, ``next_index == pending_snapshot + 1``
    and nothing is in flight. Outside ``REPLICATE`` nothing is in flight.
    """

    __slots__ = (
        "flow_paused",
        "inflights",
        "is_learner",
        "match",
        "next_index",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(self, next_index: int, inflight_limit: int, *, is_learner: bool = False) -> None:
        self.match = 0
        """The highest index up to which the member's log is known to equal the leader's."""
        self.next_index = next_index
        """The first index that was not sent yet."""
        self.sent_commit = 0
        """The highest commit index told to the member, as far as it can use it."""
        self.state = ProgressState.PROBE
        self.pending_snapshot = 0
        """Index of the snapshot under way, 0 when none is."""
        self.recent_active = False
        """Heard from since the last check of the quorum."""
        self.flow_paused = False
        """No append may be sent until an answer, or an answer to a heartbeat, comes."""
        self.inflights = Inflights(inflight_limit)
        self.is_learner = is_learner

    @property
    def is_paused(self) -> bool:
        return self.flow_paused or self.state is ProgressState.SNAPSHOT

    # --- transitions ---------------------------------------------------------------------------

    def become_probe(self) -> None:
        """Find out where the logs agree, behind a snapshot that was on its way if there was."""
        next_index = max(self.match, self.pending_snapshot) + 1
        self._enter(ProgressState.PROBE, next_index)
        self.sent_commit = min(self.sent_commit, next_index - 1)

    def become_replicate(self) -> None:
        """The logs agree up to ``match``: send ahead."""
        self._enter(ProgressState.REPLICATE, self.match + 1)

    def become_snapshot(self, index: int) -> None:
        """A snapshot as of ``index`` is on its way."""
        self._enter(ProgressState.SNAPSHOT, index + 1)
        self.pending_snapshot = index
        self.sent_commit = index

    def reset(self, next_index: int, match: int) -> None:
        """Forget everything: a new term begins."""
        self._enter(ProgressState.PROBE, next_index)
        self.match = match
        self.sent_commit = 0
        self.recent_active = False

    def _enter(self, state: ProgressState, next_index: int) -> None:
        self.state = state
        self.next_index = next_index
        self.pending_snapshot = 0
        self.flow_paused = False
        self.inflights.clear()

    # --- what was sent -------------------------------------------------------------------------

    def sent_entries(self, count: int) -> None:
        """An append with ``count`` entries from ``next_index`` on was sent."""
        if self.state is ProgressState.REPLICATE:
            if count:
                self.next_index += count
                self.inflights.add(self.next_index - 1)
            # The append that fills the window, or goes out although it is full, is a probe.
            self.flow_paused = self.inflights.full
        elif count:
            self.flow_paused = True

    def needs_commit(self, commit: int) -> bool:
        """Whether telling ``commit`` now lets the member commit more than what it was told."""
        return commit > self.sent_commit and self.sent_commit < self.next_index - 1

    # --- what was answered ---------------------------------------------------------------------

    def accepted(self, index: int) -> bool:
        """The member holds everything up to ``index``. False when that is old news."""
        if index <= self.match:
            return False
        self.match = index
        self.next_index = max(self.next_index, index + 1)
        self.flow_paused = False
        return True

    def rejected(self, index: int, hint: int) -> bool:
        """The append after ``index`` did not fit; the logs may agree at ``hint``.

        False when the answer is late: about something that was settled or sent again since.
        """
        if self.state is ProgressState.REPLICATE:
            if index <= self.match:
                return False
            self.next_index = self.match + 1
        else:
            if self.next_index - 1 != index:
                return False
            self.next_index = max(min(index, hint + 1), self.match + 1)
            self.flow_paused = False
        self.sent_commit = min(self.sent_commit, self.next_index - 1)
        return True

    def __str__(self) -> str:
        parts = [f"{self.state.value} match={self.match} next={self.next_index}"]
        if self.is_learner:
            parts.append("learner")
        if self.is_paused:
            parts.append("paused")
        if self.pending_snapshot:
            parts.append(f"pendingSnap={self.pending_snapshot}")
        if not self.recent_active:
            parts.append("inactive")
        if self.inflights:
            parts.append(f"inflight={len(self.inflights)}{'[full]' * self.inflights.full}")
        return " ".join(parts)
