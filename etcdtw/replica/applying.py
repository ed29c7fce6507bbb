"""Committed entries on their way through the state machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime

from etcdtw.raft import RaftNode
from etcdtw.raft.codec import decode_conf_change
from etcdtw.raft.messages import NO_NODE, ConfState, Entry, EntryType
from etcdtw.raft.state_machine import IStateMachine
from etcdtw.replica.backlog import Backlog
from etcdtw.replica.proposal import Proposal, ProposalQueue
from etcdtw.replica.slowness import Slowness
from etcdtw.turns import TakesTurns


class Applying:
    """Applies entries in log order, each once. One that takes several turns, or many at once,
    holds up those that come after it, and nothing else.

    ``on_applied`` callables get entries that were applied in one go, and the seconds that took;
    ``on_term_begun`` ones the empty entry that a leader begins its term with; ``on_configuration``
    ones the configuration after a change.
    """

    def __init__(
        self,
        node: RaftNode,
        machine: IStateMachine,
        proposals: ProposalQueue,
        clock: IReactorTime,
        piece_seconds: float,
        slowness: Slowness,
    ) -> None:
        """Entries that take several turns get ``piece_seconds`` of each."""
        self._node = node
        self._machine = machine
        self._proposals = proposals
        self._clock = clock
        self._piece_seconds = piece_seconds
        self._slowness = slowness
        self._backlog: Backlog | None = None
        self._answers: list[tuple[Proposal, object]] = []
        self.on_applied: list[Callable[[Sequence[Entry], float], None]] = []
        self.on_term_begun: list[Callable[[Entry], None]] = []
        self.on_configuration: list[Callable[[ConfState], None]] = []

    @property
    def is_behind(self) -> bool:
        """Whether entries wait for another turn."""
        return self._backlog is not None

    @property
    def is_amid_entry(self) -> bool:
        """Whether one is half applied."""
        return self._backlog is not None and self._backlog.entry is not None

    def take_answers(self) -> list[tuple[Proposal, object]]:
        """The requests that were applied since the last time, and their results."""
        answers, self._answers = self._answers, []
        return answers

    def apply(self, entries: Sequence[Entry]) -> None:
        """The next committed entries."""
        if self._backlog is None:
            self._apply(entries)
        else:
            self._backlog.add(entries)

    def work_off(self) -> None:
        """Go on with the entry that takes several turns, and then with those that waited for it,
        for a piece of time."""
        backlog = self._backlog
        assert backlog is not None, "nothing waits"
        until = self._clock.seconds() + self._piece_seconds
        while True:
            if backlog.entry is not None:
                if backlog.step():
                    entry, backlog.entry = backlog.entry, None
                    self._answer(entry, backlog.result)
                    self._applied([entry], backlog.begun)
            elif entries := backlog.take():
                self._apply(entries)
            else:
                self._backlog = None
                return
            if self._clock.seconds() >= until:
                return

    def _apply(self, entries: Sequence[Entry]) -> None:
        begin = self._clock.seconds()
        until = begin + self._piece_seconds
        waiting = self._proposals.waiting
        proposals = [waiting.get(entry.data or b"") for entry in entries]
        done = 0
        try:
            while done < len(entries):
                done += self._apply_run(entries, proposals, done) or self._apply_one(entries[done])
                if done < len(entries) and self._clock.seconds() > until:
                    self._backlog = self._backlog or Backlog()
                    self._backlog.put_back(entries[done:])
                    break
        except TakesTurns as large:
            self._backlog = self._backlog or Backlog()
            self._backlog.put_back(entries[done + 1 :])
            self._backlog.begin(entries[done], large.work, self._clock.seconds())
        if done:
            self._applied(entries[:done], begin)

    def _apply_run(
        self, entries: Sequence[Entry], proposals: Sequence[Proposal | None], start: int
    ) -> int:
        """How many were applied together."""
        results = self._machine.apply_run(entries, proposals, start)
        if results:
            waiting = self._proposals.waiting
            answers = self._answers
            applied = proposals[start : start + len(results)]
            for proposal, result in zip(applied, results, strict=True):
                if proposal is not None:
                    del waiting[proposal.data]
                    answers.append((proposal, result))
        return len(results)

    def _apply_one(self, entry: Entry) -> int:
        if entry.type != EntryType.NORMAL:
            self._apply_conf_change(entry)
        elif entry.data:
            result = self._machine.apply(entry, self._proposals.waiting.get(entry.data))
            self._answer(entry, result)
        else:
            self._machine.apply(entry, None)
            for each in self.on_term_begun:
                each(entry)
        return 1

    def _apply_conf_change(self, entry: Entry) -> None:
        assert entry.type == EntryType.CONF_CHANGE, f"entry type {entry.type} is never proposed"
        change = decode_conf_change(entry.data or b"")
        refused = self._machine.check_conf_change(change)
        effective = change if refused is None else change._replace(node_id=NO_NODE)
        conf_state = self._node.apply_conf_change(effective)
        result = self._machine.apply_conf_change(entry, change, conf_state, refused)
        for each in self.on_configuration:
            each(conf_state)
        self._answer(entry, result)

    def _answer(self, entry: Entry, result: object) -> None:
        proposal = self._proposals.waiting.pop(entry.data or b"", None)
        if proposal is not None:
            self._answers.append((proposal, result))

    def _applied(self, entries: Sequence[Entry], begin: float) -> None:
        self._node.applied_to(entries[-1].index)
        seconds = self._clock.seconds() - begin
        if seconds > self._slowness.notable_apply_seconds:
            self._slowness.applied(len(entries), seconds)
        for each in self.on_applied:
            each(entries, seconds)
