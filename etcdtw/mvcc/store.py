"""The multi-version store: keys, their values at every revision since the last compaction.

A write transaction changes the store in place, nearly always inside one reactor turn, so that
nobody can look in between. While one takes several turns, ``before`` is what the others look at.
Records go to the backend as they are made; the newest chunk of each key also stays in memory
within a bound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat
from typing import Protocol

from etcdtw.errors import Compacted, FutureRevision
from etcdtw.mvcc.as_of import AsOf
from etcdtw.mvcc.changes import LARGE_CHANGES, Change, LargeRevision
from etcdtw.mvcc.compaction import SCHEDULED, Compaction
from etcdtw.mvcc.hash import HashKV
from etcdtw.mvcc.interfaces import KEY_BUCKET, META_BUCKET, IBackend
from etcdtw.mvcc.keyindex import KeyIndex
from etcdtw.mvcc.keyvalue import (
    encode_head,
    encode_rest,
    encode_tombstone,
    parse_record,
    successor,
    to_chunk,
    unchunk,
)
from etcdtw.mvcc.parts import PART_SHIFT
from etcdtw.mvcc.plain_puts import put_each
from etcdtw.mvcc.range_result import RangeResult
from etcdtw.mvcc.recent import RecentChunks
from etcdtw.mvcc.restore import Restore
from etcdtw.mvcc.revision import (
    MAIN_SHIFT,
    TOMBSTONE,
    after,
    backend_key,
    packed,
    parse_backend_key,
    revision_key,
    tombstone_keys,
)
from etcdtw.mvcc.write_txn import WriteTxn
from etcdtw.varint import varint

RECENT_BYTES_MAX = 256 << 20
COMPACTION_HASHES_MAX = 10


class KeyLeases(Protocol):
    """What the store needs of the lessor: to tell it which keys hang on which lease."""

    def exists(self, lease_id: int, /) -> bool: ...

    def attach(self, lease_id: int, key: bytes, /) -> None: ...

    def detach(self, lease_id: int, key: bytes, /) -> None: ...


class Reader(Protocol):
    """A read that goes on over several turns; compactions bring it to its end."""

    @property
    def compact_revision(self) -> int: ...

    def step(self, count: int, /) -> bool: ...


class Store:
    """Keys over a backend. A new store is at revision 1; the first write makes revision 2.

    ``on_change`` is called at the end of every transaction that changed something, with its
    revision and its changes in order; while it is empty, puts are cheaper. Of a transaction that
    takes several turns ``on_piece`` gets all changes but the last ones, a piece at a time.
    ``leases`` is told about keys that get or lose a lease; at a restore it must know its leases
    already.
    """

    def __init__(
        self,
        backend: IBackend,
        leases: KeyLeases | None = None,
        *,
        recent_bytes_max: int = RECENT_BYTES_MAX,
        restore: bool = True,
    ) -> None:
        """With ``restore`` false the caller steps ``restoring`` until it is done, before any
        other use."""
        self.backend = backend
        self.revision = 1
        # How much was asked of it, for metrics.
        self.puts = self.put_bytes = self.deletes = self.ranges = self.txns = 0
        self.compacted_records = 0
        self.compacted = -1
        self.on_change: list[Callable[[int, list[Change]], None]] = []
        self.on_piece: list[Callable[[int, list[Change]], None]] = []
        self.before: AsOf | None = None
        """The store without the change that is being written over several turns; None while there
        is no such change. Whoever begins and ends it sets this."""
        self.compactions: list[Compaction] = []
        self.tells_prev = False
        """Whether somebody wants to know what keys were before they were deleted, or before past
        changes; who does sets it."""
        self.hashes_compactions = False
        """Whether each compaction is to be preceded by a hash of what is there; who wants to
        compare these sets it."""
        self.compaction_hashes: deque[HashKV] = deque(maxlen=COMPACTION_HASHES_MAX)
        self.readers: list[Reader] = []
        self.index = KeyIndex()
        self.recent = RecentChunks(recent_bytes_max)
        self.lease_of: dict[bytes, int] = {}
        self.leases = leases
        # Tombstones of keys whose puts are all gone: nothing but compaction cares for them.
        self.orphans: list[int] = []
        self.restoring = Restore(self)
        if restore:
            while not self.restoring.step():
                pass

    # --- reading -------------------------------------------------------------------------------

    def is_present(self, revision: int) -> bool:
        """Whether what a range at this revision sees is what is there now."""
        return self.before is None and revision == self.revision

    def current_chunk(self, key: bytes) -> bytes | None:
        """The chunk of a key's present pair, None if the key does not exist."""
        return self.recent.young.get(key) or self._find_current(key)

    def _find_current(self, key: bytes) -> bytes | None:
        part = hash(key) >> PART_SHIFT
        chunk = self.recent.old[part].get(key)
        if chunk is None:
            revision = self.index.current[part].get(key)
            if revision is not None:
                chunk = self.chunk_at(revision)
                self.recent.keep(key, chunk)
        return chunk

    def chunk_at(self, revision: int) -> bytes:
        """The chunk of the pair that a put made; ``revision`` is the index's."""
        record = self.backend.get(KEY_BUCKET, backend_key(revision))
        assert record is not None, f"the backend lost revision {revision >> MAIN_SHIFT}"
        return to_chunk(record)

    def record_at(self, key: bytes, revision: int) -> bytes | None:
        """The record of a key at a revision that is not compacted, None if it did not exist."""
        found = self.index.at(key, after(revision))
        return None if found is None else unchunk(self.chunk_at(found))

    def range(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        revision: int = 0,
        limit: int = 0,
        count_only: bool = False,
    ) -> RangeResult:
        """Pairs with ``key <= k < end``; ``end`` empty or None: that key; one zero byte: all from
        ``key`` on. ``revision`` 0 or less: the current one; ``limit`` 0 or less: none.

        Raises ``FutureRevision`` or ``Compacted``.
        """
        return self.range_within(self.revision, key, end, revision, limit, count_only)

    def range_within(
        self,
        current: int,
        key: bytes,
        end: bytes | None,
        revision: int = 0,
        limit: int = 0,
        count_only: bool = False,
    ) -> RangeResult:
        """``range`` where ``current`` is the revision to answer for: inside a transaction that
        changed something it is already the next one."""
        self.ranges += 1
        if revision > current:
            raise FutureRevision
        if 0 < revision < self.compacted:
            raise Compacted
        if 0 < revision < current:
            return self.range_past(current, key, end, revision, limit, count_only)
        if not end:
            chunk = self.current_chunk(key)
            if chunk is None:
                return RangeResult([], 0, current)
            return RangeResult([] if count_only else [chunk], 1, current)
        stop = None if end == b"\0" else end
        if stop is not None and stop <= key:
            return RangeResult([], 0, current)
        if count_only:
            return RangeResult([], self.index.count(key, stop), current)
        if limit <= 0:
            keys = list(self.index.keys(key, stop))
            return RangeResult(self.current_chunks(keys), len(keys), current)
        keys = list(islice(self.index.keys(key, stop), limit))
        count = len(keys) if len(keys) < limit else self.index.count(key, stop)
        return RangeResult(self.current_chunks(keys), count, current)

    def current_chunks(self, keys: list[bytes]) -> list[bytes]:
        """The chunks of the present pairs of keys that exist."""
        young, old = self.recent.young, self.recent.old
        try:
            return list(map(young.__getitem__, keys))
        except KeyError:
            pass
        find = self._find_current
        chunks = [
            young.get(key) or old[hash(key) >> PART_SHIFT].get(key) or find(key) for key in keys
        ]
        return [chunk for chunk in chunks if chunk is not None]

    def range_past(
        self,
        current: int,
        key: bytes,
        end: bytes | None,
        revision: int,
        limit: int,
        count_only: bool,
    ) -> RangeResult:
        """``range_within`` at a revision that is not compacted, from what is kept of every key."""
        bound = after(revision)
        if not end:
            one = self.index.at(key, bound)
            found = [] if one is None else [one]
        else:
            stop = None if end == b"\0" else end
            if stop is not None and stop <= key:
                return RangeResult([], 0, current)
            found = [each for _, each in self.index.keys_at(key, stop, bound)]
        count = len(found)
        if count_only:
            return RangeResult([], count, current)
        if limit > 0:
            del found[limit:]
        return RangeResult([self.chunk_at(each) for each in found], count, current)

    # --- writing -------------------------------------------------------------------------------

    def write(self) -> WriteTxn:
        """Begin a transaction; nothing else may write until its ``end``."""
        return WriteTxn(self)

    def put_one(self, key: bytes, value: bytes, lease: int = 0) -> int:
        """A transaction of one put; its revision."""
        if value and not lease:
            put_each(self, ((key, value),))
            return self.revision
        main = self.revision + 1
        self.publish(main, [self.put(main, 0, varint(main), key, value, lease)])
        return main

    def put(
        self, main: int, sub: int, main_varint: bytes, key: bytes, value: bytes, lease: int
    ) -> Change:
        """Write one put as change ``sub`` of a transaction under way."""
        self.puts += 1
        self.put_bytes += len(key) + len(value)
        index = self.index
        revision = packed(main, sub)
        before = self.recent.young.get(key) or self._find_current(key)
        part = hash(key) >> PART_SHIFT
        if before is None:
            head, version, prev = encode_head(key, main), 1, None
            index.add(part, key, revision)
        else:
            head, version = successor(before, len(key))
            version += 1
            if index.current[part][key] >> MAIN_SHIFT == main:
                prev = self._before_txn(key, main)
            else:
                prev = unchunk(before)
            index.replace(part, key, revision)
        record = encode_rest(head, main_varint, version, value, lease)
        chunk = to_chunk(record)
        if before is None:
            self.recent.add(part, key, chunk)
        else:
            self.recent.replace(key, chunk)
        self.backend.put(KEY_BUCKET, revision_key(main, sub), record)
        if lease or self.lease_of:
            self.set_lease(key, lease)
        return Change(key, record, False, prev, before is None)

    def delete(
        self, main: int, sub: int, main_varint: bytes, keys: list[bytes]
    ) -> Iterable[Change]:
        """Write the deletions of keys that exist as changes ``sub`` and following of a transaction
        under way; returns them if anybody listens."""
        # Reading what is deleted costs more than deleting it.
        prevs: Iterable[bytes | None] = repeat(None)
        if self.tells_prev and self.on_change:
            prevs = [self._before_deletion(key, main) for key in keys]
        self.index.remove(keys, packed(main, sub, tombstone=True))
        self.recent.forget(keys)
        records = [encode_tombstone(key) for key in keys]
        self.backend.put_all(KEY_BUCKET, tombstone_keys(main, sub, len(keys)), records)
        if self.lease_of:
            self._end_leases(keys)
        if not self.on_change:
            return ()
        ending = b"\x18" + main_varint
        return [
            Change(key, record + ending, True, prev, False)
            for key, record, prev in zip(keys, records, prevs, strict=False)
        ]

    def _before_deletion(self, key: bytes, main: int) -> bytes | None:
        if self.index.current[hash(key) >> PART_SHIFT][key] >> MAIN_SHIFT == main:
            return self._before_txn(key, main)
        before = self.current_chunk(key)
        assert before is not None, "the index knows the key"
        return unchunk(before)

    def _before_txn(self, key: bytes, main: int) -> bytes | None:
        """What a key was before the transaction that now changes it once more."""
        return self.record_at(key, main - 1) if main - 1 >= self.compacted else None

    def set_lease(self, key: bytes, lease: int) -> None:
        """Note which lease a key hangs on now; 0 for none."""
        before = self.lease_of.get(key, 0)
        if before == lease:
            return
        if before:
            del self.lease_of[key]
            if self.leases is not None:
                self.leases.detach(before, key)
        if lease:
            self.lease_of[key] = lease
            if self.leases is not None:
                self.leases.attach(lease, key)

    def _end_leases(self, keys: list[bytes]) -> None:
        take, leases = self.lease_of.pop, self.leases
        for key in keys:
            lease = take(key, 0)
            if lease and leases is not None:
                leases.detach(lease, key)

    def publish(self, revision: int, changes: list[Change]) -> None:
        """End a transaction: its changes become the current revision."""
        self.revision = revision
        # Whoever listens may stop to while being told.
        for callback in tuple(self.on_change):
            callback(revision, changes)

    # --- history -------------------------------------------------------------------------------

    def history(self, first: int, last: int, limit: int = 0) -> Iterator[tuple[int, list[Change]]]:
        """Revisions ``first`` to ``last`` with their changes, at most ``limit`` (0: all) of them.

        To be read up within the turn. Raises ``Compacted`` for a first revision below the
        compacted one; at that one, changes that compaction removed are missing, as in etcd.
        Raises ``LargeRevision`` behind what comes before a revision for ``changes_of``.
        """
        if first < self.compacted:
            raise Compacted
        return self._history(max(first, 0), last, limit) if first <= last else iter(())

    def _history(self, first: int, last: int, limit: int) -> Iterator[tuple[int, list[Change]]]:
        main = 0
        changes: list[Change] = []
        records = self.backend.scan(KEY_BUCKET, revision_key(first, 0), revision_key(last + 1, 0))
        for raw_key, record in records:
            revision = parse_backend_key(raw_key)
            if revision >> MAIN_SHIFT != main:
                if changes:
                    yield main, changes
                    limit -= 1
                    if not limit:
                        return
                main = revision >> MAIN_SHIFT
                changes = []
            if len(changes) == LARGE_CHANGES:
                raise LargeRevision(main)
            changes.append(self._past_change(main, revision, record, self.compacted))
        if changes:
            yield main, changes

    def changes_of(self, revision: int, compacted: int) -> Iterator[Change]:
        """The changes of one revision, over several turns; as of when ``compacted`` was the
        compacted revision, if the reader is among ``readers`` since then."""
        first, end = revision_key(revision, 0), revision_key(revision + 1, 0)
        for raw_key, record in self.backend.scan(KEY_BUCKET, first, end):
            yield self._past_change(revision, parse_backend_key(raw_key), record, compacted)

    def _past_change(self, main: int, revision: int, record: bytes, compacted: int) -> Change:
        parsed = parse_record(record)
        key = parsed.key
        has_prev = self.tells_prev and main - 1 >= compacted
        if revision & TOMBSTONE:
            prev = self.record_at(key, main - 1) if has_prev else None
            return Change(key, record + b"\x18" + varint(main), True, prev, False)
        create = parsed.version == 1
        prev = self.record_at(key, main - 1) if has_prev and not create else None
        return Change(key, record, False, prev, create)

    # --- long work -----------------------------------------------------------------------------

    def compact(self, revision: int) -> Compaction:
        """Refuse reads below ``revision`` from now on, and hand out the job that removes what
        only they could see. Raises ``Compacted`` or ``FutureRevision``."""
        if revision <= self.compacted:
            raise Compacted
        if revision > self.revision:
            raise FutureRevision
        if self.hashes_compactions and revision > 0:
            # The compaction waits for it, and brings it to its end.
            self.compaction_hashes.append(self.hash_kv(revision))
        self.compacted = revision
        self.backend.put(META_BUCKET, SCHEDULED, revision_key(revision, 0))
        return self.start_compaction(revision)

    def start_compaction(self, revision: int) -> Compaction:
        job = Compaction(self, revision)
        self.compactions.append(job)
        return job

    def hash_kv(self, revision: int = 0) -> HashKV:
        """The job that computes HashKV at a revision; 0: the current one.

        Raises ``Compacted`` for a revision not above the compacted one, as etcd 3.5.1 does, and
        ``FutureRevision``.
        """
        if revision > 0:
            if revision <= self.compacted:
                raise Compacted
            if revision > self.revision:
                raise FutureRevision
        job = HashKV(self, revision or self.revision)
        self.readers.append(job)
        return job

    def compaction_hash(self, revision: int) -> HashKV | None:
        """What HashKV was before the compaction at exactly this revision, if that is known."""
        for job in self.compaction_hashes:
            if job.revision == revision and job.done:
                return job
        return None
