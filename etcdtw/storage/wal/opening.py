"""Creating a log, and opening one that a crash may have left."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from etcdtw.errors import StorageError
from etcdtw.raft.codec import encode_hard_state
from etcdtw.raft.messages import EMPTY_HARD_STATE, Entry, HardState
from etcdtw.storage.interfaces import IFile, IFilesystem
from etcdtw.storage.wal.contents import WalContents, close_all, replay, require_snapshot
from etcdtw.storage.wal.names import SegmentName, list_segments, segment_path, select_segments
from etcdtw.storage.wal.reader import RecordReader, TornError
from etcdtw.storage.wal.records import (
    CRC,
    METADATA,
    SNAPSHOT,
    STATE,
    WalSnapshot,
    encode_chained,
    encode_entry_frames,
    encode_frame,
)
from etcdtw.storage.wal.segments import Segment, lock_segment, remove_temporary_files

_COPY_BYTES = 1 << 20
_ZEROS = bytes(_COPY_BYTES)


@dataclass(slots=True)
class Opened:
    """A log ready to be appended to: ``offset`` in the last segment, running ``crc``."""

    segments: list[Segment]
    offset: int
    crc: int
    contents: WalContents
    snapshot_index: int


def create(
    fs: IFilesystem,
    directory: str,
    metadata: bytes,
    segment_bytes: int,
    state: HardState,
    entries: Sequence[Entry],
) -> Opened:
    """Build the first segment in ``<directory>.tmp`` and rename it, so that a log is either
    absent or has what it begins with."""
    if fs.exists(directory):
        _require_empty(fs, directory)
    building = directory + ".tmp"
    _remove_tree(fs, building)
    fs.makedirs(building)
    name = SegmentName(0, 0)
    file = fs.open(segment_path(building, name), exclusive=True)
    try:
        lock_segment(file)
        file.preallocate(segment_bytes)
        start = encode_frame(CRC, 0, None)
        first, crc = encode_chained(METADATA, 0, metadata)
        second, crc = encode_chained(SNAPSHOT, crc, WalSnapshot().encode())
        pieces, crc = encode_entry_frames(entries, crc)
        pieces[:0] = [start, first, second]
        if state != EMPTY_HARD_STATE:
            frame, crc = encode_chained(STATE, crc, encode_hard_state(state))
            pieces.append(frame)
        content = b"".join(pieces)
        file.pwrite(content, 0)
        file.sync_data()
        fs.sync_dir(building)
        fs.rename(building, directory)
        fs.sync_dir(posixpath.dirname(directory))
    except OSError:
        file.close()
        raise
    file.path = segment_path(directory, name)
    last_index = entries[-1].index if entries else 0
    contents = WalContents(metadata, state, list(entries), last_index)
    return Opened([Segment(name, file)], len(content), crc, contents, 0)


def _require_empty(fs: IFilesystem, directory: str) -> None:
    remove_temporary_files(fs, directory)
    if fs.listdir(directory):
        raise StorageError(f"wal: {directory} is not empty: a new log needs its own directory")


def _remove_tree(fs: IFilesystem, directory: str) -> None:
    if not fs.isdir(directory):
        return
    for name in fs.listdir(directory):
        fs.remove(posixpath.join(directory, name))
    fs.rmdir(directory)


def open_locked(
    fs: IFilesystem, directory: str, snapshot: WalSnapshot, segment_bytes: int
) -> Opened:
    """Lock and read the segments from ``snapshot`` on, repair a torn end once, and leave nothing
    but zeros after the last record."""
    names = select_segments(list_segments(fs, directory), snapshot.index, directory)
    segments: list[Segment] = []
    try:
        for name in names:
            file = fs.open(segment_path(directory, name))
            lock_segment(file)
            segments.append(Segment(name, file))
        # First of all, since on a full disk what follows may need their space.
        remove_temporary_files(fs, directory)
        files = [segment.file for segment in segments]
        try:
            reader, contents = _read(files, snapshot)
        except TornError as error:
            if not error.in_last_segment:
                raise
            repair(fs, directory, files[-1])
            reader, contents = _read(files, snapshot)
        require_snapshot(contents, snapshot, directory)
        _clear_tail(files[-1], reader.offset, segment_bytes)
        # What a killed process left in the page cache was read as if it were durable: make it so.
        files[-1].sync_data()
        fs.sync_dir(directory)
    except (OSError, StorageError):
        close_all([segment.file for segment in segments])
        raise
    contents.last_index = max(contents.last_index, snapshot.index)
    return Opened(segments, reader.offset, reader.crc, contents, snapshot.index)


def _read(files: list[IFile], snapshot: WalSnapshot) -> tuple[RecordReader, WalContents]:
    reader = RecordReader(files)
    contents = WalContents()
    replay(reader, snapshot, contents)
    return reader, contents


def repair(fs: IFilesystem, directory: str, file: IFile) -> None:
    """Drop the torn record at the end of the last segment, keeping a copy as ``.broken``."""
    reader = RecordReader([file])
    try:
        for _ in reader:
            pass
    except TornError:
        pass
    _copy(fs, file, file.path + ".broken")
    fs.sync_dir(directory)
    file.truncate(reader.offset)
    file.sync_data()


def _copy(fs: IFilesystem, source: IFile, path: str) -> None:
    size = source.size()
    target = fs.open(path, create=True)
    try:
        target.truncate(0)
        for offset in range(0, size, _COPY_BYTES):
            data = source.pread(_COPY_BYTES, offset)
            if not _is_zero(data):
                target.pwrite(data, offset)
        target.truncate(size)
        target.sync_data()
    finally:
        target.close()


def _clear_tail(file: IFile, offset: int, segment_bytes: int) -> None:
    """Replace what follows the last record by zeros.

    A crash may leave later sectors of a batch without its first ones. Those were never
    acknowledged, but half overwritten they would look like damage at the next start; hence the
    sync before anything new is written over them.
    """
    size = max(file.size(), segment_bytes)
    if not _has_only_zeros(file, offset):
        file.truncate(offset)
        file.sync_data()
    if file.size() < size:
        file.preallocate(size)


def _has_only_zeros(file: IFile, offset: int) -> bool:
    while data := file.pread(_COPY_BYTES, offset):
        if not _is_zero(data):
            return False
        offset += len(data)
    return True


def _is_zero(data: bytes) -> bool:
    return data == _ZEROS[: len(data)]
