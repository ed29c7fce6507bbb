"""LMDB files for tests, and workers whose work the test does."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any

import lmdb
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from etcdtw.storage.backend.lmdb_backend import LmdbBackend, LmdbSettings, open_backend
from etcdtw.storage.backend.lmdb_environment import create, open_environment
from etcdtw.storage.backend.lmdb_writer import BatchWriter
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.interfaces import IWorker
from etcdtw.storage.worker import InlineWorker

FS = OsFilesystem(sync=False)
MAP_QUOTA_BYTES = 1 << 20


@implementer(IWorker)
class HeldWorker:
    """Work waits until the test says so; doing it and reporting it are two things."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], Any], Any, Any]] = deque()
        self._report: Callable[[], None] | None = None

    def run(self, work: Any, done: Any, failed: Any) -> None:
        self._waiting.append((work, done, failed))

    def stop(self) -> None:
        self._waiting.clear()
        self._report = None

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._report)

    def do(self) -> None:
        """Do the next piece of work, if there is one and none waits to be reported."""
        if self._report is not None or not self._waiting:
            return
        work, done, failed = self._waiting.popleft()
        try:
            result = work()
        except Exception as error:
            self._report = lambda error=error: failed(error)
        else:
            self._report = lambda: done(result)

    def report(self) -> None:
        """Report what was done, if anything was."""
        if self._report is not None:
            report, self._report = self._report, None
            report()

    def finish(self) -> None:
        """Do and report everything."""
        while self.busy:
            self.do()
            self.report()


class KeyspaceCase(SynchronousTestCase):
    """Makes keyspaces in files of their own; syncs are left out, since no test cuts the power."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.made = 0

    def new_settings(self, **changes: Any) -> LmdbSettings:
        directory = self.mktemp()
        os.makedirs(directory)
        return LmdbSettings(
            **{
                "path": os.path.abspath(os.path.join(directory, "kv.lmdb")),
                "quota_bytes": MAP_QUOTA_BYTES,
                "sync": False,
                **changes,
            }
        )

    def open(
        self, settings: LmdbSettings | None = None, worker: IWorker | None = None
    ) -> LmdbBackend:
        backend = open_backend(
            FS, settings or self.new_settings(), self.clock, worker or InlineWorker()
        )
        self.addCleanup(backend.close)
        return backend

    def open_with(
        self,
        make_writer: Callable[[lmdb.Environment, str], BatchWriter],
        worker: IWorker | None = None,
        **changes: Any,
    ) -> LmdbBackend:
        """A new keyspace whose batches go through another writer."""
        settings = self.new_settings(**changes)
        create(FS, settings.path, settings.map_bytes, sync=False)
        opened = open_environment(settings.path, settings.map_bytes, sync=False)
        backend = LmdbBackend(
            FS, settings, opened, self.clock, worker or InlineWorker(), make_writer
        )
        self.addCleanup(backend.close)
        return backend
