"""The store against a model, with everything that can happen to it in any order."""

from __future__ import annotations

from itertools import chain

from google_crc32c import value as crc32c
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import Compacted, EtcdError, FutureRevision
from etcdtw.mvcc.changes import Change
from etcdtw.mvcc.compaction import Compaction
from etcdtw.mvcc.keyvalue import KV, decode_kv, encode_kv
from etcdtw.mvcc.revision import parse_main
from etcdtw.mvcc.store import Store
from etcdtw.pb.kv_pb2 import KeyValue
from etcdtw.storage.backend.memory import MemoryBackend
from tests.mvcc.leases import FakeLessor
from tests.mvcc.model import ModelStore

KEYS = st.sampled_from((b"a", b"b", b"ba", b"c", b"\xff"))
ENDS = st.sampled_from((b"", b"\0", b"a", b"b\0", b"c", b"d"))
VALUES = st.binary(max_size=3)
LEASES = st.sampled_from((0, 0, 7, 8))
BACK = st.integers(-1, 8)
OPERATIONS = st.one_of(
    st.tuples(st.just("put"), KEYS, VALUES, LEASES),
    st.tuples(st.just("delete"), KEYS, ENDS, st.just(0)),
)


def model_hash(model: ModelStore, store: Store, revision: int) -> int:
    """HashKV from its description: raw records in order, with what it leaves out."""
    kept = {kv.mod_revision for kv in model.live(b"\0", b"\0", revision)}
    data = b"key"
    for raw_key, record in store.backend.scan(b"key", b"", None):
        main = parse_main(raw_key)
        if main > revision:
            break
        newest = (
            len(raw_key) == 17
            and main in kept
            and model.get(KeyValue.FromString(record).key, revision) == decode_kv(record)
        )
        if main <= store.compacted and kept and not newest:
            continue
        data += raw_key + record
    found: int = crc32c(data)
    return found


