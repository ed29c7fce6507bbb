"""What must hold in every simulated cluster, whatever fails.

The properties are those of the Raft paper, figure 3, and what clients rely on. A checker watches;
it never changes anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from etcdtw.raft.messages import Entry

if TYPE_CHECKING:
    from etcdtw.testing.cluster_machine import LedgerMachine


class Checkers:
    """Collects ``violations``, one sentence each; the first one is the one to look at.

    ``committed`` has, for every index that any member applied: its entry, the digest after it, and
    the term of the member that applied it first.
    """

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.committed: dict[int, tuple[Entry, bytes, int]] = {}
        self.acknowledged: dict[int, str] = {}
        self._events: dict[int, tuple[bytes, ...]] = {}
        self._leaders: dict[int, int] = {}
        self._entries: dict[tuple[int, int], tuple[Entry, int]] = {}

    def violated(self, rule: str, what: str) -> None:
        self.violations.append(f"{rule}: {what}")

    # --- reported by members -------------------------------------------------------------------

    def leads(self, member_id: int, term: int, last_terms: dict[int, int], first: int = 1) -> None:
        """A member leads in ``term``; ``last_terms`` has the term of each entry in its log, from
        index ``first`` on."""
        other = self._leaders.setdefault(term, member_id)
        if other != member_id:
            self.violated("election safety", f"{other} and {member_id} both lead term {term}")
            return
        for index, (entry, _, seen_term) in self.committed.items():
            if index >= first and seen_term < term and last_terms.get(index) != entry.term:
                self.violated(
                    "leader completeness",
                    f"{member_id} leads term {term} without entry {index} of term {entry.term}, "
                    f"which was committed by term {seen_term}",
                )
                return

    @property
    def leaders(self) -> int:
        """How many terms have had one."""
        return len(self._leaders)

    def has_led(self, member_id: int, term: int) -> bool:
        """Whether this leader has been checked already."""
        return self._leaders.get(term) == member_id

    def appended(self, member_id: int, entries: Sequence[Entry], previous_term: int) -> None:
        """A member put entries into its log, the first one behind one of ``previous_term``."""
        for entry in entries:
            known = self._entries.setdefault((entry.index, entry.term), (entry, previous_term))
            if known != (entry, previous_term):
                self.violated(
                    "log matching",
                    f"entry {entry.index} of term {entry.term} in the log of {member_id} is not "
                    "what another log has there",
                )
                return
            previous_term = entry.term

    def applied(self, member_id: int, term: int, before: int, entry: Entry, digest: bytes) -> None:
        """A member, in ``term``, applied an entry after the one at index ``before``; ``digest`` is
        that of its state afterwards, empty where it is not known."""
        if entry.index != before + 1:
            self.violated("apply order", f"{member_id} applied {entry.index} after {before}")
            return
        known = self.committed.get(entry.index)
        if known is None:
            self.committed[entry.index] = (entry, digest, term)
        elif known[0] != entry:
            self.violated(
                "state machine safety",
                f"{member_id} applied another entry at index {entry.index} than others",
            )
        elif not known[1]:
            self.committed[entry.index] = (entry, digest, known[2])
        elif digest and known[1] != digest:
            self.violated("state equality", f"{member_id} differs after entry {entry.index}")

    # --- reported by clients -------------------------------------------------------------------

    def write_acknowledged(self, request_id: int, answer: str) -> None:
        """A client was told that its write took effect, and with which answer."""
        self.acknowledged[request_id] = answer

    def read_released(
        self, member_id: int, acknowledged_before: Sequence[int], machine: LedgerMachine
    ) -> None:
        """A linearizable read may run on a member. ``acknowledged_before``: what had been
        acknowledged when the read was asked for."""
        for request_id in acknowledged_before:
            if request_id not in machine.writes:
                self.violated(
                    "linearizable reads",
                    f"{member_id} lets a read run that does not see write {request_id:x}",
                )
                return

    def watched(self, member_id: int, revision: int, events: tuple[bytes, ...]) -> None:
        """A watch of all keys on a member has brought everything that a revision changed."""
        known = self._events.setdefault(revision, events)
        if known != events:
            self.violated(
                "watch", f"revision {revision} brought other events on {member_id} than elsewhere"
            )

    # --- at the end, with everything healed ------------------------------------------------------

    def finished(self, machines: dict[int, LedgerMachine]) -> None:
        """All members had time to catch up: they are equal, and nothing acknowledged is lost."""
        for member_id, machine in machines.items():
            lost = [each for each in self.acknowledged if each not in machine.writes]
            if lost:
                self.violated(
                    "durability",
                    f"{member_id} has lost {len(lost)} acknowledged writes, {lost[0]:x} first",
                )
        indexes = {each: machine.applied_index for each, machine in machines.items()}
        if len(set(indexes.values())) != 1:
            self.violated("progress", f"members did not catch up with each other: {indexes}")
        elif len({machine.current_digest() for machine in machines.values()}) != 1:
            self.violated("state equality", f"members differ at index {indexes.popitem()[1]}")
