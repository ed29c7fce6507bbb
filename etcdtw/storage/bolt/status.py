"""What ``etcdctl snapshot status`` says of a snapshot."""

from __future__ import annotations

from typing import NamedTuple

from google_crc32c import extend

from etcdtw.storage.bolt.reader import BoltFile

_KEYS = b"key"
_HASH_RECORDS = 256


class SnapshotStatus(NamedTuple):
    """``hash`` is the CRC-32C of all names and records, ``revision`` that of the newest change
    (0: none), ``total_keys`` the number of records of all buckets, ``total_size`` the bytes in
    use."""

    hash: int
    revision: int
    total_keys: int
    total_size: int


def snapshot_status(file: BoltFile) -> SnapshotStatus:
    """Reads everything. CorruptError for a damaged file."""
    crc = total = 0
    newest = b""
    for bucket in file.buckets():
        crc = extend(crc, bucket)
        parts: list[bytes] = []
        for key, value in file.scan(bucket):
            parts += (key, value)
            total += 1
            if len(parts) >= _HASH_RECORDS:
                crc = extend(crc, b"".join(parts))
                parts.clear()
            if bucket == _KEYS:
                newest = key
        crc = extend(crc, b"".join(parts))
    return SnapshotStatus(crc, int.from_bytes(newest[:8], "big"), total, file.size)
