"""A store that only remembers changes, and a subscriber that writes down what it gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from etcdtw.mvcc.changes import Change
from etcdtw.mvcc.watch import Watcher, WatchHub
from etcdtw.mvcc.watch_events import EventBatch
from etcdtw.mvcc.watch_index import Interest
from etcdtw.pb.kv_pb2 import Event, KeyValue
from etcdtw.pb.rpc_pb2 import WatchResponse

Seen = tuple[int, bytes, bool, int]  # revision, key, is it a delete, revision of prev_kv or 0


class FakeStore:
    """Revisions are given by ``write``; values are ignored."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = -1
        self.tells_prev = False
        self.on_change: list[Callable[[int, list[Change]], None]] = []
        self.on_piece: list[Callable[[int, list[Change]], None]] = []
        self.before: object | None = None
        self.readers: list[object] = []
        self.log: dict[int, list[Change]] = {}
        self._current: dict[bytes, bytes] = {}

    def write(self, *operations: tuple[bytes, bool]) -> int:
        """Put (False) or delete (True) these keys in one revision."""
        revision = self.revision + 1
        changes = []
        for key, is_delete in operations:
            prev = self._current.get(key)
            if is_delete:
                if prev is None:
                    continue
                kv = KeyValue(key=key, mod_revision=revision).SerializeToString()
                del self._current[key]
            else:
                kv = KeyValue(key=key, mod_revision=revision, version=1).SerializeToString()
                self._current[key] = kv
            changes.append(Change(key, kv, is_delete, prev, prev is None))
        if changes:
            self.revision = revision
            self.log[revision] = changes
            for callback in tuple(self.on_change):
                callback(revision, changes)
        return self.revision

    def history(self, first: int, last: int, limit: int) -> Iterator[tuple[int, list[Change]]]:
        assert first >= self.compacted, "history that is compacted was asked for"
        for revision in range(first, min(last, first + limit - 1) + 1):
            if revision in self.log:
                yield revision, self.log[revision]

    def changes_of(self, revision: int, compacted: int) -> Iterator[Change]:
        return iter(self.log[revision])


class FakeSubscriber:
    """Takes ``room`` batches, then is not ready."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room

    @property
    def ready(self) -> bool:
        return self.room > 0


class Recorder(Watcher):
    """Remembers what it was told; insists on the rules that hold for every delivery."""

    __slots__ = ("batches", "compact_revision", "seen")

    def __init__(self, interest: Interest, subscriber: FakeSubscriber | None = None) -> None:
        super().__init__(interest, subscriber or FakeSubscriber())
        self.seen: list[Seen] = []
        self.batches: list[EventBatch] = []
        self.compact_revision = 0

    def deliver(self, batch: EventBatch) -> None:
        assert self.subscriber.ready, "a delivery to a subscriber that is not ready"
        assert not self.compact_revision, "a delivery after the end"
        if isinstance(self.subscriber, FakeSubscriber):
            self.subscriber.room -= 1
        self.batches.append(batch)
        events = WatchResponse.FromString(batch.body).events
        assert events, "an empty delivery"
        self.seen += [
            (
                each.kv.mod_revision,
                each.kv.key,
                each.type == Event.DELETE,
                each.prev_kv.mod_revision,
            )
            for each in events
        ]
        assert self.seen[-1][0] <= batch.revision, "an event beyond the batch's revision"

    def compacted(self, revision: int) -> None:
        self.compact_revision = revision


class Sharing(Recorder):
    """Takes the events of up to three watchers of its subscriber at once."""

    __slots__ = ()

    def deliver_together(self, watchers: Sequence[Watcher], batch: EventBatch) -> int:
        assert watchers[0] is self, "it is the first of them"
        for taken, each in enumerate(watchers[:3]):
            assert each.subscriber is self.subscriber, "a watcher of another subscriber"
            if not self.subscriber.ready:
                return taken
            each.deliver(batch)
        return len(watchers[:3])


def catch_up(hub: WatchHub, budget: int = 1 << 20) -> None:
    """Run the driver until nobody is behind."""
    while hub.sync_some(budget):
        pass


def wanted(interest: Interest, change: Change) -> bool:
    """The rule by which a watcher gets a change, as plainly as it can be said."""
    if interest.end is None:
        inside = change.key == interest.key
    else:
        inside = interest.key <= change.key and (not interest.end or change.key < interest.end)
    return inside and not (interest.no_delete if change.is_delete else interest.no_put)


def expected(log: dict[int, list[Change]], interest: Interest, first: int) -> list[Seen]:
    """Everything a watcher that starts at ``first`` must get, in order."""
    seen = []
    for revision, changes in sorted(log.items()):
        for change in changes:
            if revision >= first and wanted(interest, change):
                prev = 0
                if interest.prev_kv and change.prev is not None and not change.create:
                    prev = KeyValue.FromString(change.prev).mod_revision
                seen.append((revision, change.key, change.is_delete, prev))
    return seen
