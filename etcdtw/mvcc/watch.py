"""Watching the store: every event exactly once, in order, to everyone who asked for it.

A watcher is in one of five places. *Synced*: it sat through every revision so far and hears the
next one at once. *Behind*: it still has history to read, which happens in slices shared by the
watchers that need the same part. *Reading*: behind, and what it needs next is one revision with so
many changes that reading it takes several slices. *Parked*: behind, and its subscriber cannot take
more for now. *Closed*: cancelled, or it needs history that is compacted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import groupby, islice
from operator import attrgetter
from typing import Protocol, TypeVar

from etcdtw.mvcc.audience import Audience, audiences_of, collect
from etcdtw.mvcc.changes import Change, LargeRevision
from etcdtw.mvcc.watch_events import EventBatch
from etcdtw.mvcc.watch_index import AudienceIndex, Interest
from etcdtw.mvcc.watch_large import Gathering, LargeReading, ReadableStore

# One slice of catching up: so many watchers share a walk over so many revisions (etcd's numbers).
SLICE_WATCHERS_MAX = 512
SLICE_REVISIONS = 1000
# ... and it ends early when its walk has collected, or its watchers were handed, this many bytes.
# With one more request of the default size a batch still fits into the 4 MiB that gRPC clients
# take by default.
SLICE_EVENT_BYTES = 2 << 20
SLICE_BODY_BYTES = 8 << 20
# Deliveries that changes may cause before the driver must have had a turn. Watchers beyond that
# fall behind and are served in slices, several revisions at a time.
TURN_DELIVERIES_MAX = 10_000


class WatchableStore(ReadableStore, Protocol):
    """What watching needs of the store."""

    on_change: list[Callable[[int, list[Change]], None]]
    on_piece: list[Callable[[int, list[Change]], None]]
    tells_prev: bool
    """Whether changes are to say what deleted keys were."""

    @property
    def revision(self) -> int: ...
    @property
    def before(self) -> object | None:
        """Not None while a change is being written over several turns."""

    def history(
        self, first: int, last: int, limit: int, /
    ) -> Iterator[tuple[int, Sequence[Change]]]:
        """Changes of the revisions first..last in order, of at most ``limit`` revisions. Raises
        ``LargeRevision`` when it comes to one that is to be read in pieces."""


class Subscriber(Protocol):
    """Whoever owns watchers and takes their events."""

    @property
    def ready(self) -> bool:
        """False makes its watchers wait; ``WatchHub.resume`` wakes them."""


class Place(IntEnum):
    NEW = 0
    SYNCED = 1
    BEHIND = 2
    PARKED = 3
    CLOSED = 4
    READING = 5


class Watcher:
    """One watch. Subclass it to receive; the methods are called by the hub.

    ``next_revision`` is the first revision that it has not seen; while synced, it is the
    greater of that and the store's next one.
    """

    __slots__ = ("audience", "interest", "next_revision", "place", "subscriber")

    def __init__(self, interest: Interest, subscriber: Subscriber) -> None:
        self.interest = interest
        self.subscriber = subscriber
        self.next_revision = 0
        self.place = Place.NEW
        self.audience: Audience | None = None

    @property
    def is_reading(self) -> bool:
        return self.place is Place.READING

    def deliver(self, batch: EventBatch) -> None:
        """Events, at least one. Called only while the subscriber is ready."""
        raise NotImplementedError

    def deliver_together(self, watchers: Sequence[Watcher], batch: EventBatch) -> int:
        """The same to several of its subscriber's at once, of which it is the first; to how many
        of them it was done. Nothing may change any watcher's place meanwhile."""
        return 0

    def compacted(self, revision: int) -> None:
        """It is closed: it needed history from before ``revision``, which is gone."""
        raise NotImplementedError


_subscriber_of: Callable[[Watcher], Subscriber] = attrgetter("subscriber")


