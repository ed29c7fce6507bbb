"""A put on its own, or one of many, does exactly what a transaction of one put does."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.mvcc.changes import Change
from etcdtw.mvcc.plain_puts import put_each
from etcdtw.mvcc.store import Store
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.varint import varint
from tests.mvcc.leases import FakeLessor

KEYS = st.sampled_from((b"a", b"b", b"k" * 127, b"k" * 128))
VALUES = st.sampled_from((b"", b"v", b"v" * 90, b"v" * 127, b"v" * 128, b"v" * 16384))
STEPS = st.one_of(
    st.tuples(st.just("put"), KEYS, VALUES, st.sampled_from((0, 0, 0, 0, 7))),
    st.tuples(st.just("many"), KEYS, VALUES, st.just(0)),
    st.tuples(st.just("together"), KEYS, VALUES, st.just(0)),
    st.tuples(st.just("delete"), KEYS, st.just(b""), st.just(0)),
    st.tuples(st.just("listen"), st.just(b""), st.just(b""), st.just(0)),
)
MANY = 130  # versions and revisions of two bytes, histories beyond tuples


class Side:
    """A store, and what its listener heard."""

    def __init__(self, recent_bytes_max: int) -> None:
        self.leases = FakeLessor()
        self.leases.grant(7)
        self.store = Store(MemoryBackend(), self.leases, recent_bytes_max=recent_bytes_max)
        self.heard: list[tuple[int, list[Change]]] = []

    def listen(self, revision: int, changes: list[Change]) -> None:
        self.heard.append((revision, changes))

    def state(self) -> object:
        """Everything that a put changes."""
        store = self.store
        return (
            store.revision,
            list(store.backend.scan(b"key", b"", None)),
            store.backend.size_in_use(),
            store.index.current,
            [{key: list(each) for key, each in part.items()} for part in store.index.history],
            store.index.with_history,
            store.recent.young,
            store.recent.old,
            store.recent.used,
            store.lease_of,
            self.leases.keys,
            store.range(b"\0", b"\0").chunks,
            self.heard,
        )


class PutOneTests(SynchronousTestCase):
    """``Store.put_one`` and ``put_each`` beside ``WriteTxn.put``."""

    def test_like_a_transaction(self) -> None:
        """Whatever was there before, both leave the same records, index, memory and changes."""

        @settings(max_examples=150, deadline=None, derandomize=True)
        @given(st.lists(STEPS, max_size=12), st.sampled_from((1 << 20, 1000)))
        def check(steps: list[tuple[str, bytes, bytes, int]], recent_bytes_max: int) -> None:
            alone, within = Side(recent_bytes_max), Side(recent_bytes_max)
            for step, key, value, lease in steps:
                if step == "listen":
                    for side in (alone, within):
                        if side.store.on_change:
                            side.store.on_change.clear()
                        else:
                            side.store.on_change.append(side.listen)
                elif step == "delete":
                    for side in (alone, within):
                        txn = side.store.write()
                        txn.delete_range(key)
                        txn.end()
                elif step == "together":
                    puts = [(key, value or b"w"), (b"b", b"v"), (b"c%d" % len(steps), b"v")] * 50
                    revisions = put_each(alone.store, puts)
                    for put, encoded in zip(puts, revisions, strict=True):
                        txn = within.store.write()
                        txn.put(*put)
                        self.assertEqual(varint(txn.end()), encoded)
                else:
                    for _ in range(MANY if step == "many" else 1):
                        revision = alone.store.put_one(key, value, lease)
                        txn = within.store.write()
                        txn.put(key, value, lease)
                        self.assertEqual(txn.end(), revision)
                self.assertEqual(alone.state(), within.state())

        check()
