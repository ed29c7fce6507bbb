"""What a start makes of databases that came from other members."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.storage.backend.lmdb_backend import LmdbSettings
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.received import database_name, install


class InstallTests(SynchronousTestCase):
    def test_left_behind(self) -> None:
        """A database that the log knows nothing of goes once the log is past it."""
        directory = self.mktemp()
        os.mkdir(directory)
        for index in (5, 11):
            with open(os.path.join(directory, database_name(index)), "xb"):
                pass
        settings = LmdbSettings(os.path.join(directory, "kv.lmdb"))
        self.assertFalse(install(OsFilesystem(sync=False), settings, directory, 9))
        self.assertEqual(os.listdir(directory), [database_name(11)])
