"""Members with a bug each, to see that the checkers find it."""

from __future__ import annotations

from collections.abc import Callable

from etcdtw.raft.messages import Entry, HardState
from etcdtw.replica.durable import DurableLog
from etcdtw.replica.replica import Replica


class AcksBeforeSync(DurableLog):
    """Says that data is durable while the sync is still under way."""

    def sync(self, done: Callable[[], None], failed: Callable[[BaseException], None]) -> bool:
        self._worker.run(self._timed_sync, lambda _: None, failed)
        return True


class ForgetsVote(DurableLog):
    """Writes every state without the vote, so that a restart has not voted yet."""

    def append(self, hard_state: HardState | None, entries: list[Entry]) -> bool:
        if hard_state is not None:
            hard_state = hard_state._replace(vote=0)
        return super().append(hard_state, entries)


class AppliesOutOfOrder(Replica):
    """Applies each batch of committed entries from its end."""

    def _apply(self, entries: list[Entry]) -> None:
        last = entries[-1].index
        for entry in reversed(entries):
            super()._apply([entry])
        assert self.node.committed >= last, "more was applied than is committed"
