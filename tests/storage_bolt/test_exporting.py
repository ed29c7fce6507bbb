"""A keyspace in use is exported by a child process."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from etcdtw.errors import StorageError
from etcdtw.storage import filesystem
from etcdtw.storage.bolt import BoltFile
from etcdtw.storage.bolt import exporting as exporting_module
from etcdtw.storage.bolt.export import export_keyspace
from etcdtw.storage.bolt.exporting import Exported, Exports
from etcdtw.storage.worker import InlineWorker
from tests.storage_lmdb.keyspaces import KeyspaceCase


class ExportTests(KeyspaceCase):
    def setUp(self) -> None:
        super().setUp()
        self.backend = self.open()
        for number in range(5000):
            self.backend.put(b"key", number.to_bytes(8, "big"), b"v" * 500)
        self.backend.put(b"authUsers", b"u" * 700, b"long")
        self.backend.end_entry(7, 3)
        self.backend.commit()
        self.path = self.backend.settings.path
        self.scratch = os.path.join(os.path.dirname(self.path), "db.tmp.snapshot")
        self.done: list[Exported] = []
        self.failed: list[BaseException] = []

    def exports(self, stall_seconds: float = 60.0) -> Exports:
        return Exports(self.path, self.scratch, InlineWorker, stall_seconds)

    def start(self, exports: Exports) -> None:
        exports.start(self.done.append, self.failed.append)

    def pretend(self, program: str) -> None:
        """Let another program be the child."""
        path = os.path.abspath(self.mktemp())
        Path(path).write_text(f"#!{sys.executable}\nimport os, sys, time\n{program}")
        os.chmod(path, 0o700)

        class Substitute:
            executable = path

            def __getattr__(self, name: str) -> object:
                return getattr(sys, name)

        self.patch(exporting_module, "sys", Substitute())

    def test_export(self) -> None:
        """The file has every durable record, consistent index and term among them, its digest is
        right, and it has no name any more."""
        self.start(self.exports())
        self.assertEqual(self.failed, [])
        (exported,) = self.done
        content = os.pread(exported.fd, exported.size + 1, 0)
        exported.close()
        self.assertEqual((len(content), sha256(content).digest()), (exported.size, exported.digest))
        self.assertFalse(os.path.exists(self.scratch))
        copy = self.scratch + ".copy"
        Path(copy).write_bytes(content)
        with BoltFile.open(copy) as file:
            self.assertEqual(len(list(file.scan(b"key"))), 5000)
            self.assertEqual(list(file.scan(b"authUsers")), [(b"u" * 700, b"long")])
            # Also those without a record: members of etcd that are sent the file end where one
            # is missing, at the next request that looks into it.
            self.assertEqual(
                sorted(file.buckets()),
                [
                    *(b"alarm", b"auth", b"authRoles", b"authUsers", b"cluster", b"key"),
                    *(b"lease", b"members", b"members_removed", b"meta"),
                ],
            )
            self.assertEqual(list(file.scan(b"authRoles")), [])
            meta = dict(file.scan(b"meta"))
        self.assertEqual(int.from_bytes(meta[b"consistent_index"], "big"), 7)
        self.assertEqual(int.from_bytes(meta[b"term"], "big"), 3)

    def test_without_a_digest(self) -> None:
        """A member that sends its state to another needs none, and is not kept waiting for it."""
        exports = self.exports()
        exports.start(self.done.append, self.failed.append, with_digest=False)
        self.assertEqual(self.failed, [])
        (exported,) = self.done
        self.assertEqual(exported.digest, b"")
        self.assertEqual(os.fstat(exported.fd).st_size, exported.size)
        exported.close()

    def test_many_connections(self) -> None:
        """However many connections a member has, it can be asked for a snapshot."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1024)]
        try:
            self.start(self.exports())
        finally:
            for fd in opened:
                os.close(fd)
        self.assertEqual(self.failed, [])
        self.done.pop().close()

    def test_freed_in_pieces(self) -> None:
        """Who has a file closes it, and its space is freed a little at a time; until then the disk
        counts as busy, as it does while the child is at work."""
        self.patch(filesystem, "SHRINK_BYTES", 1 << 16)
        self.patch(filesystem, "SHRINK_PAUSE_SECONDS", 0.0)
        sizes: list[int] = []
        truncate = os.ftruncate

        def noting(fd: int, size: int) -> None:
            sizes.append(size)
            truncate(fd, size)

        self.patch(os, "ftruncate", noting)
        exports = self.exports()
        self.assertFalse(exports.disk_is_busy)
        self.start(exports)
        (exported,) = self.done
        self.assertTrue(exports.disk_is_busy)
        exported.close()
        steps = [before - after for before, after in pairwise([exported.size, *sizes])]
        self.assertEqual(set(steps), {1 << 16})
        self.assertLessEqual(sizes[-1], 1 << 16)
        self.assertRaises(OSError, os.fstat, exported.fd)
        self.assertFalse(exports.disk_is_busy)

    def test_failing_child(self) -> None:
        """An error of the child is told, a child that dies without a word too; nothing is left."""
        os.rename(self.path, self.path + ".gone")
        self.start(self.exports())
        self.assertIn("kv.lmdb", str(self.failed.pop()))
        self.pretend("open(sys.argv[-1], 'w').close(); os._exit(3)")
        self.start(self.exports())
        self.assertIn("exit code 3", str(self.failed.pop()))
        self.assertFalse(os.path.exists(self.scratch))
        os.rename(self.path + ".gone", self.path)

    def test_stalled_child(self) -> None:
        """A child that makes no progress is ended."""
        self.pretend("open(sys.argv[-1], 'w').close(); print(1, flush=True); time.sleep(60)")
        begin = time.monotonic()
        self.start(self.exports(stall_seconds=0.3))
        self.assertIn("no progress for 0.3 s", str(self.failed.pop()))
        self.assertLess(time.monotonic() - begin, 20)
        self.assertFalse(os.path.exists(self.scratch))

    def test_stop(self) -> None:
        """Stopping ends a child under way, and no other is started."""
        self.pretend("print(1, flush=True); time.sleep(60)")
        exports = self.exports()
        thread = threading.Thread(target=self.start, args=(exports,))
        thread.start()
        while exports._child is None:
            time.sleep(0.01)
        exports.stop()
        thread.join(20)
        self.assertFalse(thread.is_alive())
        self.assertEqual(type(self.failed.pop()), StorageError)

    def test_orphan(self) -> None:
        """A child whose parent has gone gives up."""
        self.backend.close()  # a process opens a file once
        with self.assertRaisesRegex(StorageError, "has ended"):
            export_keyspace(self.path, self.scratch, parent=1)
        os.remove(self.scratch)
