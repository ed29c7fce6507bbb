"""Old segments and snapshots go, every half minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from etcdtw.storage.datadir import DataDir
from etcdtw.storage.interfaces import IWorker

PURGE_SECONDS = 30.0

log = Logger(namespace="etcdtw.member")


class Purging:
    """Removes what is beyond the numbers to keep and no longer needed, which is locked. ``worker``
    does it: removing one segment takes longer than a turn of the reactor may."""

    def __init__(
        self,
        data_dir: DataDir,
        max_wals: int,
        max_snapshots: int,
        snapshot_index: Callable[[], int],
        worker: IWorker,
        clock: IReactorTime,
    ) -> None:
        """``snapshot_index`` tells the newest snapshot that the log knows of."""
        self._data_dir = data_dir
        self._keep = max_wals, max_snapshots
        self._snapshot_index = snapshot_index
        self._worker = worker
        self._clock = clock
        self._due: IDelayedCall | None = None

    def start(self) -> None:
        self._due = self._clock.callLater(PURGE_SECONDS, self._begin)

    def stop(self) -> None:
        """Begin nothing more; the worker is stopped by whoever has it."""
        if self._due is not None and self._due.active():
            self._due.cancel()

    def _begin(self) -> None:
        self._go_on(self._data_dir.purge(*self._keep, self._snapshot_index()))

    def _go_on(self, paths: Iterator[str]) -> None:
        """One file at a time, so that whatever else is to be done there gets its turn."""

        def removed(path: str | None) -> None:
            if path is None:
                self.start()
            else:
                log.info("purged file", path=path)
                self._go_on(paths)

        def failed(error: BaseException) -> None:
            log.error("failed to purge files: {error}", error=str(error))
            self.start()

        self._worker.run(lambda: next(paths, None), removed, failed)
