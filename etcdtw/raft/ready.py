"""What the core wants done, as one record per turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from etcdtw.raft.config import StateType
from etcdtw.raft.messages import Entry, HardState, Message, Snapshot


class SoftState(NamedTuple):
    """Who leads (0: nobody known) and what this member is; need not be saved."""

    lead: int
    state: StateType


@dataclass(frozen=True, slots=True)
class ReadState:
    """A linearizable read that was asked for with ``context`` may run once ``index`` is applied."""

    index: int
    context: bytes


class Ready:
    """One turn's work, in the order in which it must be honoured:

    1. ``messages`` may leave at once.
    2. ``snapshot``, then ``entries`` and ``hard_state``, are made durable. Entries replace those
       with the same or higher index. There is a hard state when term or vote changed or with a
       snapshot; a commit index alone is learnt again, and need not be saved.
    3. ``after_persist`` may leave once that is done, and ``persisted`` is called. It is empty when
       there is nothing to make durable.
    4. ``committed`` are applied in order, after the snapshot if there is one, and ``applied_to``
       is called. They are durable here already; this need not wait for step 2. When there are
       none, step 3 may have brought some: see ``RaftNode.take_committed``.
    5. ``read_states`` release reads once their index is applied.
    """

    soft_state: SoftState | None = None
    hard_state: HardState | None = None
    entries: Sequence[Entry] = ()
    snapshot: Snapshot | None = None
    committed: Sequence[Entry] = ()
    messages: Sequence[Message] = ()
    after_persist: Sequence[Message] = ()
    read_states: Sequence[ReadState] = ()

    @property
    def is_durable_work(self) -> bool:
        """Whether ``persisted`` must be called before more durable work is given out."""
        return bool(self.entries) or self.hard_state is not None or self.snapshot is not None
