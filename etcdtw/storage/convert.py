"""``python -m etcdtw.storage.convert DATABASE KEYSPACE``: make a keyspace file of a bbolt file, in
a process of its own, for it takes seconds of a member's turns.

Imports no more than that needs: a follower that waits for its state waits for the imports too.
"""

from __future__ import annotations

import sys

from etcdtw.errors import StorageError
from etcdtw.storage.backend.lmdb_environment import create, map_bytes
from etcdtw.storage.bolt import BoltFile
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.interfaces import IFilesystem


def convert(fs: IFilesystem, database: str, keyspace: str, sync: bool = True) -> None:
    """The same in this process. OSError, StorageError."""
    with BoltFile.open(database) as source:
        create(
            fs,
            keyspace,
            map_bytes(source.size),
            buckets=((name, source.scan(name)) for name in source.buckets()),
            sync=sync,
        )


def main(database: str, keyspace: str) -> int:
    try:
        convert(OsFilesystem(), database, keyspace)
    except (OSError, StorageError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
