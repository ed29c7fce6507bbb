"""Leases: who may live how long, and which keys die with them.

What is replicated (which leases exist, their TTLs, their keys) changes only by log entries and is
the same on all members. When a lease expires is known to the primary alone, the lessor of the
leader; everywhere else leases live forever. Times are seconds of a clock that never goes back,
handed in by the caller.

Leases are kept as columns, dictionaries of plain numbers by lease id: a million of them cost
little memory and nothing in a garbage collection.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, inf
from typing import Protocol

from etcdtw.counting import Histogram, doubling
from etcdtw.errors import LeaseExists, LeaseNotFound, LeaseTTLTooLarge, NotLeader
from etcdtw.lease.deadlines import Deadlines
from etcdtw.pb.lease_pb2 import Lease

TTL_SECONDS_MAX = 9_000_000_000
EXPIRED_RETRY_SECONDS = 3.0
CHECKPOINT_INTERVAL_SECONDS = 300.0
# So many leases are looked at in one turn: those that a new primary puts under watch, and those
# whose deadline came up although they were renewed.
ROUND_LEASES_MAX = 10_000
_BUCKET = b"lease"


def ttl_seconds_min(election_ticks: int, heartbeat_seconds: float) -> int:
    """The shortest TTL: one and a half election timeouts (``election_ticks`` heartbeats each),
    in whole seconds."""
    # Rounded first: 10 ticks of 0.1 s are exactly 1 s, whatever binary fractions make of it.
    return ceil(round(3 * election_ticks / 2 * heartbeat_seconds, 6))


class Records(Protocol):
    """The part of the backend that leases are kept in."""

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None: ...
    def delete(self, bucket: bytes, key: bytes) -> None: ...
    def scan(
        self, bucket: bytes, start: bytes, end: bytes | None
    ) -> Iterator[tuple[bytes, bytes]]: ...


class Lessor:
    """All leases of a member.

    It starts with what the backend has, without keys: the store attaches those while it is
    restored. ``persist_checkpoints`` writes remaining TTLs to the backend, so that they survive
    a restart (3.6; an option in 3.5).
    """

    def __init__(
        self,
        records: Records,
        ttl_min: int,
        *,
        checkpoint_seconds: float = CHECKPOINT_INTERVAL_SECONDS,
        persist_checkpoints: bool = False,
    ) -> None:
        self._records = records
        self._ttl_min = ttl_min
        self._checkpoint_seconds = checkpoint_seconds
        self._persist_checkpoints = persist_checkpoints
        self._ttl: dict[int, int] = {}
        self._remaining: dict[int, int] = {}  # what the last checkpoint left, where there is one
        self._keys: dict[int, set[bytes]] = {}
        self._primary = False
        self._expiry: dict[int, float] = {}
        # Leases from before the promotion that are not in _expiry yet run out at this moment
        # plus their TTL.
        self._extended_to = 0.0
        self._unsettled: list[int] = []
        self._cut_short = False
        self._expiries = Deadlines()  # at or before the lease's real expiry
        self._checkpoints = Deadlines()
        # How many there were so far, for metrics.
        self.granted = self.revoked = self.renewed = self.expiries = 0
        self.granted_ttls = Histogram(doubling(1.0, 24))
        self._recover()

    def __len__(self) -> int:
        return len(self._ttl)

    @property
    def is_primary(self) -> bool:
        return self._primary

    # --- the replicated part ------------------------------------------------------------------

    def grant(self, lease_id: int, ttl: int, now: float) -> int:
        """A new lease of ``ttl`` seconds, raised to the minimum; returns the raised TTL.

        Raises LeaseNotFound for id 0, LeaseTTLTooLarge and LeaseExists.
        """
        if lease_id == 0:
            raise LeaseNotFound
        if ttl > TTL_SECONDS_MAX:
            raise LeaseTTLTooLarge
        if lease_id in self._ttl:
            raise LeaseExists
        ttl = self._ttl[lease_id] = max(ttl, self._ttl_min)
        self._save(lease_id)
        self.granted += 1
        self.granted_ttls.observe(ttl)
        if self._primary:
            self._start(lease_id, now + ttl)
            self._schedule_checkpoint(lease_id, now)
        return ttl

    def revoke(self, lease_id: int) -> list[bytes]:
        """End a lease; returns its keys in bytewise order, for the caller to delete.

        Raises LeaseNotFound.
        """
        if lease_id not in self._ttl:
            raise LeaseNotFound
        self.revoked += 1
        del self._ttl[lease_id]
        self._remaining.pop(lease_id, None)
        self._expiry.pop(lease_id, None)
        self._expiries.discard(lease_id)
        self._checkpoints.discard(lease_id)
        self._records.delete(_BUCKET, _key(lease_id))
        return sorted(self._keys.pop(lease_id, ()))

    def attach(self, lease_id: int, key: bytes) -> None:
        """The key now lives on this lease. Raises LeaseNotFound."""
        keys = self._keys.get(lease_id)
        if keys is not None:
            keys.add(key)
        elif lease_id in self._ttl:
            self._keys[lease_id] = {key}
        else:
            raise LeaseNotFound

    def detach(self, lease_id: int, key: bytes) -> None:
        """The key left the lease; harmless if either is gone already."""
        keys = self._keys.get(lease_id)
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self._keys[lease_id]

    def checkpoint(self, lease_id: int, remaining_ttl: int, now: float) -> None:
        """Remember how much was left, so that a new leader does not begin from the full TTL;
        0 takes the memory away. Raises LeaseNotFound."""
        if lease_id not in self._ttl:
            raise LeaseNotFound
        if self._primary:
            self._settle(lease_id)
        if remaining_ttl > 0:
            self._remaining[lease_id] = remaining_ttl
        else:
            self._remaining.pop(lease_id, None)
        if self._persist_checkpoints:
            self._save(lease_id)
        if self._primary:
            self._schedule_checkpoint(lease_id, now)

    # --- looking ------------------------------------------------------------------------------

    def exists(self, lease_id: int) -> bool:
        return lease_id in self._ttl

    def ttl(self, lease_id: int) -> int:
        """Its TTL as granted, in seconds. Raises LeaseNotFound."""
        if lease_id not in self._ttl:
            raise LeaseNotFound
        return self._ttl[lease_id]

    def remaining(self, lease_id: int, now: float) -> float:
        """Seconds that it has left, at least 0; infinite unless this is the primary.

        Raises LeaseNotFound.
        """
        if lease_id not in self._ttl:
            raise LeaseNotFound
        return max(0.0, self._expires_at(lease_id) - now) if self._primary else inf

    def keys(self, lease_id: int) -> list[bytes]:
        """Its keys in bytewise order; none for an unknown lease."""
        return sorted(self._keys.get(lease_id, ()))

    def key_count(self, lease_id: int) -> int:
        """How many keys it has; none for an unknown lease."""
        return len(self._keys.get(lease_id, ()))

    def unsorted_keys(self, lease_id: int) -> list[bytes]:
        """``keys`` in no order, for whoever sorts very many in pieces."""
        return list(self._keys.get(lease_id, ()))

    def ids_by_expiry(self) -> list[int]:
        """All leases, the one that ends first first; in order of their grant where that is equal,
        as it is on everybody but the primary."""
        return sorted(self._ttl, key=self._expires_at) if self._primary else list(self._ttl)

    # --- the primary's part -------------------------------------------------------------------

    def promote(self, extend_seconds: float, now: float) -> None:
        """This member leads from now on: every lease gets what was left of it at its last
        checkpoint, else its whole TTL, and the extension, for the time without a leader."""
        self.demote()
        self._primary = True
        self._extended_to = now + extend_seconds
        self._unsettled = list(self._ttl)

    def demote(self) -> None:
        """Somebody else leads: no lease expires here any more."""
        self._primary = False
        self._expiry = {}
        self._unsettled = []
        self._cut_short = False
        self._expiries = Deadlines()
        self._checkpoints = Deadlines()

    @property
    def unfinished(self) -> bool:
        """Whether ``expired`` left out leases that it should look at soon."""
        return bool(self._unsettled) or self._cut_short

    def renew(self, lease_id: int, now: float) -> int:
        """Start the whole TTL again; returns it.

        Raises LeaseNotFound, also for a lease that is over but not revoked yet, and NotLeader.
        """
        if not self._primary:
            raise NotLeader
        if lease_id not in self._ttl:
            raise LeaseNotFound
        self._settle(lease_id)
        if self._expiry[lease_id] <= now:
            raise LeaseNotFound
        self._remaining.pop(lease_id, None)
        self.renewed += 1
        ttl = self._ttl[lease_id]
        # Its deadline stays where it is and is moved when it comes up. It must not move back,
        # which a lease that a promotion had extended could.
        self._expiry[lease_id] = max(self._expiry[lease_id], now + ttl)
        return ttl

    def was_checkpointed(self, lease_id: int) -> bool:
        """Whether a renewal has to be replicated first, because other members count on less."""
        return lease_id in self._remaining

    def expired(self, now: float, limit: int = 500) -> list[int]:
        """Leases that are over, the earliest deadline first. Each comes up again after some
        seconds, as long as it is not revoked."""
        for _ in range(min(len(self._unsettled), ROUND_LEASES_MAX)):
            lease_id = self._unsettled.pop()
            if lease_id in self._ttl:
                self._settle(lease_id)
                self._schedule_checkpoint(lease_id, now)
        over: list[int] = []
        self._cut_short = False
        for _ in range(ROUND_LEASES_MAX):
            due = self._expiries.pop_due(now)
            if due is None:
                return over
            expiry = self._expiry[due]
            if expiry > now:
                self._expiries.set(due, expiry)
            else:
                self._expiries.set(due, now + EXPIRED_RETRY_SECONDS)
                over.append(due)
                self.expiries += 1
                if len(over) == limit:
                    return over
        self._cut_short = True
        return over

    def due_checkpoints(self, now: float, limit: int = 1000) -> list[tuple[int, int]]:
        """Leases whose remaining seconds should be replicated, with these."""
        found: list[tuple[int, int]] = []
        while len(found) < limit and (due := self._checkpoints.pop_due(now)) is not None:
            remaining = ceil(self._expiry[due] - now)
            if remaining <= 0:
                continue
            # Comes again even if this one is never applied.
            self._checkpoints.set(due, now + self._checkpoint_seconds)
            if remaining < self._ttl[due]:
                found.append((due, remaining))
        return found

    # --- inside -------------------------------------------------------------------------------

    def _expires_at(self, lease_id: int) -> float:
        expiry = self._expiry.get(lease_id)
        return expiry if expiry is not None else self._extended_to + self._left(lease_id)

    def _left(self, lease_id: int) -> int:
        return self._remaining.get(lease_id) or self._ttl[lease_id]

    def _start(self, lease_id: int, expiry: float) -> None:
        self._expiry[lease_id] = expiry
        self._expiries.set(lease_id, expiry)

    def _settle(self, lease_id: int) -> None:
        """Write down when a lease from before the promotion ends."""
        if lease_id not in self._expiry:
            self._start(lease_id, self._expires_at(lease_id))

    def _schedule_checkpoint(self, lease_id: int, now: float) -> None:
        if self._left(lease_id) > self._checkpoint_seconds:
            self._checkpoints.set(lease_id, now + self._checkpoint_seconds)

    def _save(self, lease_id: int) -> None:
        remaining = self._remaining.get(lease_id, 0) if self._persist_checkpoints else 0
        record = Lease(ID=lease_id, TTL=self._ttl[lease_id], RemainingTTL=remaining)
        self._records.put(_BUCKET, _key(lease_id), record.SerializeToString())

    def _recover(self) -> None:
        for _, value in self._records.scan(_BUCKET, b"", None):
            record = Lease.FromString(value)
            self._ttl[record.ID] = max(record.TTL, self._ttl_min)
            if record.RemainingTTL > 0:
                self._remaining[record.ID] = record.RemainingTTL


def _key(lease_id: int) -> bytes:
    return lease_id.to_bytes(8, "big", signed=True)
