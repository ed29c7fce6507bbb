"""Raft values as etcd's ``raftpb`` bytes, and back.

The bytes are etcd's exactly: fields in order of their numbers, every non-nullable scalar written
even when it is zero, repeated numbers not packed, ``bytes`` fields left out when None and written
with length 0 when empty. Two members that hold the same log therefore hold the same bytes.

Decoders take fields in any order, skip fields they do not know (newer releases add some), and
raise ValueError for a truncated field, an overlong number or a known field of the wrong type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypeVar

from etcdtw.raft.messages import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
)
from etcdtw.varint import varint

_E = TypeVar("_E", EntryType, MessageType, ConfChangeType)

# --- varints -------------------------------------------------------------------------------------


def decode_varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at ``position`` and the position after it; IndexError when it is cut short."""
    byte = data[position]
    if byte < 0x80:
        return byte, position + 1
    number = byte & 0x7F
    shift = 7
    while True:
        position += 1
        byte = data[position]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if number >> 64:
                raise ValueError("number longer than 64 bits")
            return number, position + 1
        shift += 7
        if shift > 63:
            raise ValueError("number longer than 64 bits")


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def decode_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message as (number << 3 | wire type, value).

    Fixed-width fields, which raftpb has none of, come with their raw bytes.
    """
    position = 0
    end = len(data)
    try:
        while position < end:
            tag, position = decode_varint(data, position)
            if tag < 8:
                raise ValueError("field number 0")
            if tag & 7 == _VARINT:
                number, position = decode_varint(data, position)
                yield tag, number
            else:
                start, position = _value_bounds(data, tag, position)
                yield tag, data[start:position]
    except IndexError:
        raise ValueError("message is cut short") from None


def _value_bounds(data: bytes, tag: int, position: int) -> tuple[int, int]:
    """Where the value of a field begins and ends; IndexError when it is cut short."""
    wire_type = tag & 7
    if wire_type == _VARINT:
        return position, decode_varint(data, position)[1]
    if wire_type == _BYTES:
        length, position = decode_varint(data, position)
    elif wire_type == _FIXED64:
        length = 8
    elif wire_type == _FIXED32:
        length = 4
    else:
        raise ValueError(f"field {tag >> 3} has wire type {wire_type}")
    if position + length > len(data):
        raise ValueError(f"field {tag >> 3} is cut short")
    return position, position + length


def _fields(data: bytes, kind: str, known: dict[int, int]) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers with values, for the known ones only; ``known`` maps them to wire types."""
    for tag, value in decode_fields(data):
        wire_type = known.get(tag >> 3)
        if wire_type is None:
            continue
        if wire_type != tag & 7:
            raise ValueError(f"{kind}: field {tag >> 3} has wire type {tag & 7}")
        yield tag >> 3, value


def _number(value: int | bytes) -> int:
    assert isinstance(value, int), "a field of a checked wire type"
    return value


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes), "a field of a checked wire type"
    return value


def _enum(kind: type[_E], value: int | bytes) -> _E:
    return kind(_number(value))


def _optional_bytes(tag: bytes, value: bytes | None) -> bytes:
    return b"" if value is None else tag + varint(len(value)) + value


# --- entries -------------------------------------------------------------------------------------

_ENTRY_TYPES = list(EntryType)
_ENTRY_FIELDS = {1: _VARINT, 2: _VARINT, 3: _VARINT, 4: _BYTES}


def encode_entry_head(entry_type: EntryType, term: int) -> bytes:
    """What all entries of one type and term begin with; the varint of the index follows."""
    return b"\x08" + varint(entry_type) + b"\x10" + varint(term) + b"\x18"


def encode_entry(entry: Entry) -> bytes:
    head = encode_entry_head(entry.type, entry.term) + varint(entry.index)
    data = entry.data
    if data is None:
        return head
    return head + b"\x22" + varint(len(data)) + data


