"""Requests on their way through the log, and those who wait for them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Any

from etcdtw.errors import Code, EtcdError, StatusError, TimedOut
from etcdtw.raft import ConfChangeRefused, ProposalDropped, RaftNode
from etcdtw.raft.messages import ConfChange


class Proposal:
    """One request that this member puts into the log, and who waits for its result.

    ``data`` are the entry's bytes; they hold the request id, so they are unique and serve as the
    key under which the waiter is found again when the entry is applied. ``kind`` and ``request``
    are the decoded form, which spares decoding ``data`` again.
    """

    __slots__ = ("_done", "data", "deadline", "kind", "request")

    def __init__(
        self,
        data: bytes,
        kind: str,
        request: Any,
        done: Callable[[object], None],
    ) -> None:
        self.data = data
        self.kind = kind
        self.request = request
        self._done = done
        self.deadline = 0.0

    def done(self, result: object) -> None:
        """Called once, with the result of the apply or an :class:`EtcdError`."""
        self._done(result)


Submitted = tuple[Proposal, bytes, int]
"""A proposal that has no data yet, the request's own bytes, and what it costs of the quota."""


class ConfChangeProposal(Proposal):
    """A membership change on its way through the log; etcd gives it no timeout of its own."""

    __slots__ = ()

    request: ConfChange


class ProposalQueue:
    """Proposals not yet handed to Raft, and proposals that wait to be applied.

    Both are kept in the order in which they came, and all have the same time limit, so the oldest
    are always in front.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._new: list[Proposal] = []
        self.waiting: dict[bytes, Proposal] = {}

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, proposal: Proposal, now: float) -> None:
        proposal.deadline = now + self._timeout
        self._new.append(proposal)
        self.waiting[proposal.data] = proposal

    def add_all(self, proposals: list[Proposal], now: float) -> None:
        """``add`` for each."""
        deadline = now + self._timeout
        waiting = self.waiting
        for each in proposals:
            each.deadline = deadline
            waiting[each.data] = each
        self._new += proposals

    def hand_over(self, node: RaftNode) -> None:
        """Give everything new to Raft in the order in which it came; without a leader it stays
        here. Requests between two membership changes are one batch."""
        new, self._new = self._new, []
        while new:
            first = new[0]
            try:
                if ConfChangeProposal not in set(map(type, new)):
                    taken = len(new)
                    node.propose_batch([each.data for each in new])
                elif isinstance(first, ConfChangeProposal):
                    taken = 1
                    node.propose_conf_change(first.data, first.request)
                else:
                    batch = [each.data for each in takewhile(_is_plain, new)]
                    taken = len(batch)
                    node.propose_batch(batch)
            except ProposalDropped:
                self._new = new + self._new  # an answer may have brought another request
                return
            except ConfChangeRefused as refused:
                self._drop([first], StatusError(Code.UNKNOWN, str(refused)))
            new = new[taken:]

    @property
    def new_count(self) -> int:
        """How many wait to be handed to Raft."""
        return len(self._new)

    @property
    def new_bytes(self) -> int:
        """Their size."""
        return sum(len(each.data) for each in self._new)

    def expire(self, now: float) -> int:
        """Answer those that waited too long, and say how many. Whether they take effect later is
        unknown."""
        late = []
        for proposal in self.waiting.values():
            if proposal.deadline > now:
                break
            late.append(proposal)
        if late:
            self._drop(late, TimedOut())
        return len(late)

    def fail_all(self, error: EtcdError) -> None:
        self._drop(list(self.waiting.values()), error)

    def _drop(self, proposals: list[Proposal], error: EtcdError) -> None:
        gone = {id(each) for each in proposals}
        self._new = [each for each in self._new if id(each) not in gone]
        for proposal in proposals:
            del self.waiting[proposal.data]
            proposal.done(error)


def _is_plain(proposal: Proposal) -> bool:
    return not isinstance(proposal, ConfChangeProposal)
