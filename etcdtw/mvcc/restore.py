"""Restore: the index and the current revision from what the backend holds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from etcdtw.mvcc.compaction import finished_revision, scheduled_revision
from etcdtw.mvcc.keyvalue import parse_record, record_key
from etcdtw.mvcc.parts import PART_SHIFT
from etcdtw.mvcc.revision import BACKEND_KEY, MAIN_SHIFT, TOMBSTONE, TOMBSTONE_KEY_BYTES
from etcdtw.turns import add_run, merged
from etcdtw.varint import SHORT, SHORT_END, varint

if TYPE_CHECKING:
    from etcdtw.mvcc.store import Store

STEP_RECORDS = 1000
# Sorting a key costs this much less than taking in a record.
_SORTED_PER_RECORD = 8
_LEASE_TAG = b"\x30"
_LEASE_BYTES_MAX = 11


class Restore:
    """Walks bucket ``key`` once, then puts the keys that exist in order, all in steps.

    The current revision is stored nowhere: it is the largest of the newest record's, that of the
    last finished and that of the last scheduled compaction. A scheduled compaction that did not
    finish is in the store's ``compactions`` afterwards.
    """

    def __init__(self, store: Store) -> None:
        self.done = False
        self._store = store
        self._records = store.backend.scan(b"key", b"", None)
        self._lease_of: dict[bytes, int] = {}
        self._newest = 0
        self._has_tombstones = False
        # Keys are sorted when they come, while the processor has them at hand.
        self._unsorted: list[bytes] = []
        self._runs: list[list[bytes]] = []
        self._sorted: Iterator[list[bytes]] | None = None

    def step(self, records_max: int = STEP_RECORDS) -> bool:
        """Take in up to so many records; True when the store can be used."""
        if self.done:
            return True
        run_keys = records_max * _SORTED_PER_RECORD
        if self._sorted is None:
            is_end = self._read(records_max)
            if is_end or len(self._unsorted) >= run_keys:
                add_run(self._runs, sorted(self._unsorted))
                self._unsorted.clear()
            if is_end:
                self._sorted = merged(self._runs, run_keys)
        else:
            ordered = next(self._sorted, None)
            if ordered is None:
                self._finish()
            else:
                index = self._store.index
                if self._has_tombstones:
                    ordered = [key for key in ordered if key in index]
                index.load_ordered(ordered)
        return self.done

    def _read(self, records_max: int) -> bool:
        """Take in records; True at the end of the bucket."""
        index, recent = self._store.index, self._store.recent
        currents, histories, chunks = index.current, index.history, recent.old
        lease_of, unsorted = self._lease_of, self._unsorted
        unpack, tombstone_bytes = BACKEND_KEY.unpack_from, TOMBSTONE_KEY_BYTES
        has_tombstones = self._has_tombstones
        revision = self._newest
        taken = loaded = loaded_bytes = 0
        for raw_key, record in islice(self._records, records_max):
            taken += 1
            # As parse_backend_key, record_key and to_chunk do, without the calls.
            main, _, sub = unpack(raw_key)
            revision = main << MAIN_SHIFT | sub << 1
            size = record[1]
            key = record[2 : 2 + size] if size < 0x80 else record_key(record)
            part = hash(key) >> PART_SHIFT
            current = currents[part]
            before = current.get(key)
            if len(raw_key) == tombstone_bytes:
                revision |= TOMBSTONE
                has_tombstones = True
                lease_of.pop(key, None)
                if before is None:
                    self._store.orphans.append(revision)
                else:
                    index.remember(part, key, current.pop(key))
                    index.remember(part, key, revision)
                    recent.forget([key])
                continue
            size = len(record)
            chunk = b"\x12%b%b" % ((size < SHORT_END and SHORT[size]) or varint(size), record)
            current[key] = revision
            if before is None:
                if not has_tombstones or key not in histories[part]:
                    unsorted.append(key)
                chunks[part][key] = chunk
                loaded += 1
                loaded_bytes += len(key) + len(chunk)
            else:
                known = histories[part].get(key)
                if type(known) is list:
                    known.append(before)
                else:
                    index.remember(part, key, before)
                recent.load(part, key, chunk)
            # A lease comes last, so its tag can only stand near the end.
            if record.find(_LEASE_TAG, -_LEASE_BYTES_MAX) >= 0 and (
                lease := parse_record(record).lease
            ):
                lease_of[key] = lease
            elif lease_of:
                lease_of.pop(key, None)
        self._newest = revision
        self._has_tombstones = has_tombstones
        recent.loaded(loaded, loaded_bytes)
        return taken < records_max

    def _finish(self) -> None:
        store = self._store
        store.index.end_load()
        for key, lease in self._lease_of.items():
            if store.leases is not None:
                if not store.leases.exists(lease):
                    continue
                store.leases.attach(lease, key)
            store.lease_of[key] = lease
        finished = finished_revision(store)
        scheduled = scheduled_revision(store)
        store.compacted = max(finished, scheduled)
        store.revision = max(1, self._newest >> MAIN_SHIFT, store.compacted)
        if scheduled > finished:
            store.start_compaction(scheduled)
        self.done = True
