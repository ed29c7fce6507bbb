"""The seams of storage: the disk, and work that must not run on the reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from zope.interface import Attribute, Interface

T = TypeVar("T")


class IFile(Interface):
    """An open file. Offsets and lengths are bytes. Every method may raise OSError."""

    path = Attribute("The path it was opened with.")

    def pwrite(data: bytes, offset: int) -> None:
        """Write all of ``data`` at ``offset``; in the page cache only, until a sync."""

    def pread(length: int, offset: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer only at the end of the file."""

    def start_writing(offset: int, length: int) -> None:
        """Have the disk begin to write these bytes and return at once; promises nothing, but
        what ``sync_data`` then waits for is under way."""

    def sync_data() -> None:
        """Return once everything written so far survives a power cut (fdatasync).

        May be called from a worker thread while the reactor thread writes on.
        """

    def size() -> int:
        """The length of the file."""

    def truncate(length: int) -> None:
        """Cut or extend (with zeros) to ``length``."""

    def give_back() -> None:
        """Free the space of a file that has no name any more, so slowly that whoever writes to the
        same disk hardly waits; nothing where another name is left. Blocks."""

    def preallocate(length: int) -> None:
        """Reserve ``length`` bytes of zeros, extending the file, as fallocate does."""

    def lock() -> None:
        """Take the exclusive whole-file open-file-description lock that etcd takes on WAL
        segments (F_OFD_SETLK); raise BlockingIOError when somebody else holds it."""

    def flock() -> None:
        """Take the exclusive flock that bbolt takes on ``db``; raise BlockingIOError likewise."""

    def close() -> None:
        """Release the file and its locks. Closing twice is harmless."""


class IFilesystem(Interface):
    """The part of a filesystem that a member needs. Paths are absolute strings.

    Every method may raise OSError with errno and filename set.
    """

    def open(
        path: str, *, create: bool = False, exclusive: bool = False, mode: int = 0o600
    ) -> IFile:
        """Open for reading and writing. ``create`` makes it if absent, with ``mode`` less the
        process's umask; ``exclusive`` refuses an existing one."""

    def open_readonly(path: str) -> IFile:
        """Open for reading only."""

    def listdir(path: str) -> list[str]:
        """Names in a directory, sorted."""

    def exists(path: str) -> bool:
        """Whether anything is there."""

    def isdir(path: str) -> bool:
        """Whether a directory is there."""

    def makedirs(path: str, mode: int = 0o700) -> None:
        """Make a directory and its parents; one that exists already is fine."""

    def rename(old: str, new: str) -> None:
        """Atomically replace ``new``; durable only after ``sync_dir`` of its directory."""

    def remove(path: str) -> None:
        """Remove a file."""

    def rmdir(path: str) -> None:
        """Remove an empty directory."""

    def sync_dir(path: str) -> None:
        """Make creations, renames and removals in this directory durable."""


class IWorker(Interface):
    """Runs blocking work away from the reactor and reports back on it."""

    def run(
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Call ``work`` elsewhere, then exactly one of ``done(result)`` or ``failed(error)`` on
        the reactor thread. Work given to one worker runs in the order given, one at a time."""

    def stop() -> None:
        """Wait for the work under way, drop what has not begun; its callbacks are not called."""
