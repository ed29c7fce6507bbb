"""Making, opening and refusing files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lmdb

from etcdtw.errors import CorruptError, StorageError
from etcdtw.storage.backend.lmdb_environment import (
    MARKER_BUCKET,
    Marker,
    create,
    map_bytes,
    open_environment,
)
from etcdtw.storage.backend.lmdb_keys import real_record, stored_key, stored_value
from etcdtw.storage.backend.lmdb_view import open_view
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.testing.backend_conformance import contents
from tests.storage_lmdb.keyspaces import FS, KeyspaceCase

PROJECT = Path(__file__).parent.parent.parent
READER = """
import sys
from etcdtw.storage.backend.lmdb_view import open_view

view = open_view(sys.argv[1], 64 << 30, "reader")
print(view.index, view.term, len(list(view.scan(b"key", b"", None))))
view.close()
"""


class _Killed(Exception):
    """The process ended here."""


class _DyingFilesystem(OsFilesystem):
    """Ends the process before one of its calls."""

    def __init__(self, calls: int) -> None:
        super().__init__(sync=False)
        self._calls = calls

    def _call(self) -> None:
        if self._calls == 0:
            raise _Killed
        self._calls -= 1

    def rename(self, old: str, new: str) -> None:
        self._call()
        super().rename(old, new)

    def remove(self, path: str) -> None:
        self._call()
        super().remove(path)

    def sync_dir(self, path: str) -> None:
        self._call()
        super().sync_dir(path)


class CreateTests(KeyspaceCase):
    """Conversion."""

    def test_any_quota(self) -> None:
        """However large a quota is, the keyspace can be opened."""
        path = os.path.abspath(self.mktemp())
        size = map_bytes((1 << 63) - 1)
        create(FS, path, size, sync=False)
        open_environment(path, size, sync=False).env.close()

    def test_records_and_marker(self) -> None:
        """A file made from records has them, the position in ``meta``, and the source."""
        settings = self.new_settings()
        long_name = b"u" * 900
        records = [(b"%05d" % number, b"%d" % number) for number in range(1000)]
        create(
            FS,
            settings.path,
            settings.map_bytes,
            source=b"fingerprint",
            buckets=[
                (b"key", iter(records)),
                (b"alarm", [(b"b", b""), (b"a", b"")]),
                (b"authUsers", [(long_name, b"1")]),
                (
                    b"meta",
                    [(b"consistent_index", (7).to_bytes(8, "big")), (b"term", b"\0" * 7 + b"\2")],
                ),
                (b"lease", []),
            ],
        )
        backend = self.open(settings)
        self.assertEqual(backend.marker, Marker(1, b"fingerprint"))
        self.assertEqual(backend.consistent_index(), (7, 2))
        self.assertEqual(backend.durable_index(), 7)
        self.assertEqual(backend.buckets(), [b"alarm", b"authUsers", b"key", b"lease", b"meta"])
        self.assertEqual(
            contents(backend),
            {
                b"key": dict(records),
                b"alarm": {b"a": b"", b"b": b""},
                b"authUsers": {long_name: b"1"},
            },
        )

    def test_killed_at_every_step(self) -> None:
        """Wherever making it ends, there is the old file or the new one, and once more works."""

        def endless(calls: int) -> Iterator[tuple[bytes, bytes]]:
            yield b"a", b"new"
            yield b"b", b"left over"
            if not calls:
                raise _Killed

        for calls in range(8):
            settings = self.new_settings()
            create(FS, settings.path, settings.map_bytes, buckets=[(b"key", [(b"a", b"old")])])
            dying = _DyingFilesystem(calls - 1) if calls else FS
            try:
                create(dying, settings.path, settings.map_bytes, buckets=[(b"key", endless(calls))])
            except _Killed:
                ended = False
            else:
                ended = True
            view = open_view(settings.path, settings.map_bytes, "test")
            self.assertIn(view.get(b"key", b"a"), (b"old", b"new"))
            view.close()
            create(FS, settings.path, settings.map_bytes, buckets=[(b"key", [(b"a", b"again")])])
            left = self.open(settings)
            self.assertEqual(contents(left), {b"key": {b"a": b"again"}})
            left.close()
            self.assertEqual(
                sorted(os.listdir(os.path.dirname(settings.path))), ["kv.lmdb", "kv.lmdb-lock"]
            )
        self.assertTrue(ended, "the last round was not cut short")

    def test_leftovers_are_removed_at_open(self) -> None:
        """What an interrupted conversion or defragmentation left goes away at the next start."""
        settings = self.new_settings()
        for suffix in (".tmp", ".tmp-lock"):
            with open(settings.path + suffix, "wb") as file:
                file.write(b"half")
        self.open(settings)
        self.assertEqual(
            sorted(os.listdir(os.path.dirname(settings.path))), ["kv.lmdb", "kv.lmdb-lock"]
        )

    def test_mode(self) -> None:
        """Nobody but the owner reads the keyspace."""
        settings = self.new_settings()
        self.open(settings)
        self.assertEqual(os.stat(settings.path).st_mode & 0o777, 0o600)


class OpenTests(KeyspaceCase):
    """Who gets in; refusals say what is wrong with which file."""

    def test_another_process_reads(self) -> None:
        """Another process opens a view beside the member, after a defragmentation too."""
        backend = self.open()
        backend.put(b"key", b"a", b"1")
        backend.end_entry(1, 1)
        backend.commit()
        for index in (2, 3):
            backend.defragment(lambda: None, self.fail)
            backend.put(b"key", b"%d" % index, b"1")
            backend.end_entry(index, 1)
            backend.commit()
            reader = subprocess.run(
                [sys.executable, "-c", READER, backend.settings.path],
                capture_output=True,
                text=True,
                check=False,
                timeout=20,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
            )
            self.assertEqual(reader.stdout, f"{index} 1 {index}\n", reader.stderr)

    def test_lock_file_follows(self) -> None:
        """After a defragmentation the lock file beside the file is the one in use, so that other
        processes' readers are known."""
        backend = self.open()
        before = os.stat(backend.settings.path + "-lock").st_ino
        backend.defragment(lambda: None, self.fail)
        names = os.listdir(os.path.dirname(backend.settings.path))
        self.assertEqual(sorted(names), ["kv.lmdb", "kv.lmdb-lock"])
        self.assertNotEqual(os.stat(backend.settings.path + "-lock").st_ino, before)

    def test_not_ours(self) -> None:
        """An LMDB file without our marker is refused."""
        settings = self.new_settings()
        lmdb.open(settings.path, subdir=False, max_dbs=2).close()
        with self.assertRaisesRegex(StorageError, "not a keyspace"):
            self.open(settings)

    def test_another_format(self) -> None:
        """A file of a later format is refused, naming both numbers."""
        settings = self.new_settings()
        create(FS, settings.path, settings.map_bytes)
        with lmdb.open(settings.path, subdir=False, max_dbs=2) as env:
            database = env.open_db(MARKER_BUCKET)
            with env.begin(write=True) as txn:
                txn.put(b"format", b"\0\0\0\7", db=database)
        with self.assertRaisesRegex(StorageError, "format 7, this build reads 1"):
            self.open(settings)

    def test_not_lmdb(self) -> None:
        """Any other file is refused with its path."""
        settings = self.new_settings()
        with open(settings.path, "wb") as file:
            file.write(b"x" * 10_000)
        with self.assertRaisesRegex(StorageError, settings.path):
            self.open(settings)

    def test_damaged(self) -> None:
        """A file whose pages are overwritten is corrupt, not a traceback."""
        settings = self.new_settings()
        create(FS, settings.path, settings.map_bytes)
        with open(settings.path, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(2 * 4096)
            file.write(b"\xff" * (size - 2 * 4096))
        with self.assertRaises(CorruptError):
            self.open(settings)

    def test_cut_short(self) -> None:
        """A file that lacks pages is corrupt, and does not end the process that reads it; one that
        lacks none that count is whole."""
        settings = self.new_settings()
        records = [(b"%d" % number, bytes(3000)) for number in range(100)]
        create(FS, settings.path, settings.map_bytes, buckets=[(b"key", records)])
        size = os.path.getsize(settings.path)
        env = open_environment(settings.path, settings.map_bytes).env
        with env.begin(write=True) as txn:
            database = env.open_db(b"late", txn=txn)
            txn.put(b"large", bytes(50_000), db=database)
            txn.delete(b"large", db=database)
        last = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        env.close()
        self.assertLess(os.path.getsize(settings.path), last)
        self.open(settings).close()
        os.truncate(settings.path, size // 2)
        with self.assertRaisesRegex(CorruptError, "was cut short"):
            self.open(settings)

    def test_twice(self) -> None:
        """One file is open once in a process."""
        settings = self.new_settings()
        self.open(settings)
        with self.assertRaisesRegex(StorageError, "already open"):
            open_environment(settings.path, settings.map_bytes)

    def test_map(self) -> None:
        """The map is ten quotas, and never below 64 GiB."""
        self.assertEqual(map_bytes(2 << 30), 64 << 30)
        self.assertEqual(map_bytes(100 << 30), 1000 << 30)


class LongNameTests(KeyspaceCase):
    """The digest rule."""

    def test_limits(self) -> None:
        """Up to 500 bytes a name is its key; longer ones have keys of 511 bytes, all different."""
        for length in (1, 500):
            name = b"n" * length
            self.assertEqual((stored_key(name), stored_value(name, b"v")), (name, b"v"))
        keys = set()
        for length in (501, 511, 512, 5000):
            name = b"n" * length
            key = stored_key(name)
            keys.add(key)
            self.assertEqual(len(key), 511)
            self.assertEqual(real_record(key, stored_value(name, b"v")), (name, b"v"))
        self.assertEqual(len(keys), 4)
