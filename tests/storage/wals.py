"""Small logs for tests."""

from __future__ import annotations

from collections.abc import Sequence

from etcdtw.raft.messages import Entry, HardState
from etcdtw.storage.wal import Wal, WalContents, WalSnapshot
from etcdtw.testing.disk import SimDisk

SMALL = 4096
"""A segment size that makes a log of a few dozen entries change segments."""


def entries(first: int, count: int, term: int = 1, size: int = 100) -> list[Entry]:
    """Consecutive entries with data that tells them apart."""
    return [
        Entry(term, index, data=f"{term}.{index}.".encode().ljust(size, b"d"))
        for index in range(first, first + count)
    ]


def new_wal(disk: SimDisk, segment_bytes: int = SMALL) -> Wal:
    return Wal.create(disk, "/wal", b"meta", segment_bytes)


def reopen(
    disk: SimDisk, snapshot: WalSnapshot | None = None, segment_bytes: int = SMALL
) -> tuple[Wal, WalContents]:
    """What a new process finds after the old one was killed."""
    disk.kill()
    return Wal.open(disk, "/wal", snapshot or WalSnapshot(), segment_bytes)


def write(wal: Wal, batch: Sequence[Entry], commit: int | None = None) -> None:
    """Append and sync one batch of one term, with the state that goes with it."""
    last = batch[-1]
    wal.append(HardState(last.term, 7, last.index if commit is None else commit), batch)
    wal.sync()
