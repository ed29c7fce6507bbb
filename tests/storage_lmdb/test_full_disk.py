"""Commits that fail: no space, no address space, a broken disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import lmdb
from twisted.trial.unittest import SkipTest

from etcdtw.errors import StorageError
from etcdtw.storage.backend import lmdb_writer
from etcdtw.storage.backend.lmdb_backend import (
    OVERLAY_BYTES_MAX,
    RETRY_SECONDS,
    LmdbBackend,
    open_backend,
)
from etcdtw.storage.backend.lmdb_environment import create, open_environment
from etcdtw.storage.backend.lmdb_writer import PROBE_SUFFIX, BatchWriter
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.worker import InlineWorker
from etcdtw.testing.backend_conformance import contents
from tests.storage_lmdb.keyspaces import FS, KeyspaceCase

PROJECT = Path(__file__).parent.parent.parent

# Fills a filesystem of 4 MB, frees some of it, and goes on.
ON_A_SMALL_DISK = """
import os, sys
from twisted.internet.task import Clock
from etcdtw.storage.backend.lmdb_backend import LmdbSettings, open_backend
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.worker import InlineWorker

directory = sys.argv[1]
ballast = directory + "/ballast"
with open(ballast, "wb") as file:
    file.write(bytes(2 << 20))
clock = Clock()
settings = LmdbSettings(directory + "/kv.lmdb")
backend = open_backend(OsFilesystem(), settings, clock, InlineWorker())
full, fatal = [], []
backend.on_no_space.append(lambda: full.append(backend.durable_index()))
backend.on_fatal.append(fatal.append)
for index in range(1, 41):
    backend.put(b"key", b"%04d" % index, bytes(100_000))
    backend.end_entry(index, 1)
    backend.commit()
    if full and index == 30:
        break
assert not fatal, fatal
assert full and backend.durable_index() < 30, (full, backend.durable_index())
assert len(list(backend.scan(b"key", b"", None))) == 30
os.remove(ballast)
for number in range(20):
    backend.delete(b"key", b"%04d" % (number + 1))
backend.end_entry(31, 1)
clock.advance(2)
print("after the ballast went:", backend.durable_index(), backend.no_space, fatal)
assert not fatal, fatal
backend.close()
backend = open_backend(OsFilesystem(), settings, clock, InlineWorker())
print("records", len(list(backend.scan(b"key", b"", None))), backend.consistent_index()[0])
"""


def ambiguous_error() -> lmdb.Error:
    """Of a disk that is broken, or full. The code is the error's own, as in the binding."""
    error = lmdb.Error("mdb_txn_commit: Input/output error")
    vars(error)["code"] = errno.EIO
    return error


class _FailingFilesystem(OsFilesystem):
    """One renaming, or sync of a directory, fails."""

    def __init__(self) -> None:
        super().__init__(sync=False)
        self.failing = 0

    def _try(self, path: str) -> None:
        self.failing -= 1
        if self.failing == 0:
            raise OSError(errno.EIO, "Input/output error", path)

    def rename(self, old: str, new: str) -> None:
        self._try(old)
        super().rename(old, new)

    def sync_dir(self, path: str) -> None:
        self._try(path)


class _FailingWriter(BatchWriter):
    """A disk that fails commits with an error of the test's choice."""

    error: lmdb.Error | None = None
    fails_left = 1 << 30

    def commit(self, txn: lmdb.Transaction[bytes]) -> None:
        if self.error is not None and self.fails_left:
            self.fails_left -= 1
            txn.abort()
            raise self.error
        super().commit(txn)