def encode_entries(entries: Sequence[Entry]) -> list[bytes]:
    """Each entry's bytes; entries of one term share the encoding of their head."""
    encoded = []
    term = entry_type = -1
    head = b""
    for entry in entries:
        if entry.term != term or entry.type != entry_type:
            term, entry_type = entry.term, entry.type
            head = encode_entry_head(entry.type, entry.term)
        data = entry.data
        if data is None:
            encoded.append(head + varint(entry.index))
        else:
            body = head + varint(entry.index) + b"\x22" + varint(len(data))
            encoded.append(body + data)
    return encoded


def decode_entry(data: bytes) -> Entry:
    # The order that every encoder of etcd writes, taken apart without a loop.
    try:
        if data[0] == 0x08 and data[1] < 3 and data[2] == 0x10:
            term = data[3]
            position = 4
            if term >= 0x80:
                term, position = decode_varint(data, 3)
            if data[position] == 0x18:
                index, position = decode_varint(data, position + 1)
                if position == len(data):
                    return Entry(term, index, _ENTRY_TYPES[data[1]], None)
                if data[position] == 0x22:
                    length, position = decode_varint(data, position + 1)
                    if position + length == len(data):
                        return Entry(term, index, _ENTRY_TYPES[data[1]], data[position:])
    except IndexError:
        pass
    return _decode_any_entry(data)


def _decode_any_entry(data: bytes) -> Entry:
    entry_type = EntryType.NORMAL
    term = index = 0
    content: bytes | None = None
    for field, value in _fields(data, "Entry", _ENTRY_FIELDS):
        if field == 1:
            entry_type = _enum(EntryType, value)
        elif field == 2:
            term = _number(value)
        elif field == 3:
            index = _number(value)
        else:
            content = _bytes(value)
    return Entry(term, index, entry_type, content)


# --- states and configurations -------------------------------------------------------------------

_HARD_STATE_FIELDS = {1: _VARINT, 2: _VARINT, 3: _VARINT}


def encode_hard_state(state: HardState) -> bytes:
    return (
        b"\x08" + varint(state.term) + b"\x10" + varint(state.vote) + b"\x18" + varint(state.commit)
    )


def decode_hard_state(data: bytes) -> HardState:
    values = [0, 0, 0, 0]
    for field, value in _fields(data, "HardState", _HARD_STATE_FIELDS):
        values[field] = _number(value)
    return HardState(term=values[1], vote=values[2], commit=values[3])


_CONF_STATE_LISTS = {1, 2, 3, 4}
_CONF_STATE_AUTO_LEAVE = 5


def encode_conf_state(state: ConfState) -> bytes:
    parts: list[bytes] = []
    for tag, members in (
        (b"\x08", state.voters),
        (b"\x10", state.learners),
        (b"\x18", state.voters_outgoing),
        (b"\x20", state.learners_next),
    ):
        parts += [tag + varint(member) for member in members]
    parts.append(b"\x28\x01" if state.auto_leave else b"\x28\x00")
    return b"".join(parts)


def decode_conf_state(data: bytes) -> ConfState:
    lists: dict[int, list[int]] = {field: [] for field in _CONF_STATE_LISTS}
    auto_leave = False
    for tag, value in decode_fields(data):
        field = tag >> 3
        if field in _CONF_STATE_LISTS:
            if tag & 7 == _VARINT:
                lists[field].append(_number(value))
            elif tag & 7 == _BYTES:  # the packed form, which every protobuf reader must take
                lists[field] += _packed(_bytes(value))
            else:
                raise ValueError(f"ConfState: field {field} has wire type {tag & 7}")
        elif field == _CONF_STATE_AUTO_LEAVE:
            if tag & 7 != _VARINT:
                raise ValueError(f"ConfState: field {field} has wire type {tag & 7}")
            auto_leave = value != 0
    return ConfState(
        voters=tuple(lists[1]),
        learners=tuple(lists[2]),
        voters_outgoing=tuple(lists[3]),
        learners_next=tuple(lists[4]),
        auto_leave=auto_leave,
    )


def _packed(data: bytes) -> Iterator[int]:
    position = 0
    try:
        while position < len(data):
            number, position = decode_varint(data, position)
            yield number
    except IndexError:
        raise ValueError("packed numbers are cut short") from None


