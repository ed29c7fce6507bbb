"""The replicated state, as the consensus side sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from zope.interface import Attribute, Interface

from etcdtw.raft.messages import ConfChange, ConfState, Entry, Snapshot


class Proposed(Protocol):
    """An entry that this member proposed itself, still in decoded form."""

    @property
    def kind(self) -> str: ...

    @property
    def request(self) -> Any: ...


class Saving(Protocol):
    """The state of one moment being written out."""

    def step(self) -> bool:
        """Do a little of it; True when it is done."""

    def result(self) -> bytes:
        """The data of a raft snapshot, once it is done."""


class Saved:
    """A state that is written out already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def step(self) -> bool:
        return True

    def result(self) -> bytes:
        return self._data


class IStateMachine(Interface):
    """The replicated state. Every call is on the reactor thread, in log order."""

    applied_index = Attribute("Index of the last entry that was applied; an int.")

    def apply(entry: Entry, proposed: Proposed | None) -> object:
        """Apply a normal entry. ``proposed`` is what this member proposed it with, or None when
        it came from elsewhere. The result goes to whoever waits; an ``EtcdError`` is returned,
        not raised, because an apply error is data.

        Raises ``TakesTurns`` for an entry that is too large for one turn: it is applied when the
        work that this holds is done, and nothing else may be applied before."""

    def apply_run(
        entries: Sequence[Entry], proposals: Sequence[Proposed | None], start: int
    ) -> Sequence[object]:
        """Apply as many entries from place ``start`` on as go quicker together, none if there are
        no such. Their results; whatever would raise or be refused is left to ``apply``. There is
        a proposal, or None, for each entry, and entries may be of any type."""

    def check_conf_change(change: ConfChange) -> Exception | None:
        """Why a committed membership change must have no effect, or None when it may."""

    def apply_conf_change(
        entry: Entry, change: ConfChange, conf_state: ConfState, refused: Exception | None
    ) -> object:
        """Record a membership change that Raft has taken over (``refused`` None) or the fact
        that it has no effect; the result goes to whoever waits."""

    def begin_save() -> Saving:
        """A job that writes out the state as of now, while later entries are applied."""

    def restore(snapshot: Snapshot) -> None:
        """Replace the state by a received snapshot."""
