"""Exports of a keyspace in use, each by a child process, one at a time."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from etcdtw.counting import Histogram, doubling
from etcdtw.errors import StorageError
from etcdtw.storage.bolt.export import DIGEST
from etcdtw.storage.filesystem import free_in_pieces
from etcdtw.storage.interfaces import IWorker

STALL_SECONDS = 60.0
"""A child that writes nothing for so long is ended."""
SCRATCH_SUFFIX = ".tmp.snapshot"
"""Behind ``db``: a file of that name is removed at the member's start."""

WRITE_BACK_SECONDS = 30.0
"""After so long what the export has written is on the disk (Linux's default)."""

EXPORT_BOUNDS = doubling(0.01, 17)

_LAST_LINE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Exported:
    """A whole bbolt file without a name, for reading from ``fd``. Whoever got it closes it. The
    SHA-256 is empty where it was not asked for."""

    fd: int
    size: int
    digest: bytes
    let_go: Callable[[int, int], None]

    def close(self) -> None:
        """Have its space freed."""
        self.let_go(self.fd, self.size)


class Exports:
    """Makes bbolt files of the keyspace ``path``; those who ask together wait in line.

    ``make_worker`` is called with the first export: waiting for a child blocks a thread.
    """

    def __init__(
        self,
        path: str,
        scratch: str,
        make_worker: Callable[[], IWorker],
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._path = path
        self._scratch = scratch
        self._make_worker = make_worker
        self._stall_seconds = stall_seconds
        self._worker: IWorker | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._disk_is_busy_until = 0.0
        self.seconds = Histogram(EXPORT_BOUNDS)

    @property
    def disk_is_busy(self) -> bool:
        """Whether a child is at work, or what it wrote is still on its way to the disk."""
        return self._child is not None or time.monotonic() < self._disk_is_busy_until

    def start(
        self,
        done: Callable[[Exported], None],
        failed: Callable[[BaseException], None],
        with_digest: bool = True,
    ) -> None:
        """Call one of the two, with what is durable now or a little later. Without a digest it is
        ready a third sooner."""
        if self._stopped:
            return
        if self._worker is None:
            self._worker = self._make_worker()
        self._worker.run(lambda: self._export(with_digest), done, failed)

    def _let_go(self, fd: int, size: int) -> None:
        if self._stopped or self._worker is None:
            os.close(fd)
        else:
            self._worker.run(lambda: self._free(fd, size), lambda _: None, lambda _: None)

    def _free(self, fd: int, size: int) -> None:
        self._disk_is_busy_until = time.monotonic() + WRITE_BACK_SECONDS
        try:
            free_in_pieces(fd, size)
        finally:
            os.close(fd)
            self._disk_is_busy_until = 0.0

    def stop(self) -> None:
        """End a child under way; nobody is called any more."""
        self._stopped = True
        child = self._child
        if child is not None:
            child.kill()
        if self._worker is not None:
            self._worker.stop()

    def _export(self, with_digest: bool) -> Exported:
        if self._stopped:
            raise StorageError("the member is stopping")
        command = [sys.executable, "-m", "etcdtw.storage.bolt.export", self._path, self._scratch]
        if with_digest:
            command.append(DIGEST)
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=_child_environment()
        ) as child:
            self._child = child
            try:
                begin = time.monotonic()
                size, digest = self._wait(child)
                self.seconds.observe(time.monotonic() - begin)
                fd = os.open(self._scratch, os.O_RDWR | os.O_CLOEXEC)
                return Exported(fd, size, digest, self._let_go)
            finally:
                self._disk_is_busy_until = time.monotonic() + WRITE_BACK_SECONDS
                self._child = None
                child.kill()
                if os.path.exists(self._scratch):
                    os.remove(self._scratch)

    def _wait(self, child: subprocess.Popen[bytes]) -> tuple[int, bytes]:
        assert child.stdout is not None, "the child was given a pipe"
        fd = child.stdout.fileno()
        # Not ``select``, which takes no descriptor beyond 1023: a member has one per connection.
        pipe = select.poll()
        pipe.register(fd, select.POLLIN)
        said = b""
        while True:
            if not pipe.poll(1000 * self._stall_seconds):
                raise StorageError(f"the export made no progress for {self._stall_seconds:g} s")
            piece = os.read(fd, 1 << 16)
            if not piece:
                break
            said = said[-_LAST_LINE_BYTES:] + piece
        words = said.decode(errors="replace").splitlines()[-1:] or [""]
        kind, _, rest = words[0].partition(" ")
        if kind == "done":
            size, _, digest = rest.partition(" ")
            return int(size), bytes.fromhex(digest)
        raise StorageError(f"the export failed: {rest or f'exit code {child.wait()}'}")


def _child_environment() -> dict[str, str]:
    """The own environment; modules are found where this process finds them."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
