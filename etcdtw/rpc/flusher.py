"""One write per connection and reactor turn."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IReactorTime


class Flushable(Protocol):
    """Something that has output to write."""

    def flush(self) -> None: ...


class Flusher:
    """The connections with unwritten output, which are ``waiting``.

    Whoever ends a batch of work calls ``flush``. Output that nobody claims is flushed by the
    reactor's next turn, unless ``held`` says that the current turn ends with a flush anyway.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.waiting: list[Flushable] = []
        self._scheduled = False
        self.held = False

    def add(self, connection: Flushable) -> None:
        """Called once by a connection when its output begins to wait."""
        self.waiting.append(connection)
        if not self.held and not self._scheduled:
            self._scheduled = True
            self._clock.callLater(0, self._flush_late)

    def hold(self) -> None:
        """A batch of work begins, and ends with ``release``."""
        self.held = True

    def release(self) -> None:
        """The batch is done: write what it brought."""
        self.held = False
        self.flush()

    def flush(self) -> None:
        """Write everything that waits now, and what is added meanwhile."""
        while self.waiting:
            waiting = self.waiting
            self.waiting = []
            for connection in waiting:
                connection.flush()

    def _flush_late(self) -> None:
        self._scheduled = False
        self.flush()
