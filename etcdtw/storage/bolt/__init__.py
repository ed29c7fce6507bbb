"""bbolt's file format, in which real etcd keeps its keyspace and sends snapshots of it."""

from etcdtw.storage.bolt.reader import BoltFile
from etcdtw.storage.bolt.writer import write_bolt

__all__ = ["BoltFile", "write_bolt"]
