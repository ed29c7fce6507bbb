"""Reads that wait for proof that their leader still leads (Raft thesis 6.4)."""

from __future__ import annotations

from etcdtw.raft.messages import Message


class PendingRead:
    """A request, the commit index when it came, and who has acknowledged the leader since."""

    __slots__ = ("acks", "index", "request")

    def __init__(self, request: Message, index: int, own_id: int) -> None:
        self.request = request
        self.index = index
        self.acks = {own_id: True}


class PendingReads:
    """Requests in the order in which they came, keyed by their context.

    An acknowledgement of one also confirms those before it.
    """

    def __init__(self) -> None:
        self._pending: dict[bytes, PendingRead] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, context: bytes, read: PendingRead) -> None:
        """Begin to wait; a context that already waits is not added again."""
        self._pending.setdefault(context, read)

    def last_context(self) -> bytes:
        """The context that a heartbeat should carry: the youngest one, empty when none waits."""
        return next(reversed(self._pending), b"")

    def acknowledged(self, context: bytes, by: int) -> dict[int, bool]:
        """Note an acknowledgement; all of them so far, none for an unknown context."""
        read = self._pending.get(context)
        if read is None:
            return {}
        read.acks[by] = True
        return read.acks

    def confirm_through(self, context: bytes) -> list[PendingRead]:
        """Take out the request with this context and all before it."""
        confirmed = []
        for each in list(self._pending):
            confirmed.append(self._pending.pop(each))
            if each == context:
                break
        return confirmed
