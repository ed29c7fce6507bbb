"""Members with a bug each, to see that the checkers find it."""

from __future__ import annotations

from etcdtw.raft import RaftNode, StateType
from etcdtw.raft.messages import Entry, HardState
from etcdtw.raft.state_machine import Proposed
from etcdtw.replica.durable import DurableLog
from etcdtw.replica.reads import Waiter
from etcdtw.replica.replica import Replica
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.testing.cluster_etcd import EtcdMachine
from etcdtw.testing.cluster_machine import LedgerMachine, OnApplied


class AcksBeforeSync(DurableLog):
    """Says that data is durable while the sync is still under way."""

    def syncs_in_turn(self, others_wait: bool) -> bool:
        return True

    def sync(self) -> None:
        self._worker.run(super().sync, lambda _: None, lambda _: None)


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


class ReadsAtOnce(Replica):
    """Answers linearizable reads without asking anybody."""

    def read(self, waiter: Waiter) -> None:
        waiter(None)


class NeverCampaigns(RaftNode):
    """Waits for others to stand for leader."""

    def tick(self) -> None:
        if self.state is StateType.LEADER:
            super().tick()


class RemembersItsOwn(LedgerMachine):
    """Lets something local into the replicated state."""

    def apply(self, entry: Entry, proposal: Proposed | None) -> object:
        if proposal is not None and entry.data:  # only the member that proposed it knows
            self.digest += b"mine"
        return super().apply(entry, proposal)


class ReplaysTwice(EtcdMachine):
    """Applies what its backend holds already once more after a restart."""

    def __init__(self, on_applied: OnApplied, backend: MemoryBackend) -> None:
        super().__init__(on_applied, backend)
        self._applier._consistent_index = 0
