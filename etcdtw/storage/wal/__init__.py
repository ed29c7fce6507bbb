"""The write-ahead log, in etcd's format."""

from etcdtw.storage.wal.contents import WalContents, read_wal, valid_snapshots
from etcdtw.storage.wal.names import newest_segment
from etcdtw.storage.wal.records import WalSnapshot, decode_metadata, encode_metadata
from etcdtw.storage.wal.segments import SEGMENT_BYTES
from etcdtw.storage.wal.wal import Wal, is_wal_directory

__all__ = [
    "SEGMENT_BYTES",
    "Wal",
    "WalContents",
    "WalSnapshot",
    "decode_metadata",
    "encode_metadata",
    "is_wal_directory",
    "newest_segment",
    "read_wal",
    "valid_snapshots",
]
