"""Replicated lease requests, carried out in log order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from etcdtw.lease.lessor import Lessor
from etcdtw.pb.rpc_pb2 import (
    LeaseCheckpointRequest,
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseRevokeRequest,
)


class HeaderSource(Protocol):
    def encode(self, revision: int) -> bytes:
        """The tagged ResponseHeader of an answer."""


class WriteTxn(Protocol):
    def delete_range(self, key: bytes, end: bytes | None, /) -> object: ...
    def end(self) -> int: ...


class LeasedStore(Protocol):
    """What the end of a lease needs of the store."""

    @property
    def revision(self) -> int: ...
    def write(self) -> WriteTxn: ...


class LeaseApplier:
    """Applies grants, revocations and checkpoints. ``seconds`` tells the time that leases run
    by; it decides nothing that is replicated."""

    def __init__(
        self,
        lessor: Lessor,
        store: LeasedStore,
        header: HeaderSource,
        seconds: Callable[[], float],
    ) -> None:
        self._lessor = lessor
        self._store = store
        self._header = header
        self._seconds = seconds

    def grant(self, request: LeaseGrantRequest) -> bytes:
        """A LeaseGrantResponse. The proposer has chosen an id where the client left it open.

        Raises LeaseExists, LeaseTTLTooLarge, LeaseNotFound (id 0).
        """
        ttl = self._lessor.grant(request.ID, request.TTL, self._seconds())
        answer = LeaseGrantResponse(ID=request.ID, TTL=ttl)
        return self._header.encode(self._store.revision) + answer.SerializeToString()

    def keys_of(self, lease_id: int) -> list[bytes]:
        """The keys of a lease, in order; none where there is no such lease."""
        return self._lessor.keys(lease_id)

    def revoke(self, request: LeaseRevokeRequest) -> bytes:
        """A LeaseRevokeResponse, after deleting the lease's keys in bytewise order in one
        revision; without keys there is no new revision. Raises LeaseNotFound."""
        keys = self._lessor.revoke(request.ID)
        if keys:
            txn = self._store.write()
            for key in keys:
                txn.delete_range(key, None)
            txn.end()
        return self._header.encode(self._store.revision)

    def checkpoint(self, request: LeaseCheckpointRequest) -> bytes:
        """A LeaseCheckpointResponse. Raises LeaseNotFound, as etcd does, at the first lease that
        is gone; those before it are checkpointed."""
        now = self._seconds()
        for each in request.checkpoints:
            self._lessor.checkpoint(each.ID, each.remaining_TTL, now)
        return self._header.encode(self._store.revision)
