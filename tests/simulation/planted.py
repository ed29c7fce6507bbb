"""Members with a bug each, to see that the checkers find it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from etcdtw.mvcc.store import Store
from etcdtw.mvcc.watch_events import EventBatch
from etcdtw.pb.raft_internal_pb2 import InternalRaftRequest
from etcdtw.raft import RaftConfig, RaftNode, Ready, StateType
from etcdtw.raft.interfaces import ILogView
from etcdtw.raft.log import RaftLog
from etcdtw.raft.messages import ConfChange, ConfState, Entry, HardState
from etcdtw.raft.state import Dice
from etcdtw.raft.state_machine import Proposed
from etcdtw.replica.durable import DurableLog
from etcdtw.replica.reads import Waiter
from etcdtw.replica.replica import Replica
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.testing.cluster_etcd import EtcdMachine
from etcdtw.testing.cluster_machine import LedgerMachine, OnApplied
from etcdtw.testing.cluster_watch import Watching


class AcksBeforeSync(DurableLog):
    """Says that data is durable while the sync is still under way."""

    def syncs_in_turn(self, others_wait: bool) -> bool:
        return True

    def sync(self) -> None:
        self._worker.run(super().sync, lambda _: None, lambda _: None)


class ForgetsVote(DurableLog):
    """Writes every state without the vote, so that a restart has not voted yet."""

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> bool:
        if hard_state is not None:
            hard_state = hard_state._replace(vote=0)
        return super().append(hard_state, entries)


class TakesBackSnapshots(DurableLog):
    """Notes a received snapshot, and at the end of the life the lower commit index of before."""

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> bool:
        if hard_state is not None and hard_state.commit > self.tail.last_index():
            return self.wal.append(hard_state, entries)
        return super().append(hard_state, entries)


class AppliesOutOfOrder(Replica):
    """Applies each batch of committed entries from its end."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        apply = self._applying.apply

        def backwards(entries: Sequence[Entry]) -> None:
            for entry in reversed(entries):
                apply([entry])

        self._applying.apply = backwards  # type: ignore[method-assign]


class ReadsAtOnce(Replica):
    """Answers linearizable reads without asking anybody."""

    def read(self, waiter: Waiter) -> None:
        waiter(None)


class CallsReplacedCommitted(Replica):
    """Writes the newest commit index beside whatever its log ends with, also while that is being
    replaced by another leader's entries."""

    def _flush(self) -> None:
        self.durable.flush(min(self.node.committed, self.durable.tail.last_index()))


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


class _LaxLog(RaftLog):
    __slots__ = ()

    def is_up_to_date(self, index: int, term: int) -> bool:
        return True


class VotesForAnybody(RaftNode):
    """Does not compare logs before it votes."""

    def __init__(self, config: RaftConfig, log: ILogView, dice: Dice) -> None:
        super().__init__(config, log, dice)
        self._raft.log.__class__ = _LaxLog


class CommitsAlone(RaftNode):
    """As a leader, takes what its own disk holds for committed."""

    def persisted(self, ready: Ready) -> None:
        super().persisted(ready)
        raft = self._raft
        if raft.state is StateType.LEADER and raft.log.term(raft.log.durable) == raft.term:
            raft.log.commit_to(raft.log.durable)


class ReadsByLease(RaftNode):
    """Trusts its clock instead of asking a majority before a read."""

    def __init__(self, config: RaftConfig, log: ILogView, dice: Dice) -> None:
        super().__init__(replace(config, read_only="lease"), log, dice)


class LosesConfChanges(RaftNode):
    """As a follower, does not put changes of the configuration into force."""

    def apply_conf_change(self, cc: ConfChange) -> ConfState:
        if self.state is not StateType.LEADER and self.committed > 10:
            return self.conf_state()
        return super().apply_conf_change(cc)


class StateUnsynced(DurableLog):
    """Writes term and vote, and does not wait until they are durable."""

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> bool:
        return super().append(hard_state, entries) and bool(entries)


class KeepsDeleted(EtcdMachine):
    """Everybody answers a deletion, and nobody does it."""

    def apply(self, entry: Entry, proposal: Proposed | None) -> object:
        if entry.data:
            request = InternalRaftRequest.FromString(entry.data)
            if request.HasField("delete_range"):
                request.delete_range.key += b"?"
                request.delete_range.range_end = b""
                entry = entry._replace(data=request.SerializeToString())
                proposal = None
        return super().apply(entry, proposal)


class _SkipsSnapshots(Watching):
    def begin(self, store: Store) -> None:
        again = self._hub is not None
        super().begin(store)
        if again:
            assert self._hub is not None and self._watch is not None, "nobody watches"
            self._hub.cancel(self._watch)
            self._watch = None
            self.next_revision, due = store.revision + 1, self.next_revision
            self._add()
            self.next_revision = due


class SkipsSnapshots(EtcdMachine):
    """Watches go on behind a received snapshot, without what happened in it."""

    def watch(self, watching: Watching) -> None:
        watching.__class__ = _SkipsSnapshots
        super().watch(watching)


class _Distracted(Watching):
    def got(self, batch: EventBatch) -> None:
        if batch.revision % 8:
            super().got(batch)


class SkipsEvents(EtcdMachine):
    """Some of what is sent to those who watch does not arrive."""

    def watch(self, watching: Watching) -> None:
        watching.__class__ = _Distracted
        super().watch(watching)
