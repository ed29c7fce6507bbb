"""Replicated lease requests, carried out in log order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Protocol

from etcdtw.lease.lessor import Lessor
from etcdtw.pb.rpc_pb2 import (
    LeaseCheckpointRequest,
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseRevokeRequest,
)
from etcdtw.turns import Allowance, TakesTurns, Work, sorted_in_turns


class HeaderSource(Protocol):
    def encode(self, revision: int) -> bytes:
        """The tagged ResponseHeader of an answer."""


class WriteTxn(Protocol):
    def delete(self, keys: list[bytes], /) -> object: ...
    def pause(self) -> None: ...
    def end(self) -> int: ...


class LeasedStore(Protocol):
    """What the end of a lease needs of the store."""

    deletes: int

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
        allowance: Allowance | None = None,
    ) -> None:
        self._lessor = lessor
        self._store = store
        self._header = header
        self._seconds = seconds
        self._allowance = allowance or Allowance()

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
        revision; without keys there is no new revision. Raises LeaseNotFound, and TakesTurns for
        a lease with very many keys."""
        lessor, store = self._lessor, self._store
        if not self._allowance.admits(lessor.key_count(request.ID)):
            raise TakesTurns(self._revoke_in_turns(request.ID))
        keys = lessor.revoke(request.ID)
        if keys:
            store.deletes += len(keys)
            txn = store.write()
            txn.delete(keys)
            txn.end()
        return self._header.encode(store.revision)

    def _revoke_in_turns(self, lease_id: int) -> Work[bytes]:
        """Until its keys are gone the lease is there, with those that are left."""
        lessor, store, piece_keys = self._lessor, self._store, self._allowance.piece_keys
        keys = yield from sorted_in_turns(lessor.unsorted_keys(lease_id), piece_keys)
        txn = store.write()
        while piece := list(islice(keys, piece_keys)):
            store.deletes += len(piece)
            txn.delete(piece)
            txn.pause()
            yield
        lessor.revoke(lease_id)
        return self._header.encode(txn.end())

    def checkpoint(self, request: LeaseCheckpointRequest) -> bytes:
        """A LeaseCheckpointResponse. Raises LeaseNotFound, as etcd does, at the first lease that
        is gone; those before it are checkpointed."""
        now = self._seconds()
        for each in request.checkpoints:
            self._lessor.checkpoint(each.ID, each.remaining_TTL, now)
        return self._header.encode(self._store.revision)
