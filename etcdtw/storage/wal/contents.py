"""What a log says: replaying its records, and looking at it without locks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from etcdtw.errors import CorruptError, StorageError
from etcdtw.raft.codec import decode_entry, decode_hard_state, encode_hard_state
from etcdtw.raft.messages import EMPTY_HARD_STATE, Entry, EntryType, HardState
from etcdtw.storage.interfaces import IFile, IFilesystem
from etcdtw.storage.wal.names import list_segments, segment_path, select_segments
from etcdtw.storage.wal.reader import RecordReader, TornError
from etcdtw.storage.wal.records import CRC, ENTRY, METADATA, SNAPSHOT, STATE, WalSnapshot


@dataclass(slots=True)
class WalContents:
    """A log read from a snapshot on.

    ``entries`` are those after the snapshot's index, without a gap; ``last_index`` is that of the
    last entry record, 0 when there was none; ``hard_state`` the last one saved.
    """

    metadata: bytes = b""
    hard_state: HardState = EMPTY_HARD_STATE
    entries: list[Entry] = field(default_factory=list)
    last_index: int = 0


def replay(reader: RecordReader, snapshot: WalSnapshot, contents: WalContents) -> bool:
    """Fill ``contents`` with the records of ``reader``; whether the snapshot's record was there.

    Raises what the reader raises, and CorruptError with etcd's texts for records that contradict
    each other. Record headers have no checksum, so a record that is not exactly what its type
    says is taken for damage.
    """
    metadata: bytes | None = None
    entries = contents.entries
    start = snapshot.index
    matched = False
    for record_type, data in reader:
        if record_type == ENTRY:
            entry = _entry(data)
            contents.last_index = entry.index
            keep = entry.index - start - 1
            if keep >= 0:
                if keep != len(entries):
                    if keep > len(entries):
                        raise CorruptError(
                            f"wal: slice bounds out of range: entry {entry.index} follows entry "
                            f"{start + len(entries)}"
                        )
                    del entries[keep:]  # a new leader replaced what was never committed
                entries.append(entry)
        elif record_type == STATE:
            contents.hard_state = _hard_state(data)
        elif record_type == METADATA:
            if metadata is not None and metadata != data:
                raise CorruptError("wal: conflicting metadata found")
            metadata = contents.metadata = data or b""
        elif record_type == SNAPSHOT:
            found = _snapshot(data)
            if found.index == start:
                if found.term != snapshot.term:
                    raise CorruptError(
                        f"wal: snapshot mismatch: index {start} has term {found.term} in the log "
                        f"and {snapshot.term} in the snapshot"
                    )
                matched = True
        elif record_type != CRC:
            raise CorruptError(f"unexpected block type {record_type}")
    return matched


def _entry(data: bytes | None) -> Entry:
    try:
        entry = decode_entry(data or b"")
    except ValueError as error:
        raise CorruptError(f"wal: entry record: {error}") from None
    if entry.term == 0 or (entry.data is None and entry.type != EntryType.NORMAL):
        raise CorruptError(f"wal: entry record is not an entry: {data!r}")
    return entry


def _hard_state(data: bytes | None) -> HardState:
    try:
        state = decode_hard_state(data or b"")
    except ValueError as error:
        raise CorruptError(f"wal: state record: {error}") from None
    if state.term == 0 or encode_hard_state(state) != data:
        raise CorruptError(f"wal: state record is not a state: {data!r}")
    return state


def _snapshot(data: bytes | None) -> WalSnapshot:
    try:
        found = WalSnapshot.decode(data or b"")
    except ValueError as error:
        raise CorruptError(f"wal: snapshot record: {error}") from None
    if found.encode() != data:
        raise CorruptError(f"wal: snapshot record is not a snapshot: {data!r}")
    return found


def read_wal(fs: IFilesystem, directory: str, snapshot: WalSnapshot) -> WalContents:
    """The log from ``snapshot`` on, without a lock or a repair; a torn end is simply the end."""
    names = select_segments(list_segments(fs, directory), snapshot.index, directory)
    contents = WalContents()
    files: list[IFile] = []
    try:
        files += [fs.open_readonly(segment_path(directory, name)) for name in names]
        try:
            matched = replay(RecordReader(files), snapshot, contents)
        except TornError as error:
            if not error.in_last_segment:
                raise
            # The snapshot that this log was written under may stand before the torn record.
            matched = True
    finally:
        close_all(files)
    require_match(matched, snapshot, directory)
    return contents


def require_match(matched: bool, snapshot: WalSnapshot, directory: str) -> None:
    if not matched:
        raise StorageError(
            f"wal: snapshot not found: {directory} has no record of the snapshot at index "
            f"{snapshot.index}, term {snapshot.term}"
        )


def valid_snapshots(fs: IFilesystem, directory: str) -> list[WalSnapshot]:
    """The snapshots that the log vouches for: those at or below the last commit index.

    A ``.snap`` file whose record is missing was written by a run that died before it could say
    so, and must not be used.
    """
    found: list[WalSnapshot] = []
    commit = 0
    files: list[IFile] = []
    try:
        for name in list_segments(fs, directory):
            files.append(fs.open_readonly(segment_path(directory, name)))
        for record_type, data in RecordReader(files):
            if record_type == SNAPSHOT:
                found.append(_snapshot(data))
            elif record_type == STATE:
                commit = _hard_state(data).commit
    except TornError:
        pass
    finally:
        close_all(files)
    return [each for each in found if each.index <= commit]


def close_all(files: Sequence[IFile]) -> None:
    for each in files:
        each.close()
