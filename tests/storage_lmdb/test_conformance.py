"""The LMDB backend does what every backend must do."""

from __future__ import annotations

from etcdtw.mvcc.interfaces import IBackend
from etcdtw.storage.backend.lmdb_backend import LmdbBackend
from etcdtw.testing.backend_conformance import DiskBackendConformance
from tests.storage_lmdb.keyspaces import HeldWorker, KeyspaceCase


class InlineConformanceTests(DiskBackendConformance, KeyspaceCase):
    """With commits that are done at once."""

    def make_backend(self) -> LmdbBackend:
        return self.open()

    def crash(self, backend: LmdbBackend) -> IBackend:
        backend.close()
        return self.open(backend.settings)


class HeldConformanceTests(DiskBackendConformance, KeyspaceCase):
    """With commits that stay in flight until somebody waits for them."""

    def make_backend(self) -> LmdbBackend:
        self.worker = HeldWorker()
        return self.open(worker=self.worker)

    def wait_durable(self, backend: IBackend) -> None:
        self.worker.finish()

    def crash(self, backend: LmdbBackend) -> IBackend:
        # A commit under way comes to its end or not; nobody hears of it.
        self.worker.do()
        self.worker.stop()
        backend.close()
        return self.open(backend.settings, self.worker)

    def test_sizes(self) -> None:
        """The sizes follow with the commit that is in flight."""
        backend = self.backend()
        for number in range(100):
            backend.put(b"key", b"%04d" % number, b"v" * 1000)
        backend.end_entry(1, 1)
        backend.commit()
        self.assertLess(backend.size_in_use(), 100_000)
        self.worker.finish()
        self.assertGreaterEqual(backend.size_in_use(), 100_000)
        self.assertGreaterEqual(backend.size(), backend.size_in_use())
