"""Names of segments and which of them a reader needs."""

from __future__ import annotations

import posixpath
import re
from itertools import pairwise
from typing import NamedTuple

from etcdtw.errors import StorageError
from etcdtw.storage.interfaces import IFilesystem

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")


class SegmentName(NamedTuple):
    """``sequence`` counts segments from 0; ``first_index`` is that of the first entry that the
    segment may hold."""

    sequence: int
    first_index: int

    def __str__(self) -> str:
        return f"{self.sequence:016x}-{self.first_index:016x}.wal"

    @classmethod
    def parse(cls, name: str) -> SegmentName | None:
        match = _NAME.fullmatch(name)
        return match and cls(int(match[1], 16), int(match[2], 16))


def list_segments(fs: IFilesystem, directory: str) -> list[SegmentName]:
    """All segments, oldest first; StorageError when there is none."""
    names = [SegmentName.parse(name) for name in fs.listdir(directory)]
    found = sorted(name for name in names if name is not None)
    if not found:
        raise StorageError(f"wal: file not found: no segment in {directory}")
    return found


def select_segments(names: list[SegmentName], index: int, directory: str) -> list[SegmentName]:
    """The segments that hold what follows ``index``; they must be consecutive."""
    first = next(
        (place for place in reversed(range(len(names))) if names[place].first_index <= index),
        None,
    )
    if first is None:
        raise StorageError(
            f"wal: file not found: the oldest segment in {directory} begins at index "
            f"{names[0].first_index}, after index {index}"
        )
    selected = names[first:]
    for before, after in pairwise(selected):
        if after.sequence != before.sequence + 1:
            raise StorageError(
                f"wal: file not found: segment {before.sequence + 1:016x} is missing in {directory}"
            )
    return selected


def newest_run(names: list[SegmentName]) -> list[SegmentName]:
    """The newest segments as far as they are consecutive. What lies before a gap was to be purged:
    a power cut can undo the removal of an old segment and keep that of a newer one."""
    for place in reversed(range(1, len(names))):
        if names[place].sequence != names[place - 1].sequence + 1:
            return names[place:]
    return names


def newest_segment(fs: IFilesystem, directory: str) -> str:
    """The path of the segment that is written to; StorageError when there is none."""
    return segment_path(directory, list_segments(fs, directory)[-1])


def segment_path(directory: str, name: SegmentName) -> str:
    return posixpath.join(directory, str(name))
