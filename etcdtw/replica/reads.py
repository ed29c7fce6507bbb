"""Linearizable reads: everybody who waits in a turn shares one round of the read index.

Raft thesis section 6.4: the leader notes its commit index, proves by a round of heartbeats that it
still leads, and the read may run once that index has been applied here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from etcdtw.errors import EtcdError, LeaderChanged, TimedOut
from etcdtw.ids import RequestIds
from etcdtw.raft import RaftNode, ReadState

RETRY_SECONDS = 0.5
"""A round that brought no answer is asked again under a new id; any of its ids counts."""

Waiter = Callable[[EtcdError | None], None]

log = Logger(namespace="etcdtw.replica")


class _Round:
    __slots__ = ("contexts", "retry_at", "waiters")

    def __init__(self, waiters: list[tuple[float, Waiter]]) -> None:
        self.waiters = waiters
        self.contexts: set[bytes] = set()
        self.retry_at = 0.0


class ReadQueue:
    """Those who wait for a read index, and those whose index is known but not yet applied."""

    def __init__(self, ids: RequestIds, timeout_seconds: float) -> None:
        self._ids = ids
        self._timeout = timeout_seconds
        self._new: list[tuple[float, Waiter]] = []
        self._round: _Round | None = None
        self._at_index: list[tuple[int, list[tuple[float, Waiter]]]] = []
        self.slow_rounds = 0
        """Rounds that had to be asked again, each time counted."""

    @property
    def waiting(self) -> bool:
        """Whether anybody waits."""
        return bool(self._new or self._round or self._at_index)

    def add(self, waiter: Waiter, now: float) -> None:
        self._new.append((now + self._timeout, waiter))

    def hand_over(self, node: RaftNode, now: float) -> None:
        """Begin a round when none is under way; repeat one that got no answer."""
        if self._round is None:
            if not self._new:
                return
            self._round = _Round(self._new)
            self._new = []
        if now >= self._round.retry_at:
            if self._round.contexts:
                self.slow_rounds += 1
                log.warn(
                    "waiting for ReadIndex response took too long, retrying",
                    retry_timeout=f"{1000 * RETRY_SECONDS:g}ms",
                )
            context = self._ids.next().to_bytes(8, "big")
            self._round.contexts.add(context)
            self._round.retry_at = now + RETRY_SECONDS
            node.read_index(context)

    def answered(self, states: Sequence[ReadState]) -> None:
        current = self._round
        for state in states:
            if current is not None and state.context in current.contexts:
                self._at_index.append((state.index, current.waiters))
                self._round = current = None

    def release(self, applied: int) -> None:
        """Run the reads whose index has been applied."""
        while self._at_index and self._at_index[0][0] <= applied:
            for _, waiter in self._at_index.pop(0)[1]:
                waiter(None)

    def wants_turn(self) -> bool:
        return self._round is None and bool(self._new)

    def leader_changed(self) -> None:
        """A round asked of the old leader will not be answered."""
        if self._round is not None:
            waiters, self._round = self._round.waiters, None
            for _, waiter in waiters:
                waiter(LeaderChanged())

    def expire(self, now: float) -> int:
        """Answer those that waited too long, and say how many."""
        before = self._waiting()
        if self._round is not None:
            self._round.waiters = self._still_in_time(self._round.waiters, now)
            if not self._round.waiters:
                self._round = None
        self._new = self._still_in_time(self._new, now)
        return before - self._waiting()

    def _waiting(self) -> int:
        return len(self._new) + (len(self._round.waiters) if self._round is not None else 0)

    def fail_all(self, error: EtcdError) -> None:
        waiters = self._new
        self._new = []
        if self._round is not None:
            waiters = self._round.waiters + waiters
            self._round = None
        for _, more in self._at_index:
            waiters = more + waiters
        self._at_index = []
        for _, waiter in waiters:
            waiter(error)

    @staticmethod
    def _still_in_time(
        waiters: list[tuple[float, Waiter]], now: float
    ) -> list[tuple[float, Waiter]]:
        if not waiters or waiters[0][0] > now:
            return waiters
        for deadline, waiter in waiters:
            if deadline <= now:
                waiter(TimedOut())
        return [each for each in waiters if each[0] > now]
