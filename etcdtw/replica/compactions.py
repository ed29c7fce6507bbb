"""Compactions, run in slices beside everything else."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from etcdtw.counting import Histogram, doubling
from etcdtw.mvcc.compaction import Compaction
from etcdtw.mvcc.interfaces import IDurableBackend
from etcdtw.replica.slices import Slices

log = Logger(namespace="etcdtw.mvcc")


class Compactions:
    """``last_at`` is when the last one ended, in seconds since 1970, 0 before the first."""

    def __init__(
        self,
        slices: Slices,
        backend: IDurableBackend,
        clock: IReactorTime,
        wall_seconds: Callable[[], float],
    ) -> None:
        self._slices = slices
        self._backend = backend
        self._clock = clock
        self._wall_seconds = wall_seconds
        self.last_at = 0.0
        self.milliseconds = Histogram(doubling(100.0, 14))
        self.step_milliseconds = Histogram(doubling(1.0, 13))

    def run(self, job: Compaction) -> None:
        """Begin, or wait for the one before."""
        begin = self._clock.seconds()

        def done() -> None:
            self.last_at = self._wall_seconds()
            took = 1000 * (self._clock.seconds() - begin)
            self.milliseconds.observe(took)
            log.info(
                "finished scheduled compaction", compact_revision=job.revision, took=f"{took:.3f}ms"
            )

        self._slices.run(lambda: self._step(job), done)

    def _step(self, job: Compaction) -> bool:
        begin = self._clock.seconds()
        done = job.step()
        # What a compaction removes belongs to no entry; ending the last one again makes it
        # durable, and a compaction that a crash cuts short is taken up again. While an entry is
        # half written it becomes durable with that one.
        if not job.amid_change:
            self._backend.end_entry(*self._backend.consistent_index())
        self.step_milliseconds.observe(1000 * (self._clock.seconds() - begin))
        return done
