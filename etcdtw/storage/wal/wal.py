"""The write-ahead log: entries and states that must survive a crash (docs/formats/wal.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from etcdtw.errors import StorageError
from etcdtw.raft.codec import encode_hard_state
from etcdtw.raft.messages import EMPTY_HARD_STATE, Entry, HardState
from etcdtw.storage.interfaces import IFilesystem
from etcdtw.storage.wal import opening
from etcdtw.storage.wal.contents import WalContents
from etcdtw.storage.wal.names import SegmentName, segment_path
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
from etcdtw.storage.wal.segments import SEGMENT_BYTES, NextSegment, Segment


@dataclass(frozen=True, slots=True)
class _Cut:
    """A change of segments that the next sync completes."""

    old: Segment
    new: Segment


class Wal:
    """A log open for appending, with all its needed segments locked.

    ``append`` and ``save_snapshot`` only write to the page cache; nothing counts until a ``sync``
    that began afterwards has returned. ``sync`` and ``prepare_next_segment`` block and may run on
    another thread; everything else belongs to one thread. After any OSError the log refuses
    further work: what the disk holds is then unknown until it is opened anew.

    Changing segments costs the appending thread no sync: the new segment is written under its
    temporary name, and the next ``sync`` makes the old one durable, then the new one, then its
    name. A crash on the way loses only what was not acknowledged.
    """

    def __init__(
        self, fs: IFilesystem, directory: str, opened: opening.Opened, segment_bytes: int
    ) -> None:
        self._fs = fs
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._segments = opened.segments
        self._tail = opened.segments[-1]
        self._offset = self._begun = opened.offset
        self._crc = opened.crc
        self._metadata = opened.contents.metadata or b""
        self._state = opened.contents.hard_state
        self._last_index = opened.contents.last_index
        self._next = NextSegment(fs, directory, segment_bytes)
        self._cut: _Cut | None = None
        self._sync_lock = Lock()
        self._failed = False
        self.written_bytes = 0
        self._snapshot_index = self._durable_snapshot_index = opened.snapshot_index

    # --- opening --------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        fs: IFilesystem,
        directory: str,
        metadata: bytes,
        segment_bytes: int = SEGMENT_BYTES,
        state: HardState = EMPTY_HARD_STATE,
        entries: Sequence[Entry] = (),
    ) -> Wal:
        """A new log that begins with these; StorageError when there is one already. Durable when
        this returns, and absent before."""
        opened = opening.create(fs, directory, metadata, segment_bytes, state, entries)
        return cls(fs, directory, opened, segment_bytes)

    @classmethod
    def open(
        cls,
        fs: IFilesystem,
        directory: str,
        snapshot: WalSnapshot = WalSnapshot(),  # noqa: B008 - immutable
        segment_bytes: int = SEGMENT_BYTES,
    ) -> tuple[Wal, WalContents]:
        """A log from ``snapshot`` on, and what it says.

        A last record that was cut short is dropped, after its segment was copied to ``.broken``.
        CorruptError for any other damage; StorageError when segments or the snapshot's record are
        missing or another process holds a segment.
        """
        opened = opening.open_locked(fs, directory, snapshot, segment_bytes)
        return cls(fs, directory, opened, segment_bytes), opened.contents

    # --- writing --------------------------------------------------------------------------------

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> bool:
        """Write entries, then the state if it is not all zero. Whether a sync must follow before
        anybody may rely on it: not when only the commit index moved."""
        self._require_usable()
        pieces, crc = encode_entry_frames(entries, self._crc) if entries else ([], self._crc)
        must_sync = bool(entries)
        state = self._state
        if hard_state is not None and hard_state != EMPTY_HARD_STATE:
            must_sync |= hard_state.term != state.term or hard_state.vote != state.vote
            frame, crc = encode_chained(STATE, crc, encode_hard_state(hard_state))
            pieces.append(frame)
            state = hard_state
        if not pieces:
            return False
        self._write(b"".join(pieces), crc)
        self._state = state
        if entries:
            self._last_index = entries[-1].index
        # One change of segments at a time; until it is synced, the current segment just grows.
        if self._offset >= self._segment_bytes and self._cut is None:
            self._change_segment()
        return must_sync

    def save_snapshot(self, snapshot: WalSnapshot) -> None:
        """Record that the ``.snap`` file of ``snapshot`` is durable; a sync must follow before
        anything that the snapshot replaces is released."""
        self._require_usable()
        frame, crc = encode_chained(SNAPSHOT, self._crc, snapshot.encode())
        self._write(frame, crc)
        # An installed snapshot may be ahead of every entry; the next segment's name must be too.
        self._last_index = max(self._last_index, snapshot.index)
        self._snapshot_index = max(self._snapshot_index, snapshot.index)

    def begin_sync(self) -> None:
        """Have the disk begin with what was appended, for a ``sync`` that soon follows."""
        self._require_usable()
        self._tail.file.start_writing(self._begun, self._offset - self._begun)
        self._begun = self._offset

    def sync(self) -> None:
        """Return once everything appended before this call survives a power cut."""
        with self._sync_lock:
            self._require_usable()
            # The tail before the cut: a change of segments sets them in the other order, so
            # whichever tail is seen here, its predecessor is synced first.
            tail = self._tail
            snapshot_index = self._snapshot_index
            try:
                self._finish_cut()
                tail.file.sync_data()
            except OSError:
                self._failed = True
                raise
            self._durable_snapshot_index = snapshot_index

    def close(self) -> None:
        """Release files and locks; what was not synced may be lost. Closing twice is harmless.

        Waits for a sync under way on another thread; a ``prepare_next_segment`` under way gives
        up on its own.
        """
        self._next.close()
        with self._sync_lock:
            self._failed = True
            for segment in self._segments:
                segment.file.close()
            self._segments = []

    # --- segments -------------------------------------------------------------------------------

    @property
    def last_index(self) -> int:
        """Index of the last entry written, or of the last snapshot if that is ahead."""
        return self._last_index

    @property
    def segment_names(self) -> list[str]:
        """Names of the segments that are held, oldest first."""
        return [str(segment.name) for segment in self._segments]

    @property
    def wants_next_segment(self) -> bool:
        """Whether now is a good time to run ``prepare_next_segment``."""
        return self._offset > self._segment_bytes // 2 and not self._next.ready

    def prepare_next_segment(self) -> None:
        """Make the file that the next change of segments takes, with zeros really written, which
        makes syncs to it cheaper. Blocks for as long as writing a segment takes."""
        self._next.prepare()

    def release_to(self, index: int) -> None:
        """Unlock the segments that nobody needs who starts from the snapshot at ``index``."""
        durable = self._durable_snapshot_index
        assert index <= durable, f"release to {index}, the last durable snapshot is at {durable}"
        # Until the cut is synced, the segment before it is still being written.
        held = self._segments[:-1] if self._cut is not None else self._segments
        count = len(held) - 1
        for place, segment in enumerate(held):
            if segment.name.first_index >= index:
                count = place - 1
                break
        for segment in self._segments[: max(0, count)]:
            segment.file.close()
        del self._segments[: max(0, count)]

    # --- inside ---------------------------------------------------------------------------------

    def _require_usable(self) -> None:
        if self._failed:
            raise StorageError(f"wal: {self._directory} is closed or an earlier write failed")

    def _write(self, data: bytes, crc: int) -> None:
        try:
            self._tail.file.pwrite(data, self._offset)
        except OSError:
            self._failed = True
            raise
        self._offset += len(data)
        self.written_bytes += len(data)
        self._crc = crc

    def _change_segment(self) -> None:
        old = self._tail
        name = SegmentName(old.name.sequence + 1, self._last_index + 1)
        header, crc = segment_header(self._crc, self._metadata, self._state)
        try:
            new = Segment(name, self._next.take())
            self._segments.append(new)
            new.file.pwrite(header, 0)
            old.file.truncate(self._offset)
        except OSError:
            self._failed = True
            raise
        self._cut = _Cut(old, new)
        self._tail = new
        self._begun = 0
        self._offset = len(header)
        self._crc = crc

    def _finish_cut(self) -> None:
        cut = self._cut
        if cut is None:
            return
        cut.old.file.sync_data()
        cut.new.file.sync_data()
        path = segment_path(self._directory, cut.new.name)
        self._fs.rename(cut.new.file.path, path)
        cut.new.file.path = path
        self._fs.sync_dir(self._directory)
        self._cut = None


def segment_header(crc: int, metadata: bytes, state: HardState) -> tuple[bytes, int]:
    """What every segment but the first begins with, and the checksum after it."""
    start = encode_frame(CRC, crc, None)
    frame, crc = encode_chained(METADATA, crc, metadata)
    if state == EMPTY_HARD_STATE:
        return start + frame, crc
    state_frame, crc = encode_chained(STATE, crc, encode_hard_state(state))
    return start + frame + state_frame, crc


def is_wal_directory(fs: IFilesystem, directory: str) -> bool:
    """Whether a log is in this directory."""
    return fs.isdir(directory) and any(name.endswith(".wal") for name in fs.listdir(directory))
