"""A disk at which the process dies: SIGKILL before, after or in the middle of an operation.

What was written stays, since the page cache outlives the process; of a write under way some
sectors stay. Power cuts are another matter (``tests/app/test_power_cut.py``).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any, NoReturn, ParamSpec, TypeVar

import lmdb
from zope.interface import implementer

from etcdtw.storage.backend.lmdb_writer import BatchWriter
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.interfaces import IFile, IFilesystem

P = ParamSpec("P")
T = TypeVar("T")

COMMIT_SECONDS_MAX = 0.001
SECTOR_BYTES = 512
"""Neither a kill nor a power cut splits a sector; the log counts on that, as etcd's does."""


class Death:
    """Comes at the seam's operation number ``at``."""

    def __init__(self, at: int, dice: Random) -> None:
        self.dice = dice
        self._left = at

    def is_now(self) -> bool:
        self._left -= 1
        return self._left == 0

    def strike(self) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("killed, and still here")


@implementer(IFile)
class DyingFile:
    """Every operation that changes something may be the last."""

    def __init__(self, file: Any, death: Death) -> None:
        self._file = file
        self._death = death
        self.path = file.path

    def pwrite(self, data: bytes, offset: int) -> None:
        death = self._death
        if death.is_now():
            sectors = range(-offset % SECTOR_BYTES, len(data), SECTOR_BYTES)
            self._file.pwrite(data[: death.dice.choice([0, *sectors, len(data)])], offset)
            death.strike()
        self._file.pwrite(data, offset)

    def __getattr__(self, name: str) -> Any:
        return (
            dying(self._death, getattr(self._file, name))
            if name in _CHANGES
            else getattr(self._file, name)
        )


@implementer(IFilesystem)
class DyingFilesystem:
    """Files of this machine, without syncs: nobody cuts the power."""

    def __init__(self, death: Death) -> None:
        self._fs = OsFilesystem(sync=False)
        self._death = death

    def open(self, path: str, **options: Any) -> DyingFile:
        return dying(self._death, lambda: DyingFile(self._fs.open(path, **options), self._death))()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._fs, name)
        return dying(self._death, found) if name in _CHANGES else found


_CHANGES = frozenset(
    {
        "sync_data",
        "truncate",
        "give_back",
        "preallocate",
        "makedirs",
        "rename",
        "remove",
        "rmdir",
        "sync_dir",
    }
)


def dying(death: Death, operation: Callable[P, T]) -> Callable[P, T]:
    """The operation, which may end the process before or after it."""

    def either(*args: P.args, **kwargs: P.kwargs) -> T:
        if death.is_now():
            if death.dice.randrange(2):
                operation(*args, **kwargs)
            death.strike()
        return operation(*args, **kwargs)

    return either


class DyingWriter(BatchWriter):
    """LMDB's own writes cannot be counted, so death comes a moment after a commit has begun."""

    def __init__(self, env: lmdb.Environment, path: str, death: Death) -> None:
        super().__init__(env, path)
        self._death = death

    def commit(self, txn: lmdb.Transaction[bytes]) -> None:
        death = self._death
        if death.is_now():
            seconds = death.dice.choice((0.0, death.dice.uniform(0, COMMIT_SECONDS_MAX)))

            def soon() -> None:
                time.sleep(seconds)
                death.strike()

            threading.Thread(target=soon, daemon=True).start()
        super().commit(txn)
        if death.is_now():
            death.strike()
