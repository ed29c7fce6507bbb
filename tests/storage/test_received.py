"""What a start makes of databases that came from other members."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import StorageError
from etcdtw.storage import received
from etcdtw.storage.backend.lmdb_backend import LmdbSettings
from etcdtw.storage.backend.lmdb_environment import CONSISTENT_INDEX, META, create
from etcdtw.storage.backend.lmdb_view import open_view
from etcdtw.storage.bolt.writer import write_bolt
from etcdtw.storage.filesystem import OsFilesystem, give_back
from etcdtw.storage.interfaces import IFile
from etcdtw.storage.received import Conversion, database_name, install


class InstallTests(SynchronousTestCase):
    def test_left_behind(self) -> None:
        """A database that the log knows nothing of goes once the log is past it."""
        directory = self.mktemp()
        os.mkdir(directory)
        for index in (5, 11):
            with open(os.path.join(directory, database_name(index)), "xb"):
                pass
        settings = LmdbSettings(os.path.join(directory, "kv.lmdb"))
        self.assertFalse(install(OsFilesystem(sync=False), settings, directory, 9, []))
        self.assertEqual(os.listdir(directory), [database_name(11)])

    def test_unwanted(self) -> None:
        """What is replaced has lost its name when this returns; its space is for somebody else to
        free, since the member may be serving."""
        directory = os.path.abspath(self.mktemp())
        os.mkdir(directory)
        settings = LmdbSettings(os.path.join(directory, "kv.lmdb"))
        create(OsFilesystem(sync=False), settings.path, settings.map_bytes, sync=False)
        database = os.path.join(directory, database_name(9))
        meta = [(CONSISTENT_INDEX, (9).to_bytes(8, "big"))]
        write_bolt(database, [META], lambda bucket: iter(meta), sync=False)
        sizes = [os.path.getsize(each) for each in (settings.path, database)]
        unwanted: list[IFile] = []
        self.assertTrue(install(OsFilesystem(sync=False), settings, directory, 9, unwanted))
        self.assertEqual([each.size() for each in unwanted], sizes)
        self.assertEqual(sorted(os.listdir(directory)), ["kv.lmdb", "received"])
        give_back(unwanted)
        with self.assertRaises(OSError):
            unwanted[0].size()


class ConversionTests(SynchronousTestCase):
    """A child makes a keyspace of a database."""

    def setUp(self) -> None:
        self.directory = Path(os.path.abspath(self.mktemp()))
        self.directory.mkdir()
        self.database = str(self.directory / "db")
        self.keyspace = str(self.directory / "kv.lmdb")
        write_bolt(self.database, [b"key"], lambda bucket: iter([(b"a", b"1")]), sync=False)

    def pretend(self, program: str) -> None:
        """Let another program be the child."""
        path = self.directory / "child"
        path.write_text(f"#!{sys.executable}\nimport sys, time\n{program}")
        path.chmod(0o700)

        class Substitute:
            executable = str(path)

            def __getattr__(self, name: str) -> object:
                return getattr(sys, name)

        self.patch(received, "sys", Substitute())

    def test_converted(self) -> None:
        """The keyspace has what the database has; what is no database is refused."""
        conversion = Conversion()
        conversion.run(self.database, self.keyspace)
        view = open_view(self.keyspace, 1 << 30, "test")
        self.assertEqual(list(view.scan(b"key", b"", None)), [(b"a", b"1")])
        view.close()
        with open(self.database, "wb") as file:
            file.write(b"x" * 5000)
        with self.assertRaisesRegex(StorageError, "cannot be taken over: .* not a whole bbolt"):
            conversion.run(self.database, self.keyspace)

    def test_too_slow(self) -> None:
        """A child that takes too long is ended."""
        self.pretend("time.sleep(60)")
        self.patch(received, "CONVERT_SECONDS", 0.1)
        with self.assertRaisesRegex(StorageError, "not done after 0.1 s"):
            Conversion().run(self.database, self.keyspace)

    def test_stopped(self) -> None:
        """A child under way is ended at once, and no other begins."""
        begun = self.directory / "begun"
        self.pretend(f"open({str(begun)!r}, 'w').close()\ntime.sleep(60)")
        conversion = Conversion()
        errors: list[BaseException] = []

        def run() -> None:
            try:
                conversion.run(self.database, self.keyspace)
            except StorageError as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        self.wait(begun.exists)
        conversion.stop()
        thread.join(20)
        self.assertFalse(thread.is_alive())
        self.assertEqual(len(errors), 1)
        with self.assertRaisesRegex(StorageError, "is stopping"):
            conversion.run(self.database, self.keyspace)

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            self.assertLess(time.monotonic(), deadline, "the child has not begun")
            time.sleep(0.01)
