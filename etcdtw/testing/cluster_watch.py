"""Watches in a simulated cluster: one for each member, over all of its lives.

etcd promises events in order, each once, none left out, whole revisions at a time, and resumption
from any revision that is not compacted (etcd's API guarantees for watches). Of the compacted
revision itself a deletion may be gone, as in etcd 3.5.
"""

from __future__ import annotations

from itertools import groupby

from etcdtw.mvcc.store import Store
from etcdtw.mvcc.watch import Watcher, WatchHub
from etcdtw.mvcc.watch_events import EventBatch
from etcdtw.mvcc.watch_index import Interest
from etcdtw.pb.rpc_pb2 import WatchResponse
from etcdtw.testing.checkers import Checkers

EVERYTHING = Interest(b"\0", b"", prev_kv=False)
SYNC_BUDGET = 1000


class Watching:
    """A client that watches all keys on one member, and goes on where it was after a restart; what
    it asked for outlasts the installation of a snapshot."""

    def __init__(self, member_id: int, checkers: Checkers) -> None:
        self.next_revision = 2  # a new store is at revision 1
        self._member_id = member_id
        self._checkers = checkers
        self._store: Store | None = None
        self._hub: WatchHub | None = None
        self._watch: _Watch | None = None
        self._batches: list[EventBatch] = []

    @property
    def ready(self) -> bool:
        return True

    def begin(self, store: Store) -> None:
        """Watch in another life of the member, from anew if the connection was cut."""
        self._store = store
        if self._hub is None:
            self._hub = WatchHub(store)
            self._add()
            return
        self._hub.restore(store)
        watch = self._watch
        if watch is not None and self._hub.position(watch) == store.compacted:
            self._hub.cancel(watch)
            self._add()

    def cut(self) -> None:
        """The connection is lost, with all that was on its way."""
        self._hub = None
        self._batches.clear()

    def go_on(self) -> None:
        """Let the hub read history; called now and then."""
        assert self._hub is not None, "no life to watch"
        if self._watch is None:
            self._add()
        self._hub.sync_some(SYNC_BUDGET)

    def _add(self) -> None:
        assert self._hub is not None and self._store is not None, "no life to watch"
        if self.next_revision == self._store.compacted:
            self.next_revision += 1
        self._watch = _Watch(self)
        self._hub.add(self._watch, self.next_revision)

    def got(self, batch: EventBatch) -> None:
        """It is on its way, and is not if the turn ends badly."""
        self._batches.append(batch)

    def look(self) -> None:
        """A turn has ended well: what came is there."""
        batches, self._batches = self._batches, []
        for batch in batches:
            self._look_at(batch)

    def _look_at(self, batch: EventBatch) -> None:
        events = WatchResponse.FromString(batch.body).events
        for revision, changes in groupby(events, lambda event: event.kv.mod_revision):
            if revision != self.next_revision:
                self._checkers.violated(
                    "watch",
                    f"on {self._member_id} revision {revision} came, {self.next_revision} was due",
                )
            encoded = tuple(each.SerializeToString() for each in changes)
            self._checkers.watched(self._member_id, revision, encoded)
            self.next_revision = revision + 1

    def compacted(self, revision: int) -> None:
        self.look()
        if revision < self.next_revision:
            self._checkers.violated(
                "watch", f"on {self._member_id} {self.next_revision} was refused, not compacted"
            )
        self.next_revision = revision
        self._watch = None


class _Watch(Watcher):
    def __init__(self, owner: Watching) -> None:
        super().__init__(EVERYTHING, owner)
        self._owner = owner

    def deliver(self, batch: EventBatch) -> None:
        self._owner.got(batch)

    def compacted(self, revision: int) -> None:
        self._owner.compacted(revision)
