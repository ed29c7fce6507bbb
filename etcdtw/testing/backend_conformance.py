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

from etcdtw.errors import StorageError
from etcdtw.mvcc.interfaces import IBackend, IBackendView, IDurableBackend

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

    def test_many_at_once(self) -> None:
        """Many values set at once are what they are one by one, over earlier ones too."""
        backend = self.backend()
        backend.put(b"key", b"b", b"old")
        backend.delete(b"key", b"c")
        backend.put_all(b"key", [b"a", b"b", b"c"], [b"1", b"2", b""])
        backend.put_all(b"meta", [], [])
        backend.put(b"key", b"c", b"3")
        self.assertEqual(contents(backend), {b"key": {b"a": b"1", b"b": b"2", b"c": b"3"}})

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

    def test_long_scan(self) -> None:
        """A scan gives every record once and in order, however many there are, whichever were
        committed, and whatever order they came in."""
        backend = self.backend()
        names = [b"%04d" % number + end for number in range(2500) for end in (b"", b"\0")]
        for number in range(len(names)):
            name = names[number * 7919 % len(names)]
            backend.put(b"key", name, name)
            if number % 1000 == 500:
                backend.end_entry(number, 1)
                backend.commit()
        for name in names[::3]:
            backend.delete(b"key", name)
        left = [name for number, name in enumerate(names) if number % 3]
        self.assertEqual([name for name, _ in backend.scan(b"key", b"", None)], left)
        self.assertEqual(
            list(backend.scan(b"key", b"0100", b"2400\0")),
            [(name, name) for name in left if b"0100" <= name < b"2400\0"],
        )

    def test_long_names(self) -> None:
        """Names of users and roles may have any length, and are in their own order."""
        backend = self.backend()
        names = [b"n" * 499 + end for end in (b"", b"a", b"b", b"b" * 20, b"c" * 600, b"d" * 600)]
        names += [b"n" * 1000 + end for end in (b"", b"a", b"b")]
        for bucket in (b"authUsers", b"authRoles"):
            for name in names[::2] + names[1::2]:
                backend.put(bucket, name, b"1" + name)
                backend.put(bucket, name, name)
        for index in (1, 2):
            backend.end_entry(index, 1)
            backend.commit()
            self.assertEqual(
                list(backend.scan(b"authUsers", b"", None)),
                [(name, name) for name in sorted(names)],
            )
            for name in names:
                self.assertEqual(backend.get(b"authRoles", name), name)
        middle = sorted(names)[4]
        backend.delete(b"authUsers", middle)
        backend.end_entry(3, 1)
        backend.commit()
        self.assertIsNone(backend.get(b"authUsers", middle))
        self.assertEqual(
            [name for name, _ in backend.scan(b"authUsers", middle, None)], sorted(names)[5:]
        )

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

    def test_entry_ends_again(self) -> None:
        """Changes between two entries are committed when the earlier one is ended once more."""
        backend = self.backend()
        backend.put(b"key", b"a", b"1")
        backend.end_entry(3, 2)
        backend.commit()
        backend.delete(b"key", b"a")
        backend.end_entry(*backend.consistent_index())
        backend.commit()
        self.wait_durable(backend)
        backend = self.crash(backend)
        self.assertEqual(contents(backend), {})
        self.assertEqual(backend.consistent_index(), (3, 2))

    def test_entry_without_changes(self) -> None:
        """Index and term become durable although nothing else changed."""
        backend = self.backend()
        backend.end_entry(4, 3)
        backend.commit()
        self.wait_durable(backend)
        self.assertEqual(self.crash(backend).consistent_index(), (4, 3))

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


