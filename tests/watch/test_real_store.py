"""The hub over the real store: history, prev_kv and compaction are the store's own."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.mvcc import watch
from etcdtw.mvcc.changes import Change
from etcdtw.mvcc.store import Store
from etcdtw.mvcc.watch import Place, WatchHub
from etcdtw.mvcc.watch_index import Interest
from etcdtw.storage.backend.memory import MemoryBackend
from tests.watch.fakes import FakeSubscriber, Recorder, catch_up, expected

KEYS = st.sampled_from([b"a", b"ab", b"b"])
INTERESTS = st.builds(
    Interest,
    KEYS,
    st.sampled_from([None, b"", b"c"]),
    no_put=st.booleans(),
    no_delete=st.booleans(),
    prev_kv=st.booleans(),
)
STEPS = st.one_of(
    st.tuples(st.just("write"), st.dictionaries(KEYS, st.booleans(), min_size=1)),
    st.tuples(st.just("watch"), st.tuples(INTERESTS, st.integers(-1, 15), st.booleans())),
    st.tuples(st.just("room"), st.integers(0, 4)),
    st.tuples(st.just("compact"), st.integers(0, 4)),
)


class RealStoreTests(SynchronousTestCase):
    @settings(max_examples=120, deadline=None, derandomize=True)
    @given(st.lists(STEPS, min_size=15, max_size=50))
    def test_exactly_once_in_order(self, steps: list[tuple[str, Any]]) -> None:
        """Each watcher gets what a plain filter over all changes says, whether live or from the
        history, or is told of the compaction that took its next event."""
        self.patch(watch, "SLICE_REVISIONS", 3)
        store = Store(MemoryBackend())
        log: dict[int, list[Change]] = {}
        store.on_change.append(log.__setitem__)
        hub = WatchHub(store)
        slow, quick = FakeSubscriber(0), FakeSubscriber()
        watchers: list[tuple[Recorder, int]] = []
        for name, detail in steps:
            if name == "write":
                txn = store.write()
                for key, is_delete in detail.items():
                    if is_delete:
                        txn.delete_range(key)
                    else:
                        txn.put(key, b"value")
                txn.end()
            elif name == "watch":
                interest, start, is_slow = detail
                recorder = Recorder(interest, slow if is_slow else quick)
                if start == store.compacted:
                    continue  # the history may have gaps there, as etcd's has
                hub.add(recorder, start)
                watchers.append((recorder, start if start > 0 else store.revision + 1))
            elif name == "room":
                slow.room = detail
                if slow.ready:
                    hub.resume(slow)
            else:
                revision = store.revision - detail
                at_it = any(hub.position(each) == revision for each, _ in watchers)
                if revision > store.compacted and not at_it:
                    job = store.compact(revision)
                    while not job.step():
                        pass
            hub.sync_some(5)
        slow.room = 1 << 30
        hub.resume(slow)
        catch_up(hub)
        for recorder, first in watchers:
            wants = expected(log, recorder.interest, first)
            if recorder.place is Place.CLOSED:
                self.assertLess(recorder.next_revision, recorder.compact_revision)
                wants = [each for each in wants if each[0] < recorder.next_revision]
            self.assertEqual(recorder.seen, wants)
