"""What a log says: replaying its records, and looking at it without locks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from etcdtw.errors import CorruptError, StorageError
from etcdtw.raft.codec import (
    decode_entry,
    decode_hard_state,
    encode_entry_head,
    encode_hard_state,
)
from etcdtw.raft.messages import EMPTY_HARD_STATE, Entry, EntryType, HardState
from etcdtw.storage.interfaces import IFile, IFilesystem
from etcdtw.storage.wal.names import list_segments, newest_run, segment_path, select_segments
from etcdtw.storage.wal.reader import RecordReader, TornError
from etcdtw.storage.wal.records import CRC, ENTRY, METADATA, SNAPSHOT, STATE, WalSnapshot
from etcdtw.varint import varint

_DATA = b"\x22"
"""What follows the index in an entry that has data."""


@dataclass(slots=True)
class WalContents:
    """A log read from a snapshot on.

    ``entries`` are those after the snapshot's index, without a gap; ``last_index`` is that of the
    last entry record, 0 when there was none; ``hard_state`` the last one saved; ``metadata`` None
    when there is no such record; ``has_snapshot`` whether the snapshot's own record was found.
    """

    metadata: bytes | None = None
    hard_state: HardState = EMPTY_HARD_STATE
    entries: list[Entry] = field(default_factory=list)
    last_index: int = 0
    has_snapshot: bool = False


def replay(reader: RecordReader, snapshot: WalSnapshot, contents: WalContents) -> None:
    """Fill ``contents`` with the records of ``reader``.

    Raises what the reader raises, and CorruptError with etcd's texts for records that contradict
    each other. Record headers have no checksum, so a record that is not exactly what its type
    says is taken for damage.
    """
    # Most entries are older than the snapshot and follow each other: they are only counted.
    following, head = 0, b""
    start = snapshot.index
    try:
        for record_type, data in reader:
            if record_type == ENTRY:
                data = data or b""
                if following <= start and data.startswith(head + varint(following) + _DATA):
                    contents.last_index = following
                    following += 1
                    continue
                entry = decode_entry(data)
                _add_entry(entry, start, contents)
                following, head = entry.index + 1, encode_entry_head(entry.type, entry.term)
            elif record_type == STATE:
                contents.hard_state = _hard_state(data)
            elif record_type == METADATA:
                _set_metadata(data or b"", contents)
            elif record_type == SNAPSHOT:
                contents.has_snapshot |= _is_same(_snapshot(data), snapshot)
            elif record_type != CRC:
                raise ValueError(f"unexpected block type {record_type}")
    except ValueError as error:
        raise CorruptError(f"{error} in {reader.location}") from None


def _add_entry(entry: Entry, start: int, contents: WalContents) -> None:
    if entry.term == 0 or (entry.data is None and entry.type != EntryType.NORMAL):
        raise ValueError(f"wal: an entry record is not an entry: {entry}")
    contents.last_index = entry.index
    keep = entry.index - start - 1
    entries = contents.entries
    if keep < 0:
        # A new leader replaced all that follows, too. etcd keeps it, until a leader tells better.
        entries.clear()
        return
    if keep != len(entries):
        if keep > len(entries):
            raise ValueError(
                f"wal: slice bounds out of range: entry {entry.index} follows entry "
                f"{start + len(entries)}"
            )
        del entries[keep:]  # a new leader replaced what was never committed
    entries.append(entry)


def _set_metadata(data: bytes, contents: WalContents) -> None:
    if contents.metadata not in (None, data):
        raise ValueError("wal: conflicting metadata found")
    contents.metadata = data


def _is_same(found: WalSnapshot, wanted: WalSnapshot) -> bool:
    if found.index != wanted.index:
        return False
    if found.term != wanted.term:
        raise ValueError(
            f"wal: snapshot mismatch: index {found.index} has term {found.term} in the log and "
            f"{wanted.term} in the snapshot"
        )
    return True


def _hard_state(data: bytes | None) -> HardState:
    state = decode_hard_state(data or b"")
    if state.term == 0 or encode_hard_state(state) != data:
        raise ValueError(f"wal: a state record is not a state: {data!r}")
    return state


def _snapshot(data: bytes | None) -> WalSnapshot:
    found = WalSnapshot.decode(data or b"")
    if found.encode() != data:
        raise ValueError(f"wal: a snapshot record is not a snapshot: {data!r}")
    return found


def read_wal(fs: IFilesystem, directory: str, snapshot: WalSnapshot) -> WalContents:
    """The log from ``snapshot`` on, without a lock or a repair; a torn end is simply the end."""
    names = select_segments(list_segments(fs, directory), snapshot.index, directory)
    contents = WalContents()
    files: list[IFile] = []
    try:
        files += [fs.open_readonly(segment_path(directory, name)) for name in names]
        try:
            replay(RecordReader(files), snapshot, contents)
        except TornError as error:
            if not error.in_last_segment:
                raise
    finally:
        close_all(files)
    require_snapshot(contents, snapshot, directory)
    return contents


def require_snapshot(contents: WalContents, snapshot: WalSnapshot, directory: str) -> None:
    if not contents.has_snapshot:
        raise StorageError(
            f"wal: snapshot not found: {directory} has no record of the snapshot at index "
            f"{snapshot.index}, term {snapshot.term}"
        )


def valid_snapshots(fs: IFilesystem, directory: str, since: int = 0) -> list[WalSnapshot]:
    """The snapshots from index ``since`` on that the log vouches for: those at or below the last
    commit index. Segments before the one with that index are not read.

    A ``.snap`` file whose record is missing was written by a run that died before it could say
    so, and must not be used.
    """
    found: list[WalSnapshot] = []
    commit = 0
    files: list[IFile] = []
    try:
        names = newest_run(list_segments(fs, directory))
        while len(names) > 1 and names[1].first_index <= since:
            del names[0]
        for name in names:
            files.append(fs.open_readonly(segment_path(directory, name)))
        reader = RecordReader(files, without_entries=True)
        for record_type, data in reader:
            if record_type == SNAPSHOT:
                found.append(_snapshot(data))
            elif record_type == STATE:
                commit = _hard_state(data).commit
    except TornError:
        pass
    except ValueError as error:
        raise CorruptError(f"{error} in {reader.location}") from None
    finally:
        close_all(files)
    return [each for each in found if since <= each.index <= commit]


def close_all(files: Sequence[IFile]) -> None:
    for each in files:
        each.close()
