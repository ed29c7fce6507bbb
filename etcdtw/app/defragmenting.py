"""The keyspace is defragmented before a member serves, if that is worth it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from etcdtw.mvcc.interfaces import IDurableBackend

log = Logger(namespace="etcdtw.member")


async def defragment_at_start(backend: IDurableBackend, threshold_bytes: int) -> None:
    """Defragment if at least so many bytes come free; whatever is wrong with that is raised."""
    size, in_use = backend.size(), backend.size_in_use()
    # etcd's words: its tests and people look for them.
    fields = {
        "current-db-size-bytes": size,
        "current-db-size-in-use-bytes": in_use,
        "experimental-bootstrap-defrag-threshold-bytes": threshold_bytes,
    }
    if size - in_use < threshold_bytes:
        log.info("Skipping defragmentation", **fields)
        return
    log.info("defragmenting", **fields)
    ended: Deferred[None] = Deferred()
    backend.defragment(lambda: ended.callback(None), ended.errback)
    await ended
    log.info("finished defragmenting", **{"current-db-size-bytes": backend.size()})
