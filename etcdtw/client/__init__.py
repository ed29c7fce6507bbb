"""A client of etcd for programs on Twisted.

``Client`` is the way in::

    client = Client(reactor, ["http://127.0.0.1:2379"])
    await client.kv.put(b"key", b"value")
    async for event in client.watch(b"key"):
        ...

It talks gRPC to any member of any etcd from 3.3 on, ours or not, moves on to another endpoint
when one fails, and keeps watches and leases alive over that.
"""

from etcdtw.client.client import Client
from etcdtw.client.lease import KeptLease
from etcdtw.client.tls import tls_files
from etcdtw.client.txn import Txn, created, lease_of, modified, value, version
from etcdtw.client.watch import Watch, WatchCompacted

__all__ = [
    "Client",
    "KeptLease",
    "Txn",
    "Watch",
    "WatchCompacted",
    "created",
    "lease_of",
    "modified",
    "tls_files",
    "value",
    "version",
]
