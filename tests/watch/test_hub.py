"""The hub: every event exactly once, in order, to everyone who asked for it."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.mvcc import watch
from etcdtw.mvcc.watch import Place, Watcher, WatchHub
from etcdtw.mvcc.watch_events import EventBatch
from etcdtw.mvcc.watch_index import Interest
from tests.watch.fakes import FakeStore, FakeSubscriber, Recorder, Sharing, catch_up, expected

A = Interest(b"a")
ALL = Interest(b"\x00", b"")


class LiveTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = FakeStore()
        self.hub = WatchHub(self.store)

    def add(self, interest: Interest, start: int = 0, room: int = 1 << 30) -> Recorder:
        recorder = Recorder(interest, FakeSubscriber(room))
        self.hub.add(recorder, start)
        return recorder

    def test_from_now(self) -> None:
        """Without a start revision a watcher sees the next revision and not the last one."""
        self.store.write((b"a", False))
        recorder = self.add(A)
        self.store.write((b"b", False))
        self.store.write((b"a", False))
        self.assertEqual(recorder.seen, [(4, b"a", False, 0)])

    def test_negative_start(self) -> None:
        """A negative start revision acts as none, as in etcd 3.5.1."""
        self.store.write((b"a", False))
        recorder = self.add(A, -1)
        catch_up(self.hub)
        self.assertEqual(recorder.seen, [])

    def test_negative_start_is_compacted(self) -> None:
        """Below the compacted revision, -1 where there is none, it ends the watch, as in etcd."""
        too_low = self.add(A, -2)
        catch_up(self.hub)
        self.assertEqual(too_low.compact_revision, -1)
        self.store.write((b"a", False))
        self.store.compacted = 1
        recorder = self.add(A, -1)
        catch_up(self.hub)
        self.assertEqual((recorder.compact_revision, recorder.seen), (1, []))

    def test_from_the_future(self) -> None:
        """A start revision ahead of the store is waited for."""
        recorder = self.add(A, 4)
        for _ in range(4):
            self.store.write((b"a", False))
        self.assertEqual([each[0] for each in recorder.seen], [4, 5])

    def test_history_then_live(self) -> None:
        """A start revision in the past brings history in one batch, then live events."""
        for _ in range(3):
            self.store.write((b"a", False))
        recorder = self.add(A, 3)
        self.assertEqual(recorder.seen, [])
        catch_up(self.hub)
        self.store.write((b"a", True))
        self.assertEqual([each.revision for each in recorder.batches], [4, 5])
        self.assertEqual([each[0] for each in recorder.seen], [3, 4, 5])

    def test_one_batch_per_revision(self) -> None:
        """The events of one transaction come together, in their order."""
        recorder = self.add(ALL)
        self.store.write((b"b", False), (b"a", False))
        self.assertEqual(len(recorder.batches), 1)
        self.assertEqual([each[1] for each in recorder.seen], [b"b", b"a"])

    def test_shared_bytes(self) -> None:
        """Watchers with one interest share one batch, and one-event bodies are not copied."""
        recorders = [self.add(A) for _ in range(3)]
        wide = self.add(ALL)
        self.store.write((b"a", False))
        self.assertEqual(len({id(each.batches[0]) for each in recorders}), 1)
        self.assertIs(wide.batches[0].body, recorders[0].batches[0].body)

    def test_together(self) -> None:
        """Watchers of one subscriber are told several at a time, while it has room; none twice,
        none too early, none that is cancelled."""
        subscriber = FakeSubscriber(5)
        recorders = [Sharing(A, subscriber) for _ in range(9)]
        for at, each in enumerate(recorders):
            self.hub.add(each, 3 if at == 1 else 0)
        other = self.add(A)
        self.hub.cancel(recorders[0])
        self.store.write((b"a", False))
        self.assertEqual([len(each.seen) for each in recorders], [0, 0, 1, 1, 1, 1, 1, 0, 0])
        self.assertEqual(len(other.seen), 1)
        subscriber.room = 1 << 30
        self.hub.resume(subscriber)
        catch_up(self.hub)
        self.store.write((b"a", True))
        self.assertEqual([len(each.seen) for each in recorders], [0, 1, *[2] * 7])
        self.assertEqual(self.hub.events_sent, 1 + 7 + 9)

    def test_filters_and_prev_kv(self) -> None:
        """Filters drop puts or deletes; prev_kv comes with all but creations."""
        no_put = self.add(A._replace(no_put=True))
        no_delete = self.add(A._replace(no_delete=True))
        prev = self.add(A._replace(prev_kv=True))
        self.store.write((b"a", False))
        self.store.write((b"a", False))
        self.store.write((b"a", True))
        self.assertEqual(no_put.seen, [(4, b"a", True, 0)])
        self.assertEqual(no_delete.seen, [(2, b"a", False, 0), (3, b"a", False, 0)])
        self.assertEqual(prev.seen, [(2, b"a", False, 0), (3, b"a", False, 2), (4, b"a", True, 3)])

    def test_cancel(self) -> None:
        """A cancelled watcher hears nothing more, wherever it was."""
        self.store.write((b"a", False))
        synced, behind, parked = self.add(A), self.add(A, 2), self.add(A, 2, room=0)
        self.assertEqual(
            [each.place for each in (synced, behind, parked)],
            [Place.SYNCED, Place.BEHIND, Place.PARKED],
        )
        self.assertEqual((self.hub.watchers, self.hub.slow_watchers), (3, 2))
        for each in (synced, behind, parked):
            self.hub.cancel(each)
            self.hub.cancel(each)
            self.assertIs(each.place, Place.CLOSED)
        self.store.write((b"a", False))
        catch_up(self.hub)
        self.assertEqual([each.seen for each in (synced, behind, parked)], [[], [], []])
        self.assertEqual(self.hub.watchers, 0)
        self.assertEqual(self.hub._index.match(b"a"), [])

    def test_slow_subscriber(self) -> None:
        """What a subscriber has no room for waits in the history and comes in one batch."""
        recorder = self.add(A, room=1)
        other = self.add(A)
        for _ in range(4):
            self.store.write((b"a", False))
        self.assertEqual(len(recorder.seen), 1)
        self.assertFalse(self.hub.sync_some(100))
        recorder.subscriber.room = 1  # type: ignore[attr-defined]
        self.hub.resume(recorder.subscriber)
        catch_up(self.hub)
        self.assertEqual(len(recorder.batches), 2)
        self.assertEqual(recorder.seen, other.seen)

    def test_compacted(self) -> None:
        """Who needs revisions below the compacted one is closed and told; at it is fine."""
        for _ in range(4):
            self.store.write((b"a", False))
        below, at = self.add(A, 3), self.add(A, 4)
        self.store.compacted = 4
        catch_up(self.hub)
        self.assertEqual((below.compact_revision, below.seen), (4, []))
        self.assertIs(below.place, Place.CLOSED)
        self.assertEqual([each[0] for each in at.seen], [4, 5])

    def test_cancel_within_a_delivery(self) -> None:
        """A delivery may end other watches, live and while catching up."""
        hub = self.hub

        class Killer(Recorder):
            victim: Watcher

            def deliver(self, batch: EventBatch) -> None:
                super().deliver(batch)
                hub.cancel(self.victim)

        for start in (0, 2):
            killer, victim = Killer(A), Recorder(A)
            killer.victim = victim
            hub.add(killer, start)
            hub.add(victim, start)
            self.store.write((b"a", False))
            catch_up(hub)
            self.assertTrue(killer.seen)
            self.assertEqual(victim.seen, [])

    def test_too_many_deliveries_in_a_turn(self) -> None:
        """Beyond the allowance of a turn watchers fall behind, lose nothing, and get several
        revisions at once."""
        self.patch(watch, "TURN_DELIVERIES_MAX", 10)
        calls: list[int] = []
        self.hub.on_work = lambda: calls.append(self.store.revision)
        self.hub.sync_some(1)
        recorders = [self.add(A) for _ in range(4)]
        for _ in range(5):
            self.store.write((b"a", False))
        self.assertEqual(sum(len(each.batches) for each in recorders), 10)
        self.assertEqual(calls[0], 3)
        catch_up(self.hub)
        for each in recorders:
            self.assertEqual([seen[0] for seen in each.seen], [2, 3, 4, 5, 6])
        self.assertEqual(sum(len(each.batches) for each in recorders), 14)
        self.store.write((b"a", False))
        self.assertEqual(sum(len(each.batches) for each in recorders), 18)

    def test_on_work(self) -> None:
        """The driver is woken when somebody falls behind, not for those who are synced."""
        calls: list[None] = []
        self.hub.on_work = lambda: calls.append(None)
        self.store.write((b"a", False))
        self.add(A)
        self.assertEqual(calls, [])
        self.add(A, 2)
        self.add(A, 2)
        self.assertEqual(len(calls), 1)

    def test_listens_only_when_needed(self) -> None:
        """While nobody is synced the store has no listener; those who begin or catch up later
        still see every event once."""
        self.assertEqual(self.store.on_change, [])
        self.store.write((b"a", False))
        behind = self.add(A, 2)
        self.assertEqual(self.store.on_change, [])
        self.store.write((b"a", False))
        catch_up(self.hub)
        self.assertEqual(len(self.store.on_change), 1)
        live = self.add(ALL)
        self.assertEqual(len(self.store.on_change), 1)
        self.store.write((b"a", False))
        self.hub.cancel(behind)
        self.store.write((b"a", False))
        self.hub.cancel(live)
        self.assertEqual(self.store.on_change, [])
        self.store.write((b"a", False))
        late = self.add(A)
        self.store.write((b"a", False))
        self.assertEqual([each[0] for each in behind.seen], [2, 3, 4])
        self.assertEqual([each[0] for each in live.seen], [4, 5])
        self.assertEqual([each[0] for each in late.seen], [7])

    def test_restore(self) -> None:
        """When a snapshot replaces the store, every watcher goes on in the new one from where it
        was, and learns when that part is compacted there."""
        self.store.write((b"a", False))
        synced, future, behind = self.add(A), self.add(A, 6), self.add(A, 2)
        self.store.write((b"a", False))
        new = FakeStore()
        for _ in range(3):
            new.write((b"a", False))
        new.write((b"b", False))
        new.compacted = 3
        self.hub.restore(new)
        catch_up(self.hub)
        self.assertEqual([each[0] for each in synced.seen], [3, 4])
        self.assertEqual(behind.compact_revision, 3)
        new.write((b"a", False))
        self.store.write((b"a", False))
        self.assertEqual([each[0] for each in synced.seen], [3, 4, 6])
        self.assertEqual([each[0] for each in future.seen], [6])


class SliceTests(SynchronousTestCase):
    def test_batches_of_a_thousand(self) -> None:
        """Long history comes in batches of a thousand revisions counted from the start; each
        names the last revision that it covers."""
        store = FakeStore()
        hub = WatchHub(store)
        for _ in range(2500):
            store.write((b"a", False))
        recorder = Recorder(A)
        hub.add(recorder, 2)
        catch_up(hub)
        self.assertEqual([each.revision for each in recorder.batches], [1001, 2001, 2501])

    def test_budget(self) -> None:
        """A slice stops near its budget at the end of a revision, and goes on from there."""
        store = FakeStore()
        hub = WatchHub(store)
        for _ in range(100):
            store.write((b"a", False), (b"b", False))
        recorder = Recorder(ALL)
        hub.add(recorder, 1)
        self.assertTrue(hub.sync_some(40))
        self.assertLess(len(recorder.seen), 50)
        self.assertEqual(len(recorder.seen) % 2, 0)
        catch_up(hub, 40)
        self.assertEqual(recorder.seen, expected(store.log, ALL, 1))

    def test_bytes_bound(self) -> None:
        """A slice stops when it has collected enough bytes, and hands out few different bodies."""
        self.patch(watch, "SLICE_EVENT_BYTES", 200)
        self.patch(watch, "SLICE_BODY_BYTES", 400)
        store = FakeStore()
        hub = WatchHub(store)
        for _ in range(60):
            store.write((b"a" * 20, False))
        recorders = [Recorder(ALL) for _ in range(20)]
        for start, recorder in enumerate(recorders):
            hub.add(recorder, start + 1)
        catch_up(hub)
        for start, recorder in enumerate(recorders):
            self.assertEqual(recorder.seen, expected(store.log, ALL, start + 1))
            self.assertLess(max(len(each.body) for each in recorder.batches), 300)

    def test_fair(self) -> None:
        """Watchers far behind do not keep those that are nearly there waiting."""
        store = FakeStore()
        hub = WatchHub(store)
        for _ in range(5000):
            store.write((b"a", False))
        far = [Recorder(ALL) for _ in range(600)]
        for each in far:
            hub.add(each, 2)
        near = Recorder(A)
        hub.add(near, 5000)
        for _ in range(2):
            hub.sync_some(600)
        self.assertEqual(len(near.seen), 2)


KEYS = st.sampled_from([b"a", b"aa", b"ab", b"b", b"c"])
INTERESTS = st.builds(
    Interest,
    KEYS,
    st.sampled_from([None, b"", b"b", b"ac", b"d"]),
    no_put=st.booleans(),
    no_delete=st.booleans(),
    prev_kv=st.booleans(),
).filter(lambda each: not each.end or each.key < each.end)
STEPS = st.one_of(
    st.tuples(st.just("write"), st.lists(st.tuples(KEYS, st.booleans()), min_size=1, max_size=3)),
    st.tuples(st.just("write"), st.lists(st.tuples(KEYS, st.booleans()), min_size=1, max_size=1)),
    st.tuples(st.just("watch"), st.tuples(INTERESTS, st.integers(-1, 20), st.integers(0, 2))),
    st.tuples(st.just("watch"), st.tuples(st.just(ALL), st.integers(-1, 5), st.integers(0, 1))),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("room"), st.tuples(st.integers(0, 2), st.integers(0, 5))),
    st.tuples(st.just("sync"), st.integers(1, 8)),
    st.tuples(st.just("compact"), st.integers(0, 3)),
)


class ModelTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(st.lists(STEPS, min_size=20, max_size=60), st.integers(1, 6), st.integers(2, 12))
    def test_exactly_once_in_order(
        self, steps: list[tuple[str, Any]], slice_revisions: int, allowance: int
    ) -> None:
        """Whatever is written, watched, cancelled, compacted and however slow subscribers are:
        each watcher has got a prefix of what a plain filter over the log says, all of it once
        there is room, and is told of compaction only if it lacked what is gone."""
        self.patch(watch, "SLICE_REVISIONS", slice_revisions)
        self.patch(watch, "TURN_DELIVERIES_MAX", allowance)
        self.patch(watch, "SLICE_WATCHERS_MAX", 3)
        store = FakeStore()
        hub = WatchHub(store)
        subscribers = [FakeSubscriber(3) for _ in range(3)]
        watchers: list[tuple[Recorder, int]] = []
        cancelled: set[Recorder] = set()
        for name, detail in steps:
            if name == "write":
                # A transaction touches a key once.
                store.write(*dict(detail).items())
            elif name == "watch":
                interest, start, subscriber = detail
                kind = Recorder if subscriber else Sharing
                recorder = kind(interest, subscribers[subscriber])
                hub.add(recorder, start)
                is_from_now = start <= 0 and (not start or start >= store.compacted)
                watchers.append((recorder, store.revision + 1 if is_from_now else start))
            elif name == "cancel" and watchers:
                recorder = watchers[detail % len(watchers)][0]
                hub.cancel(recorder)
                cancelled.add(recorder)
            elif name == "room":
                who, room = detail
                subscribers[who].room = room
                if room:
                    hub.resume(subscribers[who])
            elif name == "sync":
                hub.sync_some(detail)
            elif name == "compact":
                store.compacted = max(store.compacted, store.revision - detail)
            for recorder, first in watchers:
                wants = expected(store.log, recorder.interest, first)
                self.assertEqual(recorder.seen, wants[: len(recorder.seen)])
        for subscriber in subscribers:
            subscriber.room = 1 << 30
            hub.resume(subscriber)
        catch_up(hub)
        self.assertEqual(hub.slow_watchers, 0)
        for recorder, first in watchers:
            wants = expected(store.log, recorder.interest, first)
            if recorder.place is Place.CLOSED and recorder not in cancelled:
                self.assertLess(recorder.next_revision, recorder.compact_revision)
                self.assertEqual(
                    recorder.seen, [each for each in wants if each[0] < recorder.next_revision]
                )
            elif recorder not in cancelled:
                self.assertEqual(recorder.seen, wants)
        alive = [each for each, _ in watchers if each.place is not Place.CLOSED]
        self.assertEqual(hub.watchers, len(alive))