class DiskBackendConformance(DurableBackendConformance):
    """What an ``IDurableBackend`` says and does beyond that."""

    def make_backend(self) -> IDurableBackend:
        raise NotImplementedError

    def disk_backend(self) -> IDurableBackend:
        made = self.make_backend()
        self.addCleanup(made.close)
        return made

    def test_provides_the_durable_interface(self) -> None:
        """It has every method of IDurableBackend with its signature, and so have its views."""
        backend = self.disk_backend()
        self.assertTrue(verifyObject(IDurableBackend, backend))
        view = backend.view("test")
        self.assertTrue(verifyObject(IBackendView, view))
        view.close()

    def test_waiting(self) -> None:
        """Who waits for an index is called once when it is durable, or at once if it is."""
        backend = self.disk_backend()
        seen: list[object] = []
        backend.on_durable.append(seen.append)
        backend.end_entry(1, 1)
        backend.wait_durable(2, lambda: seen.append("two"))
        backend.wait_durable(1, lambda: seen.append("one"))
        self.wait_durable(backend)
        self.assertEqual([each for each in seen if each != 1], ["one"])
        backend.end_entry(2, 1)
        backend.commit()
        self.wait_durable(backend)
        self.assertEqual(seen[-2:], [2, "two"])
        backend.wait_durable(2, lambda: seen.append("again"))
        self.assertEqual(seen[-1], "again")

    def test_abandoned(self) -> None:
        """After it was abandoned nothing becomes durable, whoever asks; reads go on."""
        backend = self.disk_backend()
        backend.end_entry(3, 2)
        backend.commit()
        self.wait_durable(backend)
        backend.put(b"key", b"a", b"1")
        backend.end_entry(4, 2)
        backend.abandon()
        backend.commit()
        self.wait_durable(backend)
        self.assertEqual(backend.get(b"key", b"a"), b"1")
        left = self.crash(backend)
        self.assertEqual(contents(left), {})
        self.assertEqual(left.consistent_index(), (3, 2))

    def test_view_is_of_its_moment(self) -> None:
        """A view shows what was durable, with its index, and nothing of what came later."""
        backend = self.disk_backend()
        for number in range(3000):
            backend.put(b"key", b"%04d" % number, b"old")
        backend.put(b"authUsers", b"u" * 700, b"1")
        backend.end_entry(5, 2)
        backend.commit()
        self.wait_durable(backend)
        view = backend.view("test")
        scan = view.scan(b"key", b"", None)
        next(scan)
        for number in range(3000):
            backend.put(b"key", b"%04d" % number, b"new")
        backend.put(b"lease", b"1", b"")
        backend.end_entry(6, 3)
        backend.commit()
        self.wait_durable(backend)
        self.assertEqual((view.index, view.term), (5, 2))
        self.assertEqual(sum(value == b"old" for _, value in scan), 2999)
        self.assertEqual(view.get(b"key", b"0000"), b"old")
        self.assertEqual(view.get(b"authUsers", b"u" * 700), b"1")
        self.assertIsNone(view.get(b"lease", b"1"))
        self.assertNotIn(b"lease", view.buckets())
        self.assertEqual(backend.get(b"key", b"0000"), b"new")
        view.close()
        view.close()
        with self.assertRaises(StorageError):
            view.get(b"key", b"0000")
        with self.assertRaises(StorageError):
            list(view.scan(b"key", b"", None))

    def test_defragmentation(self) -> None:
        """It keeps every record, gives space back, and what is written meanwhile is there."""
        backend = self.disk_backend()
        for number in range(300):
            backend.put(b"key", b"%04d" % number, b"v" * 10_000)
        backend.end_entry(1, 1)
        backend.commit()
        self.wait_durable(backend)
        view = backend.view("test")
        for number in range(1, 150):
            backend.delete(b"key", b"%04d" % number)
        backend.end_entry(2, 1)
        backend.commit()
        self.wait_durable(backend)
        before = backend.size()
        self.assertLess(backend.size_in_use(), 2 * before // 3)
        for number in range(150, 300):
            backend.delete(b"key", b"%04d" % number)
        backend.end_entry(3, 1)
        told: list[object] = []
        backend.defragment(lambda: told.append("done"), told.append)
        backend.defragment(lambda: told.append("twice"), lambda error: told.append("refused"))
        backend.put(b"key", b"later", b"1")
        backend.end_entry(4, 1)
        backend.commit()
        self.wait_durable(backend)
        self.assertIn("done", told)
        self.assertLess(backend.size(), before // 10)
        self.assertEqual(backend.durable_index(), 4)
        self.assertEqual(len(list(view.scan(b"key", b"", None))), 300)
        view.close()
        expected = {b"key": {b"0000": b"v" * 10_000, b"later": b"1"}}
        self.assertEqual(contents(backend), expected)
        self.assertEqual(contents(self.crash(backend)), expected)
