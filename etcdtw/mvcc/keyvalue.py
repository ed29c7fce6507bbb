"""KeyValue records as bytes: written by hand, read by need.

A record is the protobuf of ``mvccpb.KeyValue`` in canonical form: fields in number order, shortest
varints, zero fields absent. A *chunk* is a record behind the tag and length of field 2: what a
RangeResponse, a PutResponse and an Event hold it in, so that answers are joined from chunks.
"""

from __future__ import annotations

from typing import NamedTuple

from etcdtw.pb.kv_pb2 import KeyValue
from etcdtw.varint import signed_varint, varint

parse_record = KeyValue.FromString


class KV(NamedTuple):
    """One key with its value; ``lease`` is 0 without one."""

    key: bytes
    create_revision: int
    mod_revision: int
    version: int
    value: bytes
    lease: int


def decode_kv(record: bytes) -> KV:
    kv = parse_record(record)
    return KV(kv.key, kv.create_revision, kv.mod_revision, kv.version, kv.value, kv.lease)


def encode_head(key: bytes, create_revision: int) -> bytes:
    """The part of a record that stays the same for a generation of its key."""
    return b"".join((b"\x0a", varint(len(key)), key, b"\x10", varint(create_revision)))


def encode_rest(head: bytes, mod_revision: bytes, version: int, value: bytes, lease: int) -> bytes:
    """A record from its head; ``mod_revision`` comes as a varint, one per transaction."""
    pieces = [head, b"\x18", mod_revision, b"\x20", varint(version)]
    if value:
        pieces += (b"\x2a", varint(len(value)), value)
    if lease:
        pieces += (b"\x30", signed_varint(lease))
    return b"".join(pieces)


def encode_kv(kv: KV) -> bytes:
    """A record; byte for byte what protobuf writes for a KeyValue with a key and revisions."""
    head = encode_head(kv.key, kv.create_revision)
    return encode_rest(head, varint(kv.mod_revision), kv.version, kv.value, kv.lease)


def encode_tombstone(key: bytes) -> bytes:
    """What is stored for a deletion: the key alone."""
    return b"".join((b"\x0a", varint(len(key)), key))


def record_key(record: bytes) -> bytes:
    """The key of a record or tombstone, without decoding the rest."""
    length = record[1]
    if length < 0x80:
        return record[2 : 2 + length]
    return parse_record(record).key


def to_chunk(record: bytes) -> bytes:
    return b"\x12" + varint(len(record)) + record


def unchunk(chunk: bytes) -> bytes:
    """The record inside a chunk."""
    start = 2
    while chunk[start - 1] > 0x7F:
        start += 1
    return chunk[start:]


def successor(chunk: bytes, key_length: int) -> tuple[bytes, int]:
    """What the next put of a key needs of its present chunk: the head, and the version."""
    start = 2
    while chunk[start - 1] > 0x7F:
        start += 1
    # Behind the key's tag, length and bytes, and behind the tag of create_revision.
    length_bytes = 1 if key_length < 0x80 else len(varint(key_length))
    at = start + 2 + length_bytes + key_length
    while chunk[at] > 0x7F:
        at += 1
    head = chunk[start : at + 1]
    at += 2
    while chunk[at] > 0x7F:
        at += 1
    at += 2
    version = chunk[at]
    if version > 0x7F:
        shift = 7
        while chunk[at] > 0x7F:
            at += 1
            version += (chunk[at] - 1) << shift
            shift += 7
    return head, version


def without_value(chunk: bytes) -> bytes:
    """The chunk of the same pair with an empty value."""
    kv = parse_record(unchunk(chunk))
    kv.ClearField("value")
    record: bytes = kv.SerializeToString()
    return b"\x12" + varint(len(record)) + record
