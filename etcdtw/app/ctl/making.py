"""Data directories that are whole or not there."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager

from etcdtw.errors import StorageError
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.interfaces import IFilesystem


@contextmanager
def new_data_dir(fs: IFilesystem, directory: str, wal_dir: str | None = None) -> Iterator[DataDir]:
    """A data directory to be filled, with its log in ``wal_dir`` if that is given.

    It grows beside its place and is renamed at the end, unless an error ends it. StorageError when
    it exists already, OSError.
    """
    for each in filter(None, (directory, wal_dir)):
        if os.path.lexists(each):
            raise StorageError(f'data-dir "{each}" exists')
    building = directory + ".restoring"
    _remove_tree(building)
    data_dir = DataDir(fs, building)
    data_dir.create()
    yield data_dir
    if wal_dir:
        fs.makedirs(posixpath.dirname(wal_dir))
        fs.rename(data_dir.wal_dir, wal_dir)
        fs.sync_dir(posixpath.dirname(wal_dir))
    fs.rename(building, directory)
    fs.sync_dir(posixpath.dirname(directory) or "/")


def _remove_tree(directory: str) -> None:
    for parent, names, files in os.walk(directory, topdown=False):
        for name in files:
            os.remove(os.path.join(parent, name))
        for name in names:
            os.rmdir(os.path.join(parent, name))
    if os.path.isdir(directory):
        os.rmdir(directory)
