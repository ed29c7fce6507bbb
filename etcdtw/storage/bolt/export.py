"""``python -m etcdtw.storage.bolt.export KEYSPACE TARGET [digest]``: write a keyspace that a member
is using as a bbolt file, in a process of its own, since the packing would take seconds of the
member's.

Standard output has the bytes written so far, a line per megabyte, and at the end ``done``, the size
and, if asked for, the SHA-256 of the file. The process ends when the one that started it has ended.
"""

from __future__ import annotations

import os
import sys
from hashlib import sha256

from etcdtw.errors import StorageError
from etcdtw.storage.backend.lmdb_environment import map_bytes
from etcdtw.storage.backend.lmdb_view import open_view
from etcdtw.storage.bolt.writer import write_bolt

ALWAYS = frozenset(
    (
        *(b"alarm", b"auth", b"authRoles", b"authUsers", b"cluster"),
        *(b"key", b"lease", b"members", b"members_removed", b"meta"),
    )
)
"""Buckets that etcd makes at its start and then takes for granted, also in a database that it is
sent: it ends where one is missing. A keyspace has those that ever had a record."""

DIGEST = "digest"
NICENESS = 10
_READ_BYTES = 1 << 20


def export_keyspace(path: str, target: str, parent: int | None = None) -> int:
    """Write the keyspace as it is now; the size of the file. With ``parent``, its progress is
    printed, and it gives up when it is no longer that process's child. OSError, StorageError."""

    def progress(written: int) -> None:
        if parent is not None:
            if os.getppid() != parent:
                raise StorageError("the member that wanted the export has ended")
            print(written, flush=True)

    # What a member wants is sent at once, and gone when the machine is.
    sync = parent is None
    view = open_view(path, map_bytes(os.path.getsize(path)), "export")
    try:
        return write_bolt(
            target,
            sorted(ALWAYS.union(view.buckets())),
            lambda bucket: view.scan(bucket, b"", None),
            progress=progress,
            sync=sync,
        )
    finally:
        view.close()


def main(path: str, target: str, *wanted: str) -> int:
    parent = os.getppid()
    os.nice(NICENESS)
    try:
        size = export_keyspace(path, target, parent)
        digest = _digest(target) if DIGEST in wanted else ""
    except (OSError, StorageError) as error:
        print("error", error, flush=True)
        return 1
    print("done", size, digest, flush=True)
    return 0


def _digest(path: str) -> str:
    found = sha256()
    with open(path, "rb") as file:
        while piece := file.read(_READ_BYTES):
            found.update(piece)
    return found.hexdigest()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