_CONF_CHANGE_FIELDS = {1: _VARINT, 2: _VARINT, 3: _VARINT, 4: _BYTES}


def encode_conf_change(change: ConfChange) -> bytes:
    return (
        b"\x08"
        + varint(change.id)
        + b"\x10"
        + varint(change.type)
        + b"\x18"
        + varint(change.node_id)
        + _optional_bytes(b"\x22", change.context)
    )


def decode_conf_change(data: bytes) -> ConfChange:
    identity = node_id = 0
    change_type = ConfChangeType.ADD_NODE
    context: bytes | None = None
    for field, value in _fields(data, "ConfChange", _CONF_CHANGE_FIELDS):
        if field == 1:
            identity = _number(value)
        elif field == 2:
            change_type = _enum(ConfChangeType, value)
        elif field == 3:
            node_id = _number(value)
        else:
            context = _bytes(value)
    return ConfChange(id=identity, type=change_type, node_id=node_id, context=context)


# --- snapshots -----------------------------------------------------------------------------------

_SNAPSHOT_FIELDS = {1: _BYTES, 2: _BYTES}
_SNAPSHOT_METADATA_FIELDS = {1: _BYTES, 2: _VARINT, 3: _VARINT}


def encode_snapshot(snapshot: Snapshot) -> bytes:
    conf_state = encode_conf_state(snapshot.conf_state)
    metadata = (
        b"\x0a"
        + varint(len(conf_state))
        + conf_state
        + b"\x10"
        + varint(snapshot.index)
        + b"\x18"
        + varint(snapshot.term)
    )
    return _optional_bytes(b"\x0a", snapshot.data) + b"\x12" + varint(len(metadata)) + metadata


def decode_snapshot(data: bytes) -> Snapshot:
    content: bytes | None = None
    conf_state = ConfState()
    index = term = 0
    for field, value in _fields(data, "Snapshot", _SNAPSHOT_FIELDS):
        if field == 1:
            content = _bytes(value)
            continue
        for inner, part in _fields(_bytes(value), "SnapshotMetadata", _SNAPSHOT_METADATA_FIELDS):
            if inner == 1:
                conf_state = decode_conf_state(_bytes(part))
            elif inner == 2:
                index = _number(part)
            else:
                term = _number(part)
    return Snapshot(index=index, term=term, conf_state=conf_state, data=content)


# --- messages ------------------------------------------------------------------------------------

_NO_SNAPSHOT = b"\x4a\x0a\x12\x08\x0a\x02\x28\x00\x10\x00\x18\x00"
"""Field 9 of a message without a snapshot: etcd writes the zero snapshot."""

_MESSAGE_NUMBERS = (1, 2, 3, 4, 5, 6, 8, 10, 11)
_MESSAGE_NUMBER_TAGS = frozenset(field << 3 for field in _MESSAGE_NUMBERS)
_MESSAGE_BYTES_TAGS = frozenset(field << 3 | _BYTES for field in (7, 9, 12))
_MESSAGE_TYPES = dict(enumerate(MessageType))


def encode_message(message: Message) -> bytes:
    parts = [_encoded_beginning(*message[:5]), b"\x30", varint(message.index)]
    for body in encode_entries(message.entries):
        parts += (b"\x3a", varint(len(body)), body)
    parts += (b"\x40", varint(message.commit))
    if message.snapshot is None:
        parts.append(_NO_SNAPSHOT)
    else:
        body = encode_snapshot(message.snapshot)
        parts += (b"\x4a", varint(len(body)), body)
    parts += (
        b"\x50\x01\x58" if message.reject else b"\x50\x00\x58",
        varint(message.reject_hint),
    )
    if message.context is not None:
        parts += (b"\x62", varint(len(message.context)), message.context)
    return b"".join(parts)


