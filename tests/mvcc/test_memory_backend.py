"""The memory backend passes the suite for backends."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.mvcc.interfaces import IBackend
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.testing.backend_conformance import BackendConformance, DurableBackendConformance


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


class DurableMemoryBackendTests(DurableBackendConformance, SynchronousTestCase):
    """As the stand-in for a disk."""

    def make_backend(self) -> IBackend:
        return MemoryBackend(durable=True)

    def crash(self, backend: MemoryBackend) -> IBackend:
        backend.crash()
        return backend