class WatchHub:
    """All watchers of one store. Plain calls in, calls on the watchers out; no clock.

    ``on_work`` is called when ``sync_some`` has something to do; the owner then calls that in a
    later turn, and again for as long as it returns True.
    """

    def __init__(self, store: WatchableStore) -> None:
        self.store = store
        self._index = AudienceIndex[Audience]()
        self._audiences: dict[Interest, Audience] = {}  # of synced watchers
        # Behind, by next_revision // SLICE_REVISIONS: those walk the same history together.
        self._behind: dict[int, dict[Watcher, None]] = {}
        self._parked: dict[Subscriber, dict[Watcher, None]] = {}
        self._readings: deque[LargeReading] = deque()
        self._gathering: Gathering | None = None  # of the change that is being written
        self._deliveries_left = TURN_DELIVERIES_MAX
        self.events_sent = 0
        self.on_work: Callable[[], None] = lambda: None

    # --- what owners of watchers call ---------------------------------------------------------

    @property
    def revision(self) -> int:
        """The store's revision as far as watchers have been told."""
        return self.store.revision

    @property
    def watchers(self) -> int:
        """How many are not closed."""
        return sum(len(each.watchers) for each in self._audiences.values()) + self.slow_watchers

    @property
    def slow_watchers(self) -> int:
        """How many are behind, reading or parked."""
        places = (*self._behind.values(), *self._parked.values())
        readers = sum(len(each.watchers()) for each in self._readings)
        return sum(len(each) for each in places) + readers

    def add(self, watcher: Watcher, start_revision: int = 0) -> None:
        """Begin. Events from ``start_revision`` on, which may lie in the past or in the future;
        0: from the next revision on, as with a negative one unless that is below the compacted
        revision. Nothing is delivered before this returns."""
        assert watcher.place is Place.NEW, "a watcher begins once"
        if watcher.interest.prev_kv:
            self.store.tells_prev = True
        upcoming = self.revision + 1
        is_from_now = start_revision == 0 or self.store.compacted <= start_revision < 0
        watcher.next_revision = upcoming if is_from_now else start_revision
        if watcher.next_revision >= upcoming:
            self._sync(watcher)
        else:
            self._fall_behind(watcher)

    def cancel(self, watcher: Watcher) -> None:
        """No call on this watcher follows. Cancelling a closed one is harmless."""
        self._take_out(watcher)
        watcher.place = Place.CLOSED

    def resume(self, subscriber: Subscriber) -> None:
        """The subscriber is ready again."""
        for watcher in self._parked.pop(subscriber, ()):
            self._fall_behind(watcher)

    def position(self, watcher: Watcher) -> int:
        """The first revision that the watcher has not been told of."""
        if watcher.place is Place.SYNCED:
            return max(watcher.next_revision, self.revision + 1)
        return watcher.next_revision

    # --- what the store and the driver call ---------------------------------------------------

    def changed(self, revision: int, changes: Sequence[Change]) -> None:
        """A revision was written: tell the synced watchers.

        The store calls this only while there are any, and need not prepare changes otherwise.
        """
        touched: dict[Audience, None] = {}
        if self._gathering is not None:
            touched = self._gathered(revision)
        collect(self._index, revision, changes, touched)
        for audience in touched:
            self._tell(audience, EventBatch(revision, audience.take_events()))

    def gather(self, revision: int, changes: Sequence[Change]) -> None:
        """A piece of a change that is written over several turns; ``changed`` comes at its end."""
        if self._gathering is None:
            self._gathering = Gathering()
        collect(self._index, revision, changes, self._gathering.touched)

    def sync_some(self, budget: int) -> bool:
        """Let watchers read history for about ``budget`` changes and deliveries; True if more
        can be done at once."""
        self._deliveries_left = TURN_DELIVERIES_MAX
        if self._readings:
            budget -= budget // 2
            self._read_large(max(1, budget))
        while self._behind and budget > 0:
            budget -= self._sync_slice(budget)
        return bool(self._behind or self._readings)

    def restore(self, store: WatchableStore) -> None:
        """The store was replaced (a snapshot was installed): every watcher reads the new one
        from where it was."""
        moved = [each for audience in self._audiences.values() for each in audience.watchers]
        while self._readings:
            reading = self._readings.popleft()
            reading.close()
            moved += reading.watchers()
        for watcher in moved:
            watcher.next_revision = self.position(watcher)
            self._take_out(watcher)
        store.tells_prev = self.store.tells_prev
        self.store = store
        for watcher in moved:
            self._fall_behind(watcher)

    # --- delivery -----------------------------------------------------------------------------

    def _tell(self, audience: Audience, batch: EventBatch) -> None:
        before = self._deliveries_left
        watchers = tuple(audience.watchers)
        if len(watchers) > 1 and watchers[0].subscriber is watchers[1].subscriber:
            left = self._tell_together(audience, watchers, batch, before)
        else:
            left = self._tell_each(audience, watchers, batch, before)
        self._deliveries_left = left
        self.events_sent += (before - left) * len(batch.events)
        if left < TURN_DELIVERIES_MAX // 2 <= before:
            self.on_work()  # a turn of the driver gives a new allowance

    def _tell_each(
        self, audience: Audience, watchers: Iterable[Watcher], batch: EventBatch, left: int
    ) -> int:
        """How many deliveries are left after these."""
        revision = batch.revision
        for watcher in watchers:
            # A delivery may end other watches of the same subscriber.
            if watcher.audience is not audience or watcher.next_revision > revision:
                continue
            if left > 0 and watcher.subscriber.ready:
                left -= 1
                watcher.deliver(batch)
            else:
                self._take_out(watcher)
                watcher.next_revision = revision
                self._fall_behind(watcher)
        return left

    def _tell_together(
        self, audience: Audience, watchers: Iterable[Watcher], batch: EventBatch, left: int
    ) -> int:
        """The same where subscribers have several watchers one after the other."""
        revision = batch.revision
        for subscriber, shared in groupby(watchers, _subscriber_of):
            due = [
                each
                for each in shared
                if each.audience is audience and each.next_revision <= revision
            ]
            while len(due) > 1 and left > 0 and subscriber.ready:
                taken = due[0].deliver_together(due[:left], batch)
                if not taken:
                    break
                left -= taken
                del due[:taken]
            left = self._tell_each(audience, due, batch, left)
        return left

    def _sync_slice(self, budget: int) -> int:
        """One walk for the watchers behind that have waited longest; returns what it cost."""
        watchers = self._next_behind()
        cost = len(watchers)
        watchers = [each for each in watchers if self._can_go_on(each)]
        if not watchers:
            return cost
        first = min(each.next_revision for each in watchers)
        last = min(first + SLICE_REVISIONS - 1, self.revision)
        audiences = audiences_of(watchers)
        index = AudienceIndex[Audience]()
        for audience in audiences:
            index.add(audience.interest, audience)

        event_bytes = 0
        touched: dict[Audience, None] = {}
        revision = 0
        try:
            for revision, changes in self.store.history(first, last, SLICE_REVISIONS):
                matches, size = collect(index, revision, changes, touched)
                cost += len(changes) + matches
                event_bytes += size
                if cost > budget or event_bytes > SLICE_EVENT_BYTES:
                    last = revision
                    break
        except LargeRevision as large:
            if not revision:
                self._begin_large(watchers, large.revision)
                return budget
            last = large.revision - 1
        self._hand_out(audiences, last)
        return cost

    def _hand_out(self, audiences: list[Audience], last: int) -> None:
        """Deliver the events up to revision ``last``, within a bound."""
        body_bytes = 0
        for audience in audiences:
            batches: dict[int, EventBatch | None] = {}  # by the revision that they begin with
            for watcher in audience.watchers:
                if watcher.place is not Place.NEW:
                    continue  # cancelled by an earlier delivery
                if body_bytes > SLICE_BODY_BYTES:
                    self._fall_behind(watcher)
                    continue
                begin = watcher.next_revision
                if begin not in batches:
                    batch = batches[begin] = audience.batch(begin, last)
                    body_bytes += len(batch.body) if batch else 0
                self._advance(watcher, batches[begin], last)

    def _begin_large(self, watchers: list[Watcher], revision: int) -> None:
        """Those who need this revision next read it together."""
        readers = []
        for watcher in watchers:
            if watcher.next_revision > revision:
                self._fall_behind(watcher)
            else:
                watcher.place = Place.READING
                readers.append(watcher)
        self._readings.append(LargeReading(self.store, revision, readers))

    def _read_large(self, budget: int) -> None:
        reading = self._readings[0]
        if reading.step(budget):
            self._readings.popleft()
            for watcher in reading.watchers():
                watcher.place = Place.NEW
            self._hand_out(reading.audiences, reading.revision)

    def _gathered(self, revision: int) -> dict[Audience, None]:
        """The audiences that were told of all of a change but its last piece. Those that came when
        it was half written read it from history."""
        gathering, self._gathering = self._gathering, None
        assert gathering is not None, "nothing was gathered"
        for audience in gathering.late:
            gathering.touched.pop(audience, None)
            audience.take_events()
            for watcher in tuple(audience.watchers):
                if watcher.next_revision <= revision:
                    self._take_out(watcher)
                    watcher.next_revision = revision
                    self._fall_behind(watcher)
        return gathering.touched

    def _next_behind(self) -> list[Watcher]:
        """Take the watchers of the next slice out of their place."""
        bucket = next(iter(self._behind))
        waiting = self._behind.pop(bucket)
        watchers = list(islice(waiting, SLICE_WATCHERS_MAX))
        for watcher in watchers:
            del waiting[watcher]
            watcher.place = Place.NEW
        if waiting:
            self._behind[bucket] = waiting  # at the end of the queue
        return watchers

    def _can_go_on(self, watcher: Watcher) -> bool:
        if watcher.place is not Place.NEW:
            return False
        if not watcher.subscriber.ready:
            self._park(watcher)
            return False
        if watcher.next_revision < self.store.compacted:
            watcher.place = Place.CLOSED
            watcher.compacted(self.store.compacted)
            return False
        if watcher.next_revision > self.revision:
            self._sync(watcher)
            return False
        return True

    def _advance(self, watcher: Watcher, batch: EventBatch | None, last: int) -> None:
        if watcher.next_revision > last:
            self._fall_behind(watcher)
            return
        if batch is not None and not watcher.subscriber.ready:
            self._park(watcher)
            return
        watcher.next_revision = last + 1
        if last == self.revision:
            self._sync(watcher)
        else:
            self._fall_behind(watcher)
        if batch is not None:
            self.events_sent += len(batch.events)
            watcher.deliver(batch)

    # --- places -------------------------------------------------------------------------------

    def _take_out(self, watcher: Watcher) -> None:
        """Out of wherever it is; the caller puts it somewhere else at once."""
        if watcher.place is Place.SYNCED:
            audience = watcher.audience
            assert audience is not None, "a synced watcher has an audience"
            watcher.audience = None
            del audience.watchers[watcher]
            if not audience.watchers:
                del self._audiences[watcher.interest]
                self._index.remove(watcher.interest, audience)
                if not self._audiences:
                    self.store.on_change.remove(self.changed)
                    self.store.on_piece.remove(self.gather)
                    self._gathering = None
        elif watcher.place is Place.BEHIND:
            _discard(self._behind, watcher.next_revision // SLICE_REVISIONS, watcher)
        elif watcher.place is Place.PARKED:
            _discard(self._parked, watcher.subscriber, watcher)
        watcher.place = Place.NEW

    def _sync(self, watcher: Watcher) -> None:
        audience = self._audiences.get(watcher.interest)
        if audience is None:
            if not self._audiences:
                self.store.on_change.append(self.changed)
                self.store.on_piece.append(self.gather)
            audience = self._audiences[watcher.interest] = Audience(watcher.interest)
            self._index.add(watcher.interest, audience)
            if self.store.before is not None:
                if self._gathering is None:
                    self._gathering = Gathering()
                self._gathering.late.append(audience)
        audience.watchers[watcher] = None
        watcher.audience = audience
        watcher.place = Place.SYNCED

    def _fall_behind(self, watcher: Watcher) -> None:
        if not watcher.subscriber.ready:
            self._park(watcher)
            return
        idle = not self._behind
        bucket = watcher.next_revision // SLICE_REVISIONS
        self._behind.setdefault(bucket, {})[watcher] = None
        watcher.place = Place.BEHIND
        if idle:
            self.on_work()

    def _park(self, watcher: Watcher) -> None:
        self._parked.setdefault(watcher.subscriber, {})[watcher] = None
        watcher.place = Place.PARKED


K = TypeVar("K")


def _discard(places: dict[K, dict[Watcher, None]], key: K, watcher: Watcher) -> None:
    watchers = places[key]
    del watchers[watcher]
    if not watchers:
        del places[key]
