"""Data directories that are whole or not there."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager

from etcdtw.errors import StorageError
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.interfaces import IFilesystem

_BUILDING = ".restoring"


@contextmanager
def new_data_dir(fs: IFilesystem, directory: str, wal_dir: str | None = None) -> Iterator[DataDir]:
    """A data directory to be filled, with its log in ``wal_dir`` if that is given.

    Both grow beside their places, which may be on two disks, and are renamed at the end, unless an
    error ends it. A directory that is there and empty, a disk of its own perhaps, is filled from
    within. StorageError when there is something already, OSError.
    """
    is_there = os.path.lexists(directory)
    if is_there and not _is_empty(directory):
        raise StorageError(f'data-dir "{directory}" not empty or could not be read')
    if wal_dir and os.path.lexists(wal_dir):
        raise StorageError(f'wal-dir "{wal_dir}" exists')
    building = posixpath.join(directory, _BUILDING) if is_there else directory + _BUILDING
    building_wal = wal_dir + _BUILDING if wal_dir else None
    _remove(building, building_wal)
    data_dir = DataDir(fs, building, building_wal)
    try:
        data_dir.create()
        yield data_dir
        if wal_dir:
            fs.rename(data_dir.wal_dir, wal_dir)
            fs.sync_dir(posixpath.dirname(wal_dir))
        if is_there:
            fs.rename(data_dir.member_dir, posixpath.join(directory, "member"))
            fs.sync_dir(directory)
            fs.rmdir(building)
        else:
            fs.rename(building, directory)
            fs.sync_dir(posixpath.dirname(directory))
    except BaseException:
        _remove(building, building_wal)
        raise


def _is_empty(directory: str) -> bool:
    """Whether nothing is there, but what an earlier try has left."""
    try:
        return not set(os.listdir(directory)) - {_BUILDING}
    except OSError:
        return False


def _remove(*directories: str | None) -> None:
    for directory in directories:
        if directory:
            _remove_tree(directory)


def _remove_tree(directory: str) -> None:
    for parent, names, files in os.walk(directory, topdown=False):
        for name in files:
            os.remove(os.path.join(parent, name))
        for name in names:
            os.rmdir(os.path.join(parent, name))
    if os.path.isdir(directory):
        os.rmdir(directory)
