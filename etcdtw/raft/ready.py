"""What the core wants done, as one record per turn."""

from __future__ import annotations

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
    2. ``snapshot``, then ``entries`` and ``hard_state``, are made durable; ``must_sync`` says that
       entries, term or vote are among them. Entries replace those with the same or higher index.
    3. ``after_persist`` may leave once that is done, and ``persisted`` is called. It is empty when
       there is nothing to make durable.
    4. ``committed`` are applied in order, after the snapshot if there is one, and ``applied_to``
       is called. They are durable here already; this need not wait for step 2.
    5. ``read_states`` release reads once their index is applied.
    """

    __slots__ = (
        "after_persist",
        "committed",
        "entries",
        "hard_state",
        "messages",
        "must_sync",
        "read_states",
        "snapshot",
        "soft_state",
    )

    def __init__(self) -> None:
        self.soft_state: SoftState | None = None
        self.hard_state: HardState | None = None
        self.entries: list[Entry] = []
        self.snapshot: Snapshot | None = None
        self.committed: list[Entry] = []
        self.messages: list[Message] = []
        self.after_persist: list[Message] = []
        self.read_states: list[ReadState] = []
        self.must_sync = False

    @property
    def is_durable_work(self) -> bool:
        """Whether ``persisted`` must be called before more durable work is given out."""
        return bool(self.entries) or self.hard_state is not None or self.snapshot is not None
