"""Handshakes take turns: a flood of them must not keep the rest of the member waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

SHARE = 0.5
"""Of the time, at most, for handshakes."""
BURST_SECONDS = 0.010
"""Of handshakes without a pause, before they have to wait."""


class HandshakeTurns:
    """Runs steps of handshakes, each at once while they take little of the time, else in turn.

    What a step takes is seconds of the processor by ``meter``: those that another machine on the
    same host took away would count twice, and let callers wait for longer than they are willing to.
    """

    def __init__(self, clock: IReactorTime, meter: Callable[[], float]) -> None:
        self._clock = clock
        self._meter = meter
        self._waiting: deque[Callable[[], None]] = deque()
        self._spent = 0.0
        self._seen = clock.seconds()

    def run(self, step: Callable[[], None]) -> None:
        if self._waiting:
            self._waiting.append(step)
        elif self._may_run():
            self._do(step)
        else:
            self._waiting.append(step)
            self._later()

    def _may_run(self) -> bool:
        now = self._clock.seconds()
        self._spent = max(0.0, self._spent - SHARE * (now - self._seen))
        self._seen = now
        return self._spent < BURST_SECONDS

    def _do(self, step: Callable[[], None]) -> None:
        begin = self._meter()
        try:
            step()
        finally:
            self._spent += self._meter() - begin

    def _later(self) -> None:
        self._clock.callLater(BURST_SECONDS, self._work)

    def _work(self) -> None:
        try:
            while self._waiting and self._may_run():
                self._do(self._waiting.popleft())
        finally:
            # Also behind a step that failed: those who wait are not to blame.
            if self._waiting:
                self._later()