@lru_cache(maxsize=64)
def _encoded_beginning(
    message_type: MessageType, to: int, from_: int, term: int, log_term: int
) -> bytes:
    """Where a message belongs, which is the same again and again."""
    numbers = (message_type, to, from_, term, log_term)
    return b"".join(
        bytes((field << 3,)) + varint(number) for field, number in enumerate(numbers, 1)
    )


# What stands before and behind the entries of a message without a snapshot, in the form that every
# encoder of etcd writes: where it belongs, and then its numbers. A context comes last.
_NUMBER = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
_BEFORE_ENTRIES = re.compile(
    rb"(\x08[\x00-\x7f]\x10N\x18N\x20N\x28N)\x30(N)".replace(b"N", _NUMBER)
)
_BEHIND_ENTRIES = re.compile(
    rb"\x40(N)".replace(b"N", _NUMBER)
    + re.escape(_NO_SNAPSHOT)
    + rb"\x50([\x00\x01])\x58(N)(?:\x62([\x00-\x7f])(.*))?".replace(b"N", _NUMBER),
    re.DOTALL,
)


def decode_message(data: bytes) -> Message:
    before = _BEFORE_ENTRIES.match(data)
    if before is None:
        return _decode_any_message(data)
    at = before.end()
    entries = []
    try:
        while data[at] == 0x3A:
            length, start = decode_varint(data, at + 1)
            at = start + length
            entries.append(decode_entry(data[start:at]))
    except IndexError:
        return _decode_any_message(data)
    behind = _BEHIND_ENTRIES.fullmatch(data, at)
    if behind is None:
        return _decode_any_message(data)
    beginning, index = before.groups()
    commit, reject, hint, context_length, context = behind.groups()
    if context is not None and len(context) != context_length[0]:
        return _decode_any_message(data)
    return Message(
        *_decoded_beginning(beginning),
        index[0] if len(index) == 1 else decode_varint(index, 0)[0],
        tuple(entries),
        commit[0] if len(commit) == 1 else decode_varint(commit, 0)[0],
        None,
        reject == b"\x01",
        hint[0] if len(hint) == 1 else decode_varint(hint, 0)[0],
        context,
    )


@lru_cache(maxsize=64)
def _decoded_beginning(data: bytes) -> tuple[MessageType, int, int, int, int]:
    message = _decode_any_message(data)
    return message.type, message.to, message.from_, message.term, message.log_term


def _decode_any_message(data: bytes) -> Message:
    numbers = [0] * 12
    entries: list[Entry] = []
    snapshot: Snapshot | None = None
    context: bytes | None = None
    position = 0
    end = len(data)
    try:
        while position < end:
            tag = data[position]
            if tag in _MESSAGE_NUMBER_TAGS:
                number = data[position + 1]
                position += 2
                if number >= 0x80:
                    number, position = decode_varint(data, position - 1)
                numbers[tag >> 3] = number
            elif tag in _MESSAGE_BYTES_TAGS:
                length, start = decode_varint(data, position + 1)
                position = start + length
                if position > end:
                    raise ValueError(f"Message: field {tag >> 3} is cut short")
                value = data[start:position]
                if tag == 0x3A:
                    entries.append(decode_entry(value))
                elif tag == 0x62:
                    context = value
                else:
                    snapshot = None if value == _NO_SNAPSHOT[2:] else decode_snapshot(value)
            else:
                position = _skip_unknown(data, position)
    except IndexError:
        raise ValueError("Message is cut short") from None
    message_type = _MESSAGE_TYPES.get(numbers[1])
    if message_type is None:
        raise ValueError(f"Message has the unknown type {numbers[1]}")
    return Message(
        message_type,
        numbers[2],
        numbers[3],
        numbers[4],
        numbers[5],
        numbers[6],
        tuple(entries),
        numbers[8],
        snapshot,
        numbers[10] != 0,
        numbers[11],
        context,
    )


def _skip_unknown(data: bytes, position: int) -> int:
    """The position after a field that a Message of this release does not have."""
    tag, after = decode_varint(data, position)
    if tag >> 3 <= 12:
        raise ValueError(f"Message: field {tag >> 3} has wire type {tag & 7}")
    return _value_bounds(data, tag, after)[1]
