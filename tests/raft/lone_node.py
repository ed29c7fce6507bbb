"""One node and its disk, for tests that play the other members by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from etcdtw.raft import MemoryLog, RaftConfig, RaftNode, ReadState, Ready, StateType
from etcdtw.raft.messages import ConfState, Entry, EntryType, HardState, Message, MessageType


class FixedDice:
    """Always the same face."""

    def __init__(self, face: int = 0) -> None:
        self.face = face

    def randrange(self, stop: int, /) -> int:
        return min(self.face, stop - 1)


def entry(term: int, index: int, data: bytes | None = None) -> Entry:
    return Entry(term=term, index=index, type=EntryType.NORMAL, data=data)


def entries_of(terms: Sequence[int], first_index: int = 1) -> list[Entry]:
    """A log given by the terms of its entries."""
    return [entry(term, index) for index, term in enumerate(terms, first_index)]


class LoneNode:
    """A node with ``terms`` in its log; ``settle`` honours its Readies and keeps what they say."""

    def __init__(
        self,
        *,
        voters: Sequence[int] = (1, 2, 3),
        learners: Sequence[int] = (),
        terms: Sequence[int] = (),
        term: int = 0,
        vote: int = 0,
        commit: int = 0,
        dice_face: int = 0,
        **settings: Any,
    ) -> None:
        self.log = MemoryLog(
            HardState(term=term, vote=vote, commit=commit),
            ConfState(voters=tuple(voters), learners=tuple(learners)),
        )
        self.log.append(entries_of(terms))
        config = RaftConfig(**{"id": 1, "pre_vote": False, "check_quorum": False, **settings})
        self.node = RaftNode(config, self.log, FixedDice(dice_face))
        self.applied: list[Entry] = []
        self.reads: list[ReadState] = []

    def settle(self) -> list[Message]:
        """Honour all Readies; the messages that left meanwhile, in their order."""
        sent: list[Message] = []
        node = self.node
        while (ready := node.take_ready()) is not None:
            sent += ready.messages
            if ready.hard_state is not None:
                self.log.set_hard_state(ready.hard_state)
            if ready.snapshot is not None:
                self.log.apply_snapshot(ready.snapshot)
            self.log.append(ready.entries)
            sent += ready.after_persist
            node.persisted(ready)
            self.applied += ready.committed
            self.reads += ready.read_states
            if ready.committed:
                node.applied_to(ready.committed[-1].index)
        return sent

    def hear(self, kind: MessageType, from_: int = 2, **fields: Any) -> list[Message]:
        """Step one message in the node's own term, unless told otherwise, and settle."""
        fields.setdefault("term", self.node.term)
        self.node.step(Message(type=kind, to=self.node.id, from_=from_, **fields))
        return self.settle()

    def tick(self, count: int = 1) -> list[Message]:
        """Let time pass."""
        sent: list[Message] = []
        for _ in range(count):
            self.node.tick()
            sent += self.settle()
        return sent

    def lead(self) -> list[Message]:
        """Win an election with the vote of member 2, if one is needed."""
        self.node.campaign()
        sent = self.settle()
        if self.node.state is StateType.CANDIDATE:
            sent += self.hear(MessageType.VOTE_RESP)
        assert self.node.state is StateType.LEADER, "the election was lost"
        return sent

    def acknowledge(self, *members: int, index: int | None = None) -> list[Message]:
        """Members report to hold the log up to ``index``, or all of it."""
        sent: list[Message] = []
        for each in members:
            held = self.node.last_index if index is None else index
            sent += self.hear(MessageType.APP_RESP, each, index=held)
        return sent

    def log_terms(self) -> list[int]:
        first, last = self.log.first_index(), self.log.last_index()
        return [each.term for each in self.log.entries(first, last + 1, None)]


def ready_of(node: RaftNode) -> Ready:
    """The next Ready, where there must be one."""
    ready = node.take_ready()
    assert ready is not None, "there is nothing to do"
    return ready


def of_type(messages: Sequence[Message], *kinds: MessageType) -> list[Message]:
    return [each for each in messages if each.type in kinds]
