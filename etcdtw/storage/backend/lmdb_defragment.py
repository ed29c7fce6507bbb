"""Defragmentation: a compacted copy of the file takes its place."""

from __future__ import annotations

import os
from typing import NamedTuple

import lmdb

from etcdtw.errors import StorageError
from etcdtw.storage.backend.lmdb_environment import (
    LOCK_SUFFIX,
    TEMPORARY_SUFFIX,
    Environment,
    open_environment,
    put_in_place,
    remove_leftovers,
)
from etcdtw.storage.backend.lmdb_writer import Sizes, measure
from etcdtw.storage.interfaces import IFilesystem


class Defragmented(NamedTuple):
    """The file that took the place of the old one, open, and its sizes."""

    opened: Environment
    sizes: Sizes


class NameLost(StorageError):
    """Renaming failed half-way: what is open may be what no start would find, or readers in other
    processes would not be seen. Nothing may be written to it."""


def defragmented(
    fs: IFilesystem, env: lmdb.Environment, path: str, map_size: int, sync: bool
) -> Defragmented:
    """Copy the records of ``env`` without the free pages, and rename the copy to ``path``.

    For a worker's thread: the copying is one call into LMDB, which lets other threads run. Nothing
    may be committed meanwhile. ``env`` stays open on the old file, which has no name any more.
    Killed at any moment, ``path`` is one of the two, and both hold the same. OSError or
    StorageError; the old file is in its place then, unless it is NameLost.
    """
    temporary = path + TEMPORARY_SUFFIX
    remove_leftovers(fs, path)
    opened = None
    try:
        # LMDB alone would make a file that everybody may read.
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            env.copyfd(fd, compact=True)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        opened = open_environment(temporary, map_size, sync=sync)
        sizes = measure(opened.env, opened.databases)
        # The lock file belongs to the open environment: whoever reads the file must find it.
        fs.rename(temporary + LOCK_SUFFIX, path + LOCK_SUFFIX)
        _put_in_place(fs, temporary, path)
    except BaseException as error:
        if opened is not None:
            opened.env.close()
        if isinstance(error, NameLost):
            raise  # what is left goes at the next start
        remove_leftovers(fs, path)
        if isinstance(error, lmdb.Error):
            raise StorageError(f"{path}: defragmentation: {error}") from error
        raise
    return Defragmented(opened, sizes)


def _put_in_place(fs: IFilesystem, temporary: str, path: str) -> None:
    try:
        put_in_place(fs, temporary, path)
    except OSError as error:
        raise NameLost(f"defragmentation: {error}") from error
