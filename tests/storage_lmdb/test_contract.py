"""Points of the backend's contract (docs/design/0005-lmdb.md) that no other test names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

from twisted.internet.task import Clock

from etcdtw.api.v3.maintenance import MaintenanceService
from etcdtw.app.parts import check_keyspace, check_version, found_log, keyspace_settings
from etcdtw.bootstrap.static import static_plan
from etcdtw.errors import StorageError
from etcdtw.pb.rpc_pb2 import HashRequest, HashResponse, SnapshotRequest
from etcdtw.raft.messages import Snapshot
from etcdtw.replica.slices import Slices
from etcdtw.storage.backend.lmdb_backend import LmdbBackend, open_backend
from etcdtw.storage.backend.lmdb_environment import create, open_environment
from etcdtw.testing.disk import SimDisk
from tests.api_v3.fakes import FakeStream, FakeUnary
from tests.app.simulated_member import SETTINGS
from tests.storage_lmdb.keyspaces import FS, HeldWorker, KeyspaceCase


class _Slices:
    def run(
        self,
        step: Callable[[], bool],
        done: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        while not step():
            pass
        done()


class _Exports:
    def __init__(self) -> None:
        self.started = 0

    def start(self, done: object, failed: object) -> None:
        self.started += 1


class _Header:
    def encode(self, revision: int) -> bytes:
        return b""


def _maintenance(backend: LmdbBackend, slices: object, exports: _Exports) -> MaintenanceService:
    return MaintenanceService(
        None,  # type: ignore[arg-type]
        type("Revision", (), {"revision": 1}),  # type: ignore[arg-type]
        backend,
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        slices,  # type: ignore[arg-type]
        exports,
        _Header(),  # type: ignore[arg-type]
        Clock(),
    )


class ContractTests(KeyspaceCase):
    def test_what_is_sent_is_not_behind(self) -> None:
        """Point 3: a hash and a snapshot of all buckets wait until what was applied when they were
        asked for is on disk."""
        worker, exports = HeldWorker(), _Exports()
        backend = self.open(worker=worker)
        service = _maintenance(backend, _Slices(), exports)
        hashes = []
        for number in (1, 2):
            backend.put(b"key", b"%d" % number, b"v")
            backend.end_entry(number, 1)
            call, stream = FakeUnary(), FakeStream()
            service.hash(call, HashRequest().SerializeToString())
            service.snapshot(stream)  # type: ignore[arg-type]
            assert stream.on_message is not None
            stream.on_message(SnapshotRequest().SerializeToString())
            self.assertEqual((call.answer, exports.started), (None, number - 1))
            worker.finish()
            assert isinstance(call.answer, bytes)
            hashes.append(HashResponse.FromString(call.answer).hash)
            self.assertEqual(exports.started, number)
        self.assertNotEqual(hashes[0], hashes[1])

    def test_many_hashes(self) -> None:
        """However many ask for a hash, readers are left for the backend itself, and each gets the
        one of when his turn came."""
        backend = self.open()
        slices = Slices(self.clock)
        service = _maintenance(backend, slices, _Exports())
        calls = [FakeUnary() for _ in range(200)]
        for call in calls:
            service.hash(call, HashRequest().SerializeToString())
        backend.put(b"key", b"1", b"v")
        backend.end_entry(1, 1)
        backend.wait_durable(1, lambda: None)
        self.assertEqual(backend.durable_index(), 1)
        self.clock.pump([1.0] * 10)
        self.assertEqual(len({call.answer for call in calls}), 1)
        self.assertIsNotNone(calls[0].answer)
        self.assertEqual(backend.open_views, 0)

    def test_syncs_are_on(self) -> None:
        """Point 4: data and meta pages are synced, but for ``--unsafe-no-fsync``."""
        path = self.new_settings().path
        for unsafe in (False, True):
            member = replace(SETTINGS, unsafe_no_fsync=unsafe)
            settings = replace(keyspace_settings(member, path), quota_bytes=1 << 20)
            backend = open_backend(FS, settings, self.clock, HeldWorker())
            flags = backend._env.flags()
            backend.close()
            self.assertEqual((flags["sync"], flags["metasync"]), (not unsafe, not unsafe))

    def test_a_later_cluster(self) -> None:
        """Data of a cluster that has agreed on a later version is refused, as etcd does."""
        for version in (None, "3.4.0", "3.5.0", "none"):
            check_version(version)
        with self.assertRaisesRegex(StorageError, "invalid downgrade.*3.6.0"):
            check_version("3.6.0")

    def test_a_keyspace_behind_the_snapshot(self) -> None:
        """Point 5: it is refused as etcd does, and so is one ahead of the log."""
        opened = found_log(SimDisk(), "/data/member/wal", static_plan(SETTINGS.bootstrap()))
        check_keyspace(1, opened)
        with self.assertRaisesRegex(StorageError, "index 2, the log ends at 1"):
            check_keyspace(2, opened)
        check_keyspace(2, replace(opened, received_index=2))
        later = replace(opened, snapshot=Snapshot(index=1, term=1))
        with self.assertRaisesRegex(StorageError, "snap: snapshot file doesn't exist"):
            check_keyspace(0, later)

    def test_readers_that_died_are_forgotten(self) -> None:
        """Point 6: a reader killed in its transaction would keep pages from being reused; the next
        open frees its slot."""
        settings = self.new_settings()
        create(FS, settings.path, settings.map_bytes, sync=False)
        ready, write = os.pipe()
        child = os.fork()
        if not child:
            env = open_environment(settings.path, settings.map_bytes, readonly=True).env
            txn = env.begin()
            os.write(write, b"1")
            signal.pause()
            txn.abort()
        os.read(ready, 1)
        for each in (ready, write):
            os.close(each)
        held = open_environment(settings.path, settings.map_bytes, sync=False).env
        self.assertIn(str(child), held.readers())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        held.close()
        env = open_environment(settings.path, settings.map_bytes, sync=False).env
        self.addCleanup(env.close)
        self.assertNotIn(str(child), env.readers())

    def test_readers_that_died_meanwhile(self) -> None:
        """So do commits: an export that was killed does not let the file grow until the next
        start."""
        backend = self.open()

        def write(index: int) -> int:
            for number in range(100):
                backend.put(b"key", b"%04d" % number, bytes((index,)) * 1000)
            backend.end_entry(index, 1)
            backend.commit()
            return backend.size()

        write(1)
        code = (
            "import sys, time\nfrom etcdtw.storage.backend.lmdb_view import open_view\n"
            "view = open_view(sys.argv[1], 1 << 30, 'test')\nprint(flush=True)\ntime.sleep(60)"
        )
        command = [sys.executable, "-c", code, backend.settings.path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
            assert child.stdout is not None
            child.stdout.readline()
            child.kill()
        before = [write(index) for index in range(2, 6)][-1]
        self.assertEqual([write(index) for index in range(6, 20)][-1], before)