class StoreMachine(RuleBasedStateMachine):
    """Two stores fed alike but with different memory bounds and step sizes, and the model."""

    @initialize()
    def begin(self) -> None:
        self.model = ModelStore()
        self.stores = [self.opened(MemoryBackend(durable=True), size) for size in (1 << 20, 700)]
        self.jobs: list[Compaction] = []

    def opened(self, backend: MemoryBackend, recent_bytes_max: int) -> Store:
        lessor = FakeLessor()
        for lease in (7, 8):
            lessor.grant(lease)
        store = Store(backend, lessor, recent_bytes_max=recent_bytes_max, restore=False)
        while not store.restoring.step(2):
            pass
        store.tells_prev = True
        self.seen: list[tuple[int, list[Change]]] = []
        store.hashes_compactions = True
        if recent_bytes_max == 700:
            store.on_change.append(lambda revision, changes: self.seen.append((revision, changes)))
        return store

    @rule(operations=st.lists(OPERATIONS, min_size=1, max_size=5))
    def write(self, operations: list[tuple[str, bytes, bytes, int]]) -> None:
        main = self.model.revision + 1
        begun = len(self.model.changes)
        transactions = [store.write() for store in self.stores]
        before = {kv.key: kv for kv in self.model.live(b"\0", b"\0", main)}
        for operation, key, value_or_end, lease in operations:
            if operation == "put":
                self.model.put(main, key, value_or_end, lease)
                for txn in transactions:
                    txn.put(key, value_or_end, lease)
            else:
                wanted = self.model.delete_range(main, key, value_or_end)
                for txn in transactions:
                    assert txn.delete_range(key, value_or_end) == wanted
            for txn in transactions:
                seen = [decode_kv(pair) for pair in txn.range(b"\0", b"\0").pairs]
                assert seen == self.model.live(b"\0", b"\0", main)
        changes = self.model.changes[begun:]
        for txn in transactions:
            assert txn.changed == bool(changes)
            assert txn.end() == (main if changes else main - 1)
        if changes:
            self.model.revision = main
            revision, published = self.seen[-1]
            assert revision == main
            self.check_changes(main, changes, published, before)

    def check_changes(
        self,
        main: int,
        wanted: list[tuple[int, bytes, KV | None]],
        published: list[Change],
        before: dict[bytes, KV],
    ) -> None:
        assert [change.key for change in published] == [key for _, key, _ in wanted]
        for change, (_, key, kv) in zip(published, wanted, strict=True):
            assert change.is_delete == (kv is None)
            if kv is None:
                expected = KeyValue(key=key, mod_revision=main).SerializeToString()
                assert change.kv == expected and not change.create
            else:
                assert change.kv == encode_kv(kv)
                assert change.create == (kv.version == 1)
            prev = before.get(key)
            if prev is None or change.create or main - 1 < self.model.compacted:
                assert change.prev is None
            else:
                assert change.prev == encode_kv(prev)

    @rule(key=KEYS, value=VALUES, lease=LEASES)
    def put_one(self, key: bytes, value: bytes, lease: int) -> None:
        main = self.model.revision + 1
        self.model.put(main, key, value, lease)
        self.model.revision = main
        assert [store.put_one(key, value, lease) for store in self.stores] == [main, main]

    @rule(key=KEYS, end=ENDS, back=BACK, limit=st.integers(-1, 3), count_only=st.booleans())
    def read(self, key: bytes, end: bytes, back: int, limit: int, count_only: bool) -> None:
        revision = max(0, self.model.revision - back)
        for store in self.stores:
            try:
                wanted = self.model.range(key, end, revision)
            except EtcdError as error:
                try:
                    store.range(key, end, revision=revision)
                except EtcdError as got:
                    assert type(got) is type(error)
                else:
                    raise AssertionError(f"not refused: {error}") from error
                continue
            result = store.range(key, end, revision=revision, limit=limit, count_only=count_only)
            assert (result.count, result.revision) == (len(wanted), self.model.revision)
            if limit > 0:
                wanted = wanted[:limit]
            assert result.pairs == ([] if count_only else [encode_kv(kv) for kv in wanted])

    @rule(first_back=BACK, last_back=BACK, limit=st.integers(0, 4))
    def read_history(self, first_back: int, last_back: int, limit: int) -> None:
        first = max(1, self.model.revision - first_back)
        last = self.model.revision - last_back
        if first <= self.model.compacted:
            return
        wanted: dict[int, list[tuple[int, bytes, KV | None]]] = {}
        for change in self.model.changes:
            if first <= change[0] <= last:
                wanted.setdefault(change[0], []).append(change)
        mains = sorted(wanted)[: limit or None]
        for store in self.stores:
            found = list(store.history(first, last, limit))
            assert [main for main, _ in found] == mains
            for main, changes in found:
                before = {kv.key: kv for kv in self.model.live(b"\0", b"\0", main - 1)}
                self.check_changes(main, wanted[main], changes, before)

    @rule(back=BACK)
    def compact(self, back: int) -> None:
        revision = self.model.revision - back
        try:
            self.model.compact(revision)
        except (Compacted, FutureRevision) as error:
            for store in self.stores:
                try:
                    store.compact(revision)
                except type(error):
                    continue
                raise AssertionError(f"not refused: {error}") from error
            return
        self.jobs += [store.compact(revision) for store in self.stores]

    @rule(records=st.integers(1, 5))
    def step_compactions(self, records: int) -> None:
        for number, job in enumerate(self.jobs):
            if job.step(records + number):
                assert job.done
        self.jobs = [job for job in self.jobs if not job.done]

    @rule(back=BACK, records=st.integers(1, 5))
    def compare_hashes(self, back: int, records: int) -> None:
        revision = self.model.revision - back
        if not max(0, self.model.compacted) < revision <= self.model.revision:
            return
        jobs = [store.hash_kv(revision) for store in self.stores]
        for number, job in enumerate(jobs):
            while not job.step(records + number):
                pass
            assert job.compact_revision == self.model.compacted
        assert jobs[0].hash == jobs[1].hash
        assert jobs[0].hash == model_hash(self.model, self.stores[0], revision)

    @rule()
    def compare_compactions(self) -> None:
        one, other = self.stores
        for job in one.compaction_hashes:
            same = other.compaction_hash(job.revision)
            if job.done and same is not None:
                assert (job.hash, job.compact_revision) == (same.hash, same.compact_revision)

    @rule(number=st.integers(0, 1))
    def restart(self, number: int) -> None:
        store = self.stores[number]
        backend = store.backend
        assert isinstance(backend, MemoryBackend)
        backend.end_entry(self.model.revision, 1)
        backend.commit()
        backend.crash()
        again = self.opened(backend, (1 << 20, 700)[number])
        assert again.lease_of == store.lease_of
        assert isinstance(store.leases, FakeLessor) and isinstance(again.leases, FakeLessor)
        assert again.leases.keys == store.leases.keys
        self.stores[number] = again
        self.jobs = [job for each in self.stores for job in each.compactions]

    @invariant()
    def agree(self) -> None:
        wanted = [encode_kv(kv) for kv in self.model.live(b"\0", b"\0", self.model.revision)]
        for store in self.stores:
            assert store.revision == self.model.revision
            assert store.compacted == self.model.compacted
            assert store.range(b"\0", b"\0").pairs == wanted
            on_lease = {
                kv.key: kv.lease
                for kv in self.model.live(b"\0", b"\0", self.model.revision)
                if kv.lease
            }
            assert store.lease_of == on_lease
            if not store.compactions:
                assert sorted(store.index.with_history) == sorted(chain(*store.index.history))

    def teardown(self) -> None:
        """A finished compaction leaves exactly the records that the model keeps."""
        for store in self.stores if hasattr(self, "stores") else ():
            for job in list(store.compactions):
                while not job.step(3):
                    pass
            left = [
                (parse_main(raw_key), KeyValue.FromString(record).key, len(raw_key) == 18)
                for raw_key, record in store.backend.scan(b"key", b"", None)
            ]
            wanted = [(main, key, kv is None) for main, key, kv in self.model.records()]
            assert left == wanted


class ModelTests(SynchronousTestCase):
    """Writes, reads, history, compaction, hashes and restarts."""

    def test_store(self) -> None:
        """Whatever happens, two stores and the model agree on every answer."""
        run_state_machine_as_test(
            StoreMachine,
            settings=settings(
                max_examples=80, stateful_step_count=30, deadline=None, derandomize=True
            ),
        )
