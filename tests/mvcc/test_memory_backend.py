"""The memory backend passes the suite for backends."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.mvcc.interfaces import IBackend
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.testing.backend_conformance import BackendConformance, DiskBackendConformance


class MemoryBackendTests(BackendConformance, SynchronousTestCase):
    """As it is by default."""

    def make_backend(self) -> IBackend:
        return MemoryBackend()

    def test_nothing_is_durable(self) -> None:
        """It never claims that a restart would find something."""
        backend = MemoryBackend()
        backend.put(b"key", b"a", b"1")
        backend.end_entry(1, 1)
        backend.commit()
        self.assertEqual(backend.durable_index(), 0)

    def test_order_in_any_order(self) -> None:
        """Reads between puts and deletes in any order find the keys of a span in order."""
        numbers = st.integers(0, 30)
        steps = st.one_of(
            st.tuples(st.just("put"), numbers, numbers),
            st.tuples(st.just("delete"), numbers, numbers),
            st.tuples(st.just("scan"), numbers, numbers),
        )

        @settings(max_examples=150, deadline=None, derandomize=True)
        @given(st.lists(steps, min_size=10, max_size=60), st.booleans())
        def check(steps: list[tuple[str, int, int]], ascending: bool) -> None:
            backend = MemoryBackend()
            model: dict[bytes, bytes] = {}
            for place, (step, one, other) in enumerate(steps):
                if step == "scan":
                    start, end = b"%05d" % one, b"%05d" % other
                    found = list(backend.scan(b"key", start, end))
                    self.assertEqual(
                        found, sorted(pair for pair in model.items() if start <= pair[0] < end)
                    )
                elif step == "put":
                    key = b"%05d" % (place if ascending else one)
                    backend.put(b"key", key, b"v")
                    model[key] = b"v"
                else:
                    backend.delete(b"key", b"%05d" % one)
                    model.pop(b"%05d" % one, None)
            self.assertEqual(list(backend.scan(b"key", b"", None)), sorted(model.items()))

        check()

    def test_the_empty_key(self) -> None:
        """The empty key is a key like others, and comes first."""
        backend = MemoryBackend()
        for key in (b"", b"b", b"a"):
            backend.put(b"meta", key, b"v")
        backend.delete(b"meta", b"")
        backend.put(b"meta", b"", b"v")
        self.assertEqual([key for key, _ in backend.scan(b"meta", b"", None)], [b"", b"a", b"b"])


class DurableMemoryBackendTests(DiskBackendConformance, SynchronousTestCase):
    """As the stand-in for a disk."""

    def make_backend(self) -> MemoryBackend:
        return MemoryBackend(durable=True)

    def crash(self, backend: MemoryBackend) -> IBackend:
        backend.crash()
        return backend
