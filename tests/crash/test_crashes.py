"""Nothing acknowledged is lost by a kill at a random operation, and no revision goes backwards."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.mvcc.write_txn import WriteTxn
from etcdtw.raft.messages import Entry
from etcdtw.storage.backend.lmdb_writer import Batch, BatchWriter
from etcdtw.storage.wal import Wal
from tests.crash.campaign import Lost, run

PROJECT = Path(__file__).parent.parent.parent
POINTS = 10_000 if os.environ.get("ETCDTW_HEAVY") else 300
PLANTED_POINTS_MAX = 1000  # the half deletion takes about 100, which each read of the clock moves


class CrashTests(SynchronousTestCase):
    timeout = 1200

    def test_killed_anywhere(self) -> None:
        """In a process of its own, whose memory each child shares."""
        command = [sys.executable, "-m", "tests.crash.campaign", f"--points={POINTS}"]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f'"killed": {POINTS}', done.stdout)

    def test_a_record_held_back_is_noticed(self) -> None:
        """If the log kept the last write of each batch for the next one, something would be
        lost."""
        append = Wal.append
        held: list[Entry] = []

        def late(wal: Wal, state: Any, entries: Iterable[Entry]) -> bool:
            if not entries:
                return append(wal, state, [])
            now, held[:] = [*held, *entries], []
            if len(now) > 1:
                held.append(now.pop())
            return append(wal, state, now)

        self.assert_noticed(mock.patch.object(Wal, "append", late))

    def test_half_a_deletion_is_noticed(self) -> None:
        """If each piece of a deletion that takes several turns became durable by itself, a start
        would find half of it."""
        pause = WriteTxn.pause

        def ends(txn: WriteTxn) -> None:
            pause(txn)
            backend = txn._store.backend
            backend.end_entry(*backend.consistent_index())

        self.assert_noticed(mock.patch.object(WriteTxn, "pause", ends))

    def test_an_index_ahead_is_noticed(self) -> None:
        """If a batch named an entry that it does not hold, that entry would be missing."""
        write = BatchWriter.write

        def ahead(writer: BatchWriter, databases: Any, batch: Batch) -> Any:
            return write(writer, databases, batch._replace(entry_index=batch.entry_index + 1))

        self.assert_noticed(mock.patch.object(BatchWriter, "write", ahead))

    def assert_noticed(self, bug: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="crash-") as directory, bug:
            self.assertRaises(Lost, run, PLANTED_POINTS_MAX, 3, directory)
