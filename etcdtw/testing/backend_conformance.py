"""What every backend must do: a suite to run on an implementation of ``IBackend``.

Mix ``BackendConformance`` into a ``twisted.trial`` test case and say how to make a backend. One
that keeps something over a crash also takes ``DurableBackendConformance`` and says how a crash and
the restart after it look.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from etcdtw.mvcc.interfaces import IBackend

if TYPE_CHECKING:
    from unittest import TestCase as _Case
else:
    _Case = object

_KEYS = st.binary(min_size=1, max_size=3)
_VALUES = st.binary(max_size=20)
_CHANGES = st.lists(
    st.tuples(st.sampled_from((b"key", b"meta")), _KEYS, st.none() | _VALUES), max_size=30
)


def apply_change(backend: IBackend, bucket: bytes, key: bytes, value: bytes | None) -> None:
    """Put, or delete for a value of None."""
    if value is None:
        backend.delete(bucket, key)
    else:
        backend.put(bucket, key, value)


def contents(backend: IBackend) -> dict[bytes, dict[bytes, bytes]]:
    """Everything in it, by bucket; empty buckets left out."""
    found = {name: dict(backend.scan(name, b"", None)) for name in backend.buckets()}
    return {name: records for name, records in found.items() if records}


class BackendConformance(_Case):
    """Reads and writes."""

    def make_backend(self) -> IBackend:
        """A new and empty backend."""
        raise NotImplementedError

    def backend(self) -> IBackend:
        made = self.make_backend()
        self.addCleanup(made.close)
        return made

    def test_provides_the_interface(self) -> None:
        """It has every method of IBackend with its signature."""
        self.assertTrue(verifyObject(IBackend, self.backend()))

    def test_new(self) -> None:
        """A new backend holds nothing, and index and term are 0."""
        backend = self.backend()
        self.assertEqual(backend.consistent_index(), (0, 0))
        self.assertEqual(backend.durable_index(), 0)
        self.assertIsNone(backend.get(b"key", b"a"))
        self.assertEqual(list(backend.scan(b"key", b"", None)), [])
        self.assertEqual(contents(backend), {})

    def test_reads_see_writes(self) -> None:
        """Every read sees every write before it, whether or not an entry ended or a commit came."""
        backend = self.backend()
        finishes: list[Callable[[], None]] = [
            lambda: None,
            lambda: backend.end_entry(1, 1),
            lambda: backend.commit(),
        ]
        for finish in finishes:
            backend.put(b"key", b"a", b"1")
            finish()
            self.assertEqual(backend.get(b"key", b"a"), b"1")
            self.assertEqual(list(backend.scan(b"key", b"", None)), [(b"a", b"1")])
            backend.put(b"key", b"a", b"")
            finish()
            self.assertEqual(backend.get(b"key", b"a"), b"")
            backend.delete(b"key", b"a")
            finish()
            self.assertIsNone(backend.get(b"key", b"a"))
            self.assertEqual(list(backend.scan(b"key", b"", None)), [])

    def test_delete_absent(self) -> None:
        """Deleting what is not there, or in a bucket that is not there, is fine."""
        backend = self.backend()
        backend.delete(b"key", b"a")
        backend.put(b"key", b"b", b"1")
        backend.delete(b"key", b"a")
        self.assertEqual(contents(backend), {b"key": {b"b": b"1"}})

    def test_buckets_are_apart(self) -> None:
        """Equal keys in different buckets are different records; bucket names come in order."""
        backend = self.backend()
        for name in (b"meta", b"alarm", b"key"):
            backend.put(name, b"k", name)
        for name in (b"meta", b"alarm", b"key"):
            self.assertEqual(backend.get(name, b"k"), name)
        found = backend.buckets()
        self.assertEqual(found, sorted(found))
        self.assertTrue({b"meta", b"alarm", b"key"} <= set(found))

    def test_scan_bounds(self) -> None:
        """A scan includes its start and excludes its end; inverted bounds give nothing."""
        backend = self.backend()
        for key in (b"c", b"a", b"b", b"b\0", b"\xff\xff"):
            backend.put(b"key", key, b"v")

        def keys(start: bytes, end: bytes | None) -> list[bytes]:
            return [key for key, _ in backend.scan(b"key", start, end)]

        self.assertEqual(keys(b"", None), [b"a", b"b", b"b\0", b"c", b"\xff\xff"])
        self.assertEqual(keys(b"b", b"c"), [b"b", b"b\0"])
        self.assertEqual(keys(b"b", b"b\0"), [b"b"])
        self.assertEqual(keys(b"b\0", None), [b"b\0", b"c", b"\xff\xff"])
        self.assertEqual(keys(b"c", b"a"), [])
        self.assertEqual(keys(b"d", b"e"), [])

    def test_scan_survives_writes(self) -> None:
        """Writes while a scan is alive do not break it: it goes on in order, and shows what was
        there before and stays."""
        backend = self.backend()
        for number in range(1000):
            backend.put(b"key", b"%04d" % number, b"v")
        scan = backend.scan(b"key", b"", None)
        seen = [next(scan)[0] for _ in range(10)]
        for number in range(0, 1000, 2):
            backend.delete(b"key", b"%04d" % number)
            backend.put(b"key", b"%04d+" % number, b"new")
        backend.end_entry(1, 1)
        backend.commit()
        seen += [key for key, _ in scan]
        self.assertEqual(seen, sorted(seen))
        self.assertTrue({b"%04d" % number for number in range(1, 1000, 2)} <= set(seen))

    def test_consistent_index(self) -> None:
        """Index and term are those of the last ended entry at once, durable or not."""
        backend = self.backend()
        backend.put(b"key", b"a", b"1")
        backend.end_entry(7, 2)
        self.assertEqual(backend.consistent_index(), (7, 2))
        backend.end_entry(8, 3)
        self.assertEqual(backend.consistent_index(), (8, 3))
        self.assertLessEqual(backend.durable_index(), 8)

    def test_sizes(self) -> None:
        """The size covers what is in use, and that covers the records."""
        backend = self.backend()
        for number in range(100):
            backend.put(b"key", b"%04d" % number, b"v" * 1000)
        backend.end_entry(1, 1)
        backend.commit()
        self.assertGreaterEqual(backend.size_in_use(), 100_000)
        self.assertGreaterEqual(backend.size(), backend.size_in_use())

    def test_like_dicts(self) -> None:
        """Any sequence of puts and deletes leaves what it would leave in dicts."""

        @settings(max_examples=60, deadline=None, derandomize=True)
        @given(_CHANGES)
        def check(changes: list[tuple[bytes, bytes, bytes | None]]) -> None:
            backend = self.make_backend()
            model: dict[bytes, dict[bytes, bytes]] = {}
            for bucket, key, value in changes:
                apply_change(backend, bucket, key, value)
                records = model.setdefault(bucket, {})
                if value is None:
                    records.pop(key, None)
                else:
                    records[key] = value
            self.assertEqual(
                contents(backend), {name: records for name, records in model.items() if records}
            )
            for bucket, records in model.items():
                self.assertEqual(list(backend.scan(bucket, b"", None)), sorted(records.items()))
            backend.close()

        check()


class DurableBackendConformance(BackendConformance):
    """What is left after a crash."""

    def wait_durable(self, backend: IBackend) -> None:
        """Return when the last commit is durable."""

    def crash(self, backend: Any) -> IBackend:
        """Lose what is not durable; the backend after a restart."""
        raise NotImplementedError

    def test_committed_survives(self) -> None:
        """What was committed is there after a crash, with the index and term of its entry."""
        backend = self.backend()
        backend.put(b"key", b"a", b"1")
        backend.end_entry(3, 2)
        backend.commit()
        self.wait_durable(backend)
        self.assertEqual(backend.durable_index(), 3)
        backend = self.crash(backend)
        self.assertEqual(contents(backend), {b"key": {b"a": b"1"}})
        self.assertEqual(backend.consistent_index(), (3, 2))
        self.assertEqual(backend.durable_index(), 3)

    def test_open_entry_is_not_committed(self) -> None:
        """A commit ends at an entry boundary: changes of an entry under way stay out of it."""
        backend = self.backend()
        backend.put(b"key", b"a", b"1")
        backend.end_entry(3, 2)
        backend.put(b"key", b"a", b"2")
        backend.put(b"key", b"b", b"2")
        backend.commit()
        self.wait_durable(backend)
        backend = self.crash(backend)
        self.assertEqual(contents(backend), {b"key": {b"a": b"1"}})
        self.assertEqual(backend.consistent_index(), (3, 2))

    def test_crash_at_every_commit(self) -> None:
        """After a crash the backend is as it was at the end of some entry, not before the last
        durable commit, and its index says which."""

        @settings(max_examples=60, deadline=None, derandomize=True)
        @given(st.lists(st.tuples(_CHANGES, st.booleans()), max_size=6))
        def check(entries: list[tuple[list[tuple[bytes, bytes, bytes | None]], bool]]) -> None:
            backend = self.make_backend()
            states = {0: contents(backend)}
            committed = 0
            for index, (changes, commit) in enumerate(entries, 1):
                for bucket, key, value in changes:
                    apply_change(backend, bucket, key, value)
                backend.end_entry(index, 1)
                states[index] = contents(backend)
                if commit:
                    backend.commit()
                    self.wait_durable(backend)
                    committed = index
            backend.put(b"key", b"unfinished", b"")
            backend = self.crash(backend)
            index, _ = backend.consistent_index()
            self.assertGreaterEqual(index, committed)
            self.assertEqual(contents(backend), states[index])
            backend.close()

        check()
