"""What the core asks of the thing that keeps its log."""

from __future__ import annotations

from zope.interface import Interface

from etcdtw.raft.messages import ConfState, Entry, HardState, Snapshot


class ILogView(Interface):
    """The durable part of a member's log, readable without waiting.

    It holds the entries from ``first_index()`` to ``last_index()``; what is before them is covered
    by a snapshot. The owner appends a Ready's entries to it before it calls ``persisted``.
    """

    def initial_state() -> tuple[HardState, ConfState]:
        """The hard state that was saved last and the configuration of the last snapshot."""

    def first_index() -> int:
        """Index of the first entry held, one after the last compacted one; at least 1."""

    def last_index() -> int:
        """Index of the last entry held; ``first_index() - 1`` when there is none."""

    def term(index: int) -> int:
        """The term of an entry from ``first_index() - 1`` to ``last_index()``.

        Raises LogCompacted below and LogUnavailable above that range.
        """

    def entries(lo: int, hi: int, max_bytes: int | None) -> list[Entry]:
        """Entries with ``lo <= index < hi``: as many as fit in ``max_bytes``, at least one.

        Raises LogCompacted or LogUnavailable when ``lo`` or ``hi - 1`` is not held.
        """

    def snapshot() -> Snapshot:
        """A snapshot at or past ``first_index() - 1``.

        Raises SnapshotTemporarilyUnavailable while none can be had.
        """
