"""Long work in short pieces on the reactor, so that no turn is long."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

SLICE_SECONDS = 0.005
PAUSE_SECONDS = 0.002

_Job = tuple[Callable[[], bool], Callable[[], None] | None, Callable[[Exception], None] | None]


class Slices:
    """Runs jobs one after another, a few milliseconds at a time.

    A job is a callable that does a small step and returns True when it is finished; ``done``, if
    given, is called then. One that raises is dropped, ``failed``, if given, gets the exception, and
    it goes on to the reactor.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._jobs: deque[_Job] = deque()
        self._call: IDelayedCall | None = None
        self._stopped = False

    def run(
        self,
        step: Callable[[], bool],
        done: Callable[[], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        self._jobs.append((step, done, failed))
        if self._call is None and not self._stopped:
            self._call = self._clock.callLater(0, self._work)

    def stop(self) -> None:
        """Drop everything; a compaction that was cut short is resumed at the next start."""
        self._stopped = True
        self._jobs.clear()
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _work(self) -> None:
        until = self._clock.seconds() + SLICE_SECONDS
        try:
            self._slice(until)
        finally:
            self._call = None
            if self._jobs and not self._stopped:
                self._call = self._clock.callLater(PAUSE_SECONDS, self._work)

    def _slice(self, until: float) -> None:
        while self._jobs:
            job = step, done, failed = self._jobs.popleft()
            try:
                finished = step()
            except Exception as error:
                if failed is not None:
                    failed(error)
                raise
            if not finished:
                if not self._stopped:
                    self._jobs.appendleft(job)
            elif done is not None:
                done()
            if self._clock.seconds() >= until:
                break
