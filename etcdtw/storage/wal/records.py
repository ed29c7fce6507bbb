"""Records of the write-ahead log and their frames (docs/formats/wal.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

from google_crc32c import extend

from etcdtw.raft.codec import (
    decode_conf_state,
    decode_fields,
    decode_varint,
    encode_conf_state,
    encode_entry_head,
)
from etcdtw.raft.messages import ConfState, Entry
from etcdtw.varint import SHORT, SHORT_END, varint, varints

METADATA, ENTRY, STATE, CRC, SNAPSHOT = 1, 2, 3, 4, 5
"""Record types."""

LENGTH_FIELD = Struct("<Q")
FRAME_ALIGNMENT = 8

# The length field says in its top byte how many bytes of padding follow, if any do.
_PADDING_MARK = [0] + [(0x80 | padding) << 56 for padding in range(1, FRAME_ALIGNMENT)]
_PADDING = [bytes(padding) for padding in range(FRAME_ALIGNMENT)]

_pack_length = LENGTH_FIELD.pack
# A length field, and an entry's record up to its data, where its checksum takes five bytes and the
# length of the data two: what nearly all are.
_ENTRY_START = Struct("<Q3s8B")
_pack_entry_start = _ENTRY_START.pack
ENTRY_START_BYTES = _ENTRY_START.size
_RECORD_START_BYTES = ENTRY_START_BYTES - LENGTH_FIELD.size
# The length field without the data's length, by that length modulo 8.
_ENTRY_LENGTHS = [
    _RECORD_START_BYTES | _PADDING_MARK[-_RECORD_START_BYTES - size & 7]
    for size in range(FRAME_ALIGNMENT)
]


@dataclass(frozen=True, slots=True)
class WalSnapshot:
    """A record that a snapshot of the state at ``index`` is in a ``.snap`` file.

    The one at index 0 stands at the start of every log. Releases before 3.5 write no conf_state.
    """

    index: int = 0
    term: int = 0
    conf_state: ConfState | None = None

    def encode(self) -> bytes:
        data = b"\x08" + varint(self.index) + b"\x10" + varint(self.term)
        if self.conf_state is None:
            return data
        conf_state = encode_conf_state(self.conf_state)
        return data + b"\x1a" + varint(len(conf_state)) + conf_state

    @classmethod
    def decode(cls, data: bytes) -> WalSnapshot:
        index = term = 0
        conf_state = None
        for tag, value in decode_fields(data):
            if tag == 0x08 and isinstance(value, int):
                index = value
            elif tag == 0x10 and isinstance(value, int):
                term = value
            elif tag == 0x1A and isinstance(value, bytes):
                conf_state = decode_conf_state(value)
            elif tag >> 3 <= 3:
                raise ValueError(f"walpb.Snapshot: field {tag >> 3} has wire type {tag & 7}")
        return cls(index, term, conf_state)


def encode_metadata(member_id: int, cluster_id: int) -> bytes:
    """What etcd puts into a log's metadata record."""
    return b"\x08" + varint(member_id) + b"\x10" + varint(cluster_id)


def decode_metadata(data: bytes) -> tuple[int, int]:
    """Member id and cluster id; ValueError when it is something else."""
    values = {0x08: 0, 0x10: 0}
    for tag, value in decode_fields(data):
        if tag in values and isinstance(value, int):
            values[tag] = value
        elif tag >> 3 <= 2:
            raise ValueError(f"Metadata: field {tag >> 3} has wire type {tag & 7}")
    return values[0x08], values[0x10]


def encode_frame(record_type: int, crc: int, data: bytes | None) -> bytes:
    """A whole frame: length field, record, padding."""
    record = b"\x08" + varint(record_type) + b"\x10" + varint(crc)
    if data is not None:
        record += b"\x1a" + varint(len(data)) + data
    padding = -len(record) & 7
    return _pack_length(len(record) | _PADDING_MARK[padding]) + record + _PADDING[padding]


def encode_chained(record_type: int, crc: int, data: bytes) -> tuple[bytes, int]:
    """The frame of a record whose checksum continues ``crc``, and the checksum after it."""
    crc = extend(crc, data)
    return encode_frame(record_type, crc, data), crc


def encode_entry_frames(entries: Sequence[Entry], crc: int) -> tuple[list[bytes], int]:
    """Pieces of the frames of consecutive entries, to be joined, and the checksum after them.

    This is the one loop that every write passes through: the parts of a frame are spelled out
    here rather than gathered from the functions above, which would double its cost.
    """
    pieces: list[bytes] = []
    term = entry_type = -1
    head = b""
    if not entries:
        return pieces, crc
    indexes = varints(entries[0].index, len(entries))
    for (entry_term, _, kind, content), index in zip(entries, indexes, strict=True):
        if entry_term != term or kind != entry_type:
            term = entry_term
            entry_type = kind
            head = encode_entry_head(kind, term)
        if content is None:
            data = head + index
        else:
            size = len(content)
            length = (size < SHORT_END and SHORT[size]) or varint(size)
            data = b'%b%b"%b%b' % (head, index, length, content)
        crc = extend(crc, data)
        size = len(data)
        start = entry_frame_start(crc, size)
        if not start:
            start = b"\x08\x02\x10%b\x1a%b" % (varint(crc), varint(size))
            record_bytes = len(start) + size
            start = _pack_length(record_bytes | _PADDING_MARK[-record_bytes & 7]) + start
        pieces += (start, data, _PADDING[-len(start) - size & 7])
    return pieces, crc


def entry_frame_start(crc: int, size: int) -> bytes:
    """What stands before ``size`` bytes of data in the frame of an entry with this checksum; b""
    where that is not ``ENTRY_START_BYTES`` long."""
    if not 0x80 <= size < 0x4000 or crc < 1 << 28:
        return b""
    # Not by the tables of varints: checksums are random numbers, for which those lie too far apart
    # in memory.
    return _pack_entry_start(
        _ENTRY_LENGTHS[size & 7] + size,
        b"\x08\x02\x10",
        crc & 0x7F | 0x80,
        crc >> 7 & 0x7F | 0x80,
        crc >> 14 & 0x7F | 0x80,
        crc >> 21 & 0x7F | 0x80,
        crc >> 28,
        0x1A,
        size & 0x7F | 0x80,
        size >> 7,
    )


def decode_record(record: bytes) -> tuple[int, int, bytes | None]:
    """Type, checksum and data of a record; ValueError when it is not one."""
    # The order that every encoder writes, taken apart without a loop.
    try:
        if record[0] == 0x08 and record[1] < 0x80 and record[2] == 0x10:
            crc, position = decode_varint(record, 3)
            if position == len(record):
                return record[1], crc, None
            if record[position] == 0x1A:
                length, position = decode_varint(record, position + 1)
                if position + length == len(record):
                    return record[1], crc, record[position:]
    except IndexError:
        pass
    record_type = crc = 0
    data: bytes | None = None
    for tag, value in decode_fields(record):
        if tag == 0x08 and isinstance(value, int):
            record_type = value
        elif tag == 0x10 and isinstance(value, int):
            crc = value & 0xFFFFFFFF
        elif tag == 0x1A and isinstance(value, bytes):
            data = value
        elif tag >> 3 <= 3:
            raise ValueError(f"walpb.Record: field {tag >> 3} has wire type {tag & 7}")
    return record_type, crc, data