class FailingCommitTests(KeyspaceCase):
    """What each failure means."""

    def open_failing(self) -> tuple[LmdbBackend, _FailingWriter, list[object]]:
        """A backend, its writer, and what it tells."""
        writers: list[_FailingWriter] = []

        def make_writer(env: lmdb.Environment, path: str) -> BatchWriter:
            writers.append(_FailingWriter(env, path))
            return writers[0]

        backend = self.open_with(make_writer)
        told: list[object] = []
        backend.on_no_space.append(lambda: told.append("no space"))
        backend.on_fatal.append(told.append)
        backend.on_durable.append(told.append)
        return backend, writers[0], told

    def test_no_space_loses_nothing(self) -> None:
        """A full disk is told at every try; reads go on; once there is space all is committed."""
        backend, writer, told = self.open_failing()
        writer.error = lmdb.DiskError("mdb_txn_commit", errno.ENOSPC)
        backend.put(b"key", b"a", b"1")
        backend.end_entry(1, 1)
        backend.commit()
        backend.put(b"key", b"b", b"2")
        backend.end_entry(2, 1)
        backend.commit()
        self.assertEqual((told, backend.no_space), (["no space"], True))
        self.assertEqual(contents(backend), {b"key": {b"a": b"1", b"b": b"2"}})
        self.clock.advance(RETRY_SECONDS)
        self.assertEqual(told, ["no space"] * 2)
        refused: list[Exception] = []
        backend.defragment(lambda: self.fail("no space for a copy"), refused.append)
        self.assertIn("no space left", str(refused[0]))
        writer.error = None
        self.clock.advance(RETRY_SECONDS)
        self.assertEqual(told, ["no space"] * 2 + [1, 2])
        self.assertFalse(backend.no_space)
        self.assertEqual(contents(backend), {b"key": {b"a": b"1", b"b": b"2"}})
        backend.close()
        self.assertEqual(self.open(backend.settings).consistent_index(), (2, 1))

    def test_too_much_waits_for_space(self) -> None:
        """An overlay that outgrows its bound on a full disk ends the member, with a sentence."""
        backend, writer, told = self.open_failing()
        writer.error = lmdb.DiskError("mdb_txn_commit", errno.ENOSPC)
        value = bytes(8 << 20)
        for index in range(1, OVERLAY_BYTES_MAX // len(value) + 1):
            backend.put(b"key", b"%d" % index, value)
            backend.end_entry(index, 1)
            self.clock.advance(0)
        errors = [each for each in told if isinstance(each, StorageError)]
        self.assertEqual(len(errors), 1)
        self.assertIn("no space left", str(errors[0]))
        self.assertIn(backend.settings.path, str(errors[0]))
        told.clear()
        self.clock.advance(10)
        backend.end_entry(20, 1)
        self.clock.advance(10)
        self.assertEqual(told, [])

    def test_renaming_fails(self) -> None:
        """A defragmentation that failed before anything was renamed changes nothing; one that
        failed after that ends the backend: what it has open nobody may find again."""
        for failing, ends in enumerate((False, True, True), 1):
            fs = _FailingFilesystem()
            settings = self.new_settings()
            backend = open_backend(fs, settings, self.clock, InlineWorker())
            self.addCleanup(backend.close)
            backend.put(b"key", b"a", b"1")
            backend.end_entry(1, 1)
            backend.commit()
            fatal: list[StorageError] = []
            backend.on_fatal.append(fatal.append)
            refused: list[Exception] = []
            fs.failing = failing
            backend.defragment(lambda: self.fail("it was renamed"), refused.append)
            self.assertLessEqual(fs.failing, 0)
            self.assertEqual((len(refused), len(fatal)), (1, int(ends)))
            backend.put(b"key", b"b", b"2")
            backend.end_entry(2, 1)
            backend.commit()
            durable = backend.durable_index()
            self.assertEqual(durable, 1 if ends else 2)
            backend.close()
            again = self.open(settings)
            self.assertEqual(again.consistent_index()[0], durable)
            again.close()

    def test_an_ambiguous_error_is_looked_into(self) -> None:
        """EIO on a disk that has space is a broken disk, which is fatal."""
        backend, writer, told = self.open_failing()
        writer.error = ambiguous_error()
        backend.end_entry(1, 1)
        backend.commit()
        self.assertEqual(len(told), 1)
        self.assertIsInstance(told[0], StorageError)
        self.assertIn("mdb_txn_commit", str(told[0]))
        self.assertFalse(os.path.exists(backend.settings.path + PROBE_SUFFIX))
        refused: list[Exception] = []
        backend.defragment(lambda: self.fail("after the end"), refused.append)
        self.assertEqual(refused, told)

    def test_room_has_come_since(self) -> None:
        """EIO of a write that came out short, on a disk that has space by the time it is looked
        into: the batch is written after all."""
        backend, writer, told = self.open_failing()
        writer.error = ambiguous_error()
        writer.fails_left = 1
        backend.put(b"key", b"a", b"1")
        backend.end_entry(1, 1)
        backend.commit()
        self.assertEqual(backend.durable_index(), 1)
        self.assertNotIn("no space", told)
        self.assertFalse(any(isinstance(each, Exception) for each in told))
        self.assertEqual(list(backend.scan(b"key", b"", None)), [(b"a", b"1")])

    def test_room_comes_and_goes(self) -> None:
        """What one look at the space found counts, whatever the next would find."""
        for first, no_space in ((True, True), (False, False)):
            backend, writer, told = self.open_failing()
            writer.error = ambiguous_error()
            writer.fails_left = 1
            looks = iter((first, not first))
            self.patch(lmdb_writer, "_lacks_space", lambda *_, looks=looks: next(looks))
            backend.end_entry(1, 1)
            backend.commit()
            self.assertEqual(backend.no_space, no_space)
            self.assertFalse(any(isinstance(each, Exception) for each in told))
            self.clock.advance(RETRY_SECONDS)
            self.assertEqual(backend.durable_index(), 1)

    def test_no_address_space(self) -> None:
        """A file that outgrew its map is fatal, and the sentence says what to change."""
        settings = self.new_settings()
        create(FS, settings.path, settings.map_bytes, sync=False)
        opened = open_environment(settings.path, 1 << 20, sync=False)
        backend = LmdbBackend(FS, settings, opened, self.clock, InlineWorker())
        self.addCleanup(backend.close)
        told: list[StorageError] = []
        backend.on_fatal.append(told.append)
        for number in range(40):
            backend.put(b"key", b"%02d" % number, bytes(50_000))
        backend.end_entry(1, 1)
        backend.commit()
        self.assertEqual(len(told), 1)
        self.assertIn("--quota-backend-bytes", str(told[0]))
        self.assertEqual(backend.durable_index(), 0)

    def test_a_real_full_disk(self) -> None:
        """On a filesystem that is full LMDB's own error is recognised, and space heals it."""
        directory = self.mktemp()
        os.makedirs(directory)
        mounted = f"mount -t tmpfs -o size=4m none '{directory}' && exec \"$@\""
        inside = ["unshare", "-rm", "sh", "-c", mounted, "sh"]
        try:
            subprocess.run([*inside, "true"], check=True, capture_output=True, timeout=10)
        except (OSError, subprocess.CalledProcessError) as problem:
            raise SkipTest(f"no small filesystem can be mounted here: {problem}") from problem
        done = subprocess.run(
            [*inside, sys.executable, "-c", ON_A_SMALL_DISK, directory],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(
            done.stdout, "after the ballast went: 31 False []\nrecords 10 31\n", done.stderr
        )
