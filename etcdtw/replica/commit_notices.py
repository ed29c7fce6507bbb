"""When a leader tells the others of a new commit index."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from etcdtw.raft import RaftNode
from etcdtw.raft.messages import Message, MessageType

HOLD_SECONDS = 0.001
"""How long the next entries may take to come and bring the news along."""

GRAIN_SECONDS = 0.0001
"""What is missing to that by less is not waited for: clocks round."""

ASKED_SECONDS = 0.1
"""A member that forwarded a request is told at once for so long, at least."""

_ASKED = frozenset({MessageType.PROP, MessageType.READ_INDEX})


class CommitNotices:
    """Holds news of the commit index back for the entries that probably follow.

    Told at once, as etcd does, it costs an append without entries to every follower and an answer
    from each: half of all messages where one client writes at a time. Nobody at the leader waits
    for them. Whoever asks at a follower does, since that one answers when it has applied; so for a
    while after a request it has forwarded nothing is held from it.
    """

    def __init__(self, node: RaftNode, clock: IReactorTime, wake: Callable[[], None]) -> None:
        """``wake`` brings a turn, in which what was told is sent."""
        self._node = node
        self._clock = clock
        self._wake = wake
        self._untold_since: float | None = None
        self._timer: IDelayedCall | None = None
        self._asked_until: dict[int, float] = {}
        self._forgetting: IDelayedCall | None = None
        node.hold_commit(frozenset())

    def received(self, message: Message) -> None:
        """From a peer, before Raft takes it in."""
        if message.type not in _ASKED:
            return
        member, asked = message.from_, self._asked_until
        is_new = member not in asked
        asked[member] = self._clock.seconds() + ASKED_SECONDS
        if is_new:
            self._node.hold_commit(frozenset(asked))
            if self._forgetting is None:
                self._forgetting = self._clock.callLater(ASKED_SECONDS, self._forget)

    def turn_ended(self, now: float) -> None:
        """``now`` is when the turn began."""
        if not self._node.commit_is_untold:
            self._untold_since = None
        elif self._untold_since is None:
            self._untold_since = now
            if self._timer is None:
                self._timer = self._clock.callLater(HOLD_SECONDS, self._look)

    def stop(self) -> None:
        for call in (self._timer, self._forgetting):
            if call is not None:
                call.cancel()
        self._timer = self._forgetting = None

    def _look(self) -> None:
        """One timer serves many turns: most news have gone along with entries meanwhile."""
        self._timer = None
        if self._untold_since is None:
            return
        left = self._untold_since + HOLD_SECONDS - self._clock.seconds()
        if left > GRAIN_SECONDS:
            self._timer = self._clock.callLater(left, self._look)
            return
        self._untold_since = None
        self._node.tell_commit()
        self._wake()

    def _forget(self) -> None:
        """Hold news from those again who have not asked for a while."""
        now = self._clock.seconds()
        asked = {member: until for member, until in self._asked_until.items() if until > now}
        if len(asked) < len(self._asked_until):
            self._node.hold_commit(frozenset(asked))
        self._asked_until = asked
        self._forgetting = None
        if asked:
            self._forgetting = self._clock.callLater(ASKED_SECONDS, self._forget)
