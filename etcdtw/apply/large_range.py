"""A range over many keys, in steps: as of one revision, however the store goes on meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any, Protocol

from etcdtw.apply.kv_range import SORT_FIELDS, check_sort_target, filters
from etcdtw.errors import Compacted, FutureRevision
from etcdtw.mvcc.keyindex import KeyIndex
from etcdtw.mvcc.keyvalue import parse_record, unchunk, without_value
from etcdtw.mvcc.revision import after
from etcdtw.mvcc.store import Store
from etcdtw.pb.rpc_pb2 import RangeRequest
from etcdtw.varint import varint

LARGE_KEYS = 10_000
"""A range over fewer keys is answered at once."""
STEP_KEYS = 1000

Keyed = tuple[Any, bytes]


class Source(Protocol):
    """What a range may be asked of: the store, the store as of a revision, or a transaction."""

    @property
    def revision(self) -> int: ...
    def is_present(self, revision: int, /) -> bool: ...


def is_large(store: Store, request: RangeRequest) -> bool:
    """Whether a range looks at so many keys that it should be taken in steps."""
    if not request.range_end:
        return False
    if request.revision > 0 or store.before is not None:
        return keys_within(store.index, request.key, request.range_end, True) > LARGE_KEYS
    plain = not (request.sort_order or request.sort_target or next(filters(request), None))
    if request.count_only or (0 < request.limit < LARGE_KEYS and plain):
        return False
    return keys_within(store.index, request.key, request.range_end, False) > LARGE_KEYS


def keys_within(index: KeyIndex, key: bytes, end: bytes, past: bool) -> int:
    """How many keys a range looks at; one in the past also looks at those that are deleted."""
    stop = None if end == b"\0" else end
    if stop is not None and stop <= key:
        return 0
    return index.count_all(key, stop) if past else index.count(key, stop)


class LargeRange:
    """What ``range_response`` answers, worked out in steps.

    Compactions bring it to its end before they remove what it may still read.
    """

    def __init__(
        self,
        store: Store,
        request: RangeRequest,
        header: Callable[[int], bytes],
        source: Source | None = None,
    ) -> None:
        """``source`` is what the range is asked of, if it is not the store. Raises what
        ``Store.range`` and ``range_response`` raise."""
        self._source = source or store
        current = self._source.revision
        if request.revision > current:
            raise FutureRevision
        if 0 < request.revision < store.compacted:
            raise Compacted
        check_sort_target(request)
        self.compact_revision = store.compacted
        self._store = store
        self._request = request
        self._header = header(current)
        self._revision = request.revision if request.revision > 0 else current
        self._next = request.key
        self._end = None if request.range_end == b"\0" else request.range_end
        self._count = 0
        self._filters = list(filters(request))
        order, target = request.sort_order, request.sort_target
        self._descends = order == RangeRequest.DESCEND
        # As in etcd: an order of keys needs no sorting, and one that does not exist sorts nothing.
        self._sorts = target != RangeRequest.KEY and order in (
            RangeRequest.NONE,
            RangeRequest.ASCEND,
            RangeRequest.DESCEND,
        )
        self._field = SORT_FIELDS[target]
        # Without an order only what the limit lets through is sorted.
        unlimited = order or self._filters or request.limit <= 0
        self._load_max = None if unlimited else request.limit + 1
        self._loaded = 0
        self._chunks: list[bytes] = []
        self._runs: list[list[Keyed]] = []
        self._sorted = 0
        self._more = False
        self._work = self._steps()
        self.done = False
        store.readers.append(self)

    def step(self, keys_max: int = STEP_KEYS) -> bool:
        """Do about as much as so many keys take; True when ``result`` is there."""
        if not self.done:
            for _ in range(-(-keys_max // STEP_KEYS)):
                if next(self._work, self) is self:
                    self.close()
                    break
        return self.done

    def close(self) -> None:
        """Let go; for a job that nobody wants to finish, too."""
        if not self.done:
            self.done = True
            self._store.readers.remove(self)

    @property
    def chunks(self) -> list[bytes]:
        """The pairs that were found."""
        return self._chunks

    def result(self) -> bytes:
        """The body of the RangeResponse."""
        more = b"\x18\x01" if self._more else b""
        count = b"\x20" + varint(self._count) if self._count else b""
        return b"".join((self._header, *self._chunks, more, count))

    # --- inside --------------------------------------------------------------------------------

    def _steps(self) -> Iterator[None]:
        while self._gather():
            yield
        limit = self._request.limit
        if self._sorts:
            merged = merge(*self._runs, key=itemgetter(0), reverse=self._descends)
            wanted = islice(merged, limit) if limit > 0 else merged
            while piece := [chunk for _, chunk in islice(wanted, STEP_KEYS)]:
                self._keep(piece)
                yield
            self._more = 0 < limit < self._sorted
            return
        if self._descends:
            self._chunks.reverse()
        if 0 < limit < len(self._chunks):
            self._more = True
            del self._chunks[limit:]
        if self._descends and self._request.keys_only:
            chunks, self._chunks = self._chunks, []
            for first in range(0, len(chunks), STEP_KEYS):
                self._keep(chunks[first : first + STEP_KEYS])
                yield

    def _gather(self) -> bool:
        """Take in a piece of the range; False behind its end."""
        store = self._store
        wanted = STEP_KEYS
        index = store.index
        if self._source.is_present(self._revision):
            # Nothing was written since: present pairs may come from what is kept in memory.
            keys = list(islice(index.keys(self._next, self._end), wanted))
            load = self._load_count(len(keys))
            chunks = store.current_chunks(keys[:load])
        else:
            bound = after(self._revision)
            pairs = list(islice(index.keys_at(self._next, self._end, bound), wanted))
            keys = [key for key, _ in pairs]
            load = self._load_count(len(keys))
            chunks = [store.chunk_at(revision) for _, revision in pairs[:load]]
        self._count += len(keys)
        self._loaded += len(chunks)
        if not self._request.count_only:
            self._take(chunks)
        if len(keys) < wanted:
            return False
        self._next = keys[-1] + b"\0"
        return True

    def _load_count(self, found: int) -> int:
        if self._request.count_only:
            return 0
        return found if self._load_max is None else min(found, self._load_max - self._loaded)

    def _take(self, chunks: list[bytes]) -> None:
        if not self._filters and not self._sorts:
            # In descending order values go last, when the limit has been applied.
            self._chunks += chunks if self._descends else self._stripped(chunks)
            return
        parsed = [(parse_record(unchunk(chunk)), chunk) for chunk in chunks]
        for keep in self._filters:
            parsed = [pair for pair in parsed if keep(pair[0])]
        if self._sorts:
            run = [(getattr(kv, self._field), chunk) for kv, chunk in parsed]
            run.sort(key=itemgetter(0), reverse=self._descends)
            self._sorted += len(run)
            if self._request.limit > 0:
                del run[self._request.limit :]  # letting go of all at the end would take long
            self._runs.append(run)
        else:
            kept = [chunk for _, chunk in parsed]
            self._chunks += kept if self._descends else self._stripped(kept)

    def _keep(self, chunks: list[bytes]) -> None:
        self._chunks += self._stripped(chunks)

    def _stripped(self, chunks: list[bytes]) -> list[bytes]:
        return list(map(without_value, chunks)) if self._request.keys_only else chunks
