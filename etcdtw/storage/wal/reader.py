"""Reading records off segments, in order, with every checksum verified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google_crc32c import extend

from etcdtw.errors import CorruptError
from etcdtw.storage.interfaces import IFile
from etcdtw.storage.wal.records import (
    CRC,
    ENTRY,
    ENTRY_START_BYTES,
    LENGTH_FIELD,
    decode_record,
    entry_frame_start,
)

SECTOR_BYTES = 512
"""What a disk writes whole; a write that was cut short is missing some sectors."""

_CHUNK_BYTES = 1 << 20
_LENGTH_MASK = (1 << 56) - 1
_PADDED = 0x80


class TornError(CorruptError):
    """The log ends in the middle of a record, as a write that was cut short leaves it.

    ``in_last_segment`` says whether it may be repaired by dropping that record.
    """

    def __init__(self, path: str, offset: int, why: str, in_last_segment: bool) -> None:
        super().__init__(f"unexpected EOF: {why} in {path} at offset {offset}")
        self.in_last_segment = in_last_segment


class RecordReader:
    """Records of consecutive segments.

    After, or in the middle of, an iteration ``offset`` is the end of the last good record in the
    segment being read; after it ``crc`` is the running checksum.
    """

    def __init__(self, files: Sequence[IFile], *, without_entries: bool = False) -> None:
        """``without_entries`` verifies entries like everything else, but leaves most out."""
        self._files = files
        self._without_entries = without_entries
        self._path = ""
        # etcd before 3.0 did not pad, and what it began a later one goes on with, padding.
        self._has_padding = False
        self.offset = 0
        self.crc = 0

    @property
    def location(self) -> str:
        """Where the record that was read last ends, for messages."""
        return f"{self._path} before offset {self.offset}"

    def __iter__(self) -> Iterator[tuple[int, bytes | None]]:
        """Type and data of each record. TornError or CorruptError ends it."""
        for file in self._files:
            self.offset = 0
            self._path = file.path
            yield from self._read(file, file is self._files[-1])

    def _read(self, file: IFile, last: bool) -> Iterator[tuple[int, bytes | None]]:
        size = file.size()
        buffer = b""
        start = 0  # offset of the buffer in the file
        unpack = LENGTH_FIELD.unpack_from
        while True:
            offset = self.offset
            if offset - start + 8 > len(buffer):
                start, buffer = offset, file.pread(_CHUNK_BYTES, offset)
                if not buffer:
                    return
                if len(buffer) < 8:
                    raise TornError(file.path, offset, "a length field is cut short", last)
            (field,) = unpack(buffer, offset - start)
            if field == 0:
                return
            length = field & _LENGTH_MASK
            mark = field >> 56
            padding = mark & 7 if mark & _PADDED else 0
            end = offset + 8 + length + padding
            if end > size:
                why = f"a record of {length} bytes is longer than the rest"
                raise TornError(file.path, offset, why, last)
            if end - start > len(buffer):
                start = offset
                buffer = file.pread(max(_CHUNK_BYTES, end - offset), offset)
            entries = self._take_entries(buffer, offset - start)
            if entries:
                for entry in entries:
                    self.offset += ENTRY_START_BYTES + len(entry) + 7 & -8
                    if not self._without_entries:
                        yield ENTRY, entry
                continue
            body = offset - start + 8
            record = buffer[body : body + length]
            try:
                self._check_padding(mark, length)
                record_type, crc, data = decode_record(record)
                if record_type != CRC:
                    self._extend(crc, data)
            except ValueError as error:
                if last and _misses_a_sector(buffer[body : end - start], offset + 8):
                    raise TornError(file.path, offset, "a sector was not written", last) from None
                raise CorruptError(f"{error} in {file.path} at offset {offset}") from None
            if record_type == CRC:
                if self.crc not in (0, crc):
                    raise CorruptError(f"wal: crc mismatch in {file.path} at offset {offset}")
                self.crc = crc
            self.offset = end
            yield record_type, data

    def _take_entries(self, buffer: bytes, at: int) -> list[bytes]:
        """What is in the buffer of ordinary entries from there on: nearly all that a log holds.
        Each is verified by being exactly what encoding its data gives."""
        entries: list[bytes] = []
        end = len(buffer)
        unpack = LENGTH_FIELD.unpack_from
        crc = self.crc
        while end - at > ENTRY_START_BYTES:
            (field,) = unpack(buffer, at)
            content = at + ENTRY_START_BYTES
            stop = at + 8 + (field & _LENGTH_MASK)
            after = stop + (field >> 56 & 7)
            if after > end:
                break
            entry = buffer[content:stop]
            next_crc = extend(crc, entry)
            if buffer[at:content] != entry_frame_start(next_crc, len(entry)):
                break
            self._has_padding |= after > stop
            crc = next_crc
            at = after
            entries.append(entry)
        self.crc = crc
        return entries

    def _check_padding(self, mark: int, length: int) -> None:
        expected = -length & 7
        if mark == 0 and expected and not self._has_padding:
            return
        if mark != (_PADDED | expected if expected else 0):
            raise ValueError(f"padding {mark:#x} after {length} bytes")
        self._has_padding |= mark != 0

    def _extend(self, crc: int, data: bytes | None) -> None:
        running = extend(self.crc, data) if data else self.crc
        if running != crc:
            raise ValueError("walpb: crc mismatch")
        self.crc = running


def _misses_a_sector(data: bytes, offset: int) -> bool:
    """Whether a record's part in some sector is all zero, as before the record was written."""
    position = 0
    while position < len(data):
        part = SECTOR_BYTES - (offset + position) % SECTOR_BYTES
        if not any(data[position : position + part]):
            return True
        position += part
    return False
