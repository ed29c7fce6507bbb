"""Reads over commits in flight, against a model."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from etcdtw.storage.backend import lmdb_backend, lmdb_overlay
from etcdtw.storage.backend.lmdb_backend import LmdbBackend
from etcdtw.storage.backend.lmdb_overlay import RECORD_BYTES, Changes, Layer, read_through
from etcdtw.testing.backend_conformance import apply_change, contents
from tests.storage_lmdb.keyspaces import HeldWorker, KeyspaceCase

_BUCKETS = (b"key", b"meta", b"authUsers")
_KEYS = st.sampled_from(
    [b"%02d" % number for number in range(40)] + [b"n" * 600, b"n" * 600 + b"o"]
)
_CHANGE = st.tuples(
    st.just("change"), st.sampled_from(_BUCKETS), _KEYS, st.none() | st.binary(max_size=3)
)
_STEP = st.one_of(
    _CHANGE,
    _CHANGE,
    st.tuples(
        st.sampled_from(("end", "end again", "commit", "do", "report", "crash", "defragment"))
    ),
    st.tuples(st.just("scan"), st.sampled_from(_BUCKETS), _KEYS, st.none() | _KEYS),
)

Contents = dict[bytes, dict[bytes, bytes]]


class _Model:
    """What the backend must show, and what each entry left."""

    def __init__(self) -> None:
        self.shown: Contents = {name: {} for name in _BUCKETS}
        self.index = 0
        self.ends: list[tuple[int, Contents]] = [(0, self.copy())]

    def copy(self) -> Contents:
        return {name: dict(records) for name, records in self.shown.items() if records}

    def change(self, bucket: bytes, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.shown[bucket].pop(key, None)
        else:
            self.shown[bucket][key] = value

    def end(self, index: int) -> None:
        self.index = index
        self.ends.append((index, self.copy()))

    def restart(self, found: Contents, index: int, durable: int) -> None:
        """Go on with what a crash left; it must be what the end of an entry left."""
        assert index >= durable, f"{index} is less than the durable {durable}"
        assert (index, found) in self.ends, f"no entry left this: {index}, {found}"
        self.shown = {name: dict(found.get(name, {})) for name in _BUCKETS}
        self.index = index
        self.ends = [(index, self.copy())]


class OverlayTests(KeyspaceCase):
    """Whatever is in flight, reads see every write; a crash leaves the end of an entry."""

    def test_against_a_model(self) -> None:
        """Changes, ends of entries, commits at any stage, scans and crashes in any order, with
        batches that are full soon."""
        self.check_against_a_model()

    def test_large_entries_against_a_model(self) -> None:
        """The same where most entries are large: not copied into the layer below, and forgotten a
        piece at a time."""
        self.patch(lmdb_overlay, "LARGE_BYTES", 2 * RECORD_BYTES)
        self.patch(lmdb_backend, "LARGE_BYTES", 2 * RECORD_BYTES)
        self.patch(lmdb_backend, "SHED_CHANGES", 2)
        self.check_against_a_model()

    def test_entries_of_many_layers_against_a_model(self) -> None:
        """The same where most entries go on from layer to layer, and slip under what has ended or
        do not."""
        self.patch(lmdb_backend, "BATCH_BYTES_MAX", 2 * RECORD_BYTES)
        for large_bytes in (RECORD_BYTES, 100 * RECORD_BYTES):
            self.patch(lmdb_overlay, "LARGE_BYTES", large_bytes)
            self.patch(lmdb_backend, "LARGE_BYTES", large_bytes)
            self.patch(lmdb_backend, "SHED_CHANGES", 1)
            self.check_against_a_model()

    def check_against_a_model(self) -> None:
        self.patch(lmdb_backend, "BATCH_CHANGES_MAX", 6)

        @settings(max_examples=200, deadline=None, derandomize=True)
        @given(st.lists(_STEP, max_size=40))
        def check(steps: list[tuple[str, ...]]) -> None:
            worker = HeldWorker()
            backend = self.open(self.new_settings(batch_changes=4), worker)
            model = _Model()
            for step in steps:
                if step[0] == "crash":
                    durable = backend.durable_index()
                    worker.stop()
                    backend.close()
                    backend = self.open(backend.settings, worker)
                    model.restart(contents(backend), backend.consistent_index()[0], durable)
                else:
                    self._take(step, backend, model, worker)
                self.assertEqual(contents(backend), model.copy())
                self.assertEqual(backend.consistent_index()[0], model.index)
            worker.finish()
            self.assertEqual(contents(backend), model.copy())
            backend.close()

        check()

    def _take(
        self, step: tuple[object, ...], backend: LmdbBackend, model: _Model, worker: HeldWorker
    ) -> None:
        match step:
            case "change", bytes(bucket), bytes(key), value:
                assert value is None or isinstance(value, bytes)
                apply_change(backend, bucket, key, value)
                model.change(bucket, key, value)
            case "scan", bytes(bucket), bytes(start), end:
                expected = sorted(
                    (key, value)
                    for key, value in model.shown[bucket].items()
                    if start <= key and (not isinstance(end, bytes) or key < end)
                )
                assert end is None or isinstance(end, bytes)
                self.assertEqual(list(backend.scan(bucket, start, end)), expected)
                self.assertEqual(backend.get(bucket, start), model.shown[bucket].get(start))
            case ("end",):
                backend.end_entry(model.index + 1, 1)
                model.end(model.index + 1)
            case ("end again",):
                backend.end_entry(model.index, 1)
                model.end(model.index)
            case ("commit",):
                backend.commit()
            case ("do",):
                worker.do()
            case ("report",):
                worker.report()
            case ("defragment",):
                backend.defragment(lambda: None, lambda error: None)
            case _:
                raise AssertionError(f"no such step: {step}")

    def test_pieces(self) -> None:
        """However small the pieces of a scan, together they are what the layers and the records
        below show, each once and in order."""
        records = st.dictionaries(st.integers(0, 30), st.booleans(), max_size=20)

        @settings(max_examples=200, deadline=None, derandomize=True)
        @given(records, st.lists(records, max_size=3), st.integers(1, 6))
        def check(below: dict[int, bool], above: list[dict[int, bool]], limit: int) -> None:
            stored = sorted((b"%02d" % number, b"old") for number in below)
            expected = dict(stored)
            layers = []
            for number, changes in enumerate(above):
                layer = Layer()
                bucket = layer.buckets[b"key"] = Changes()
                for key, present in changes.items():
                    name = b"%02d" % key
                    bucket.records[name] = b"%d" % number if present else None
                    expected.pop(name, None)
                    if present:
                        expected[name] = b"%d" % number
                layers.append(layer)
            found: list[tuple[bytes, bytes]] = []
            start: bytes | None = b""
            while start is not None:
                rest = [each for each in stored if each[0] >= start][:limit]
                piece, bound = read_through(layers, b"key", rest, start, None, limit)
                found += piece
                start = None if bound is None else bound + b"\0"
            self.assertEqual(found, sorted(expected.items()))

        check()

    def test_letting_go(self) -> None:
        """What was dropped is gone, and the last call says that there was no more."""
        layer = Layer()
        for bucket in (b"key", b"meta"):
            changes = layer.buckets[bucket] = Changes()
            changes.records.update((b"%d" % number, b"") for number in range(5))
            changes.keys(b"", None, 10)
        self.assertEqual([layer.shed(3) for _ in range(4)], [True, True, True, False])
        self.assertEqual([each.records for each in layer.buckets.values()], [{}, {}])
        self.assertEqual(layer.buckets[b"key"].keys(b"", None, 10), [])

    def test_order_follows_new_keys(self) -> None:
        """Keys that come in after a look at the order are in the next one."""
        changes = Changes()
        seen = []
        for key in (b"c", b"a", b"b", b"d"):
            changes.records[key] = b""
            seen.append(changes.keys(b"", None, 10))
        self.assertEqual(seen[-1], [b"a", b"b", b"c", b"d"])
        for earlier, later in pairwise(seen):
            self.assertTrue(set(earlier) < set(later))
        changes.clear()
        self.assertEqual(changes.keys(b"", None, 10), [])
