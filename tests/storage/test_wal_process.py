"""A process that is killed while it writes its log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import StorageError
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.wal import Wal, WalSnapshot
from tests.storage.wals import entries

PROJECT = Path(__file__).parent.parent.parent
SEGMENT_BYTES = 8192
WRITER = f"""
import sys
from etcdtw.raft.messages import HardState
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.wal import Wal
from tests.storage.wals import entries

wal = Wal.create(OsFilesystem(sync=False), sys.argv[1], b"meta", {SEGMENT_BYTES})
index = 0
while True:
    index += 1
    wal.append(HardState(1, 1, index), entries(index, 1))
    if index % 30 == 0:
        wal.prepare_next_segment()
    if index % 3 == 0:
        wal.sync()
        print(index, flush=True)
"""


class KilledProcessTests(SynchronousTestCase):
    """SIGKILL at an arbitrary moment, on a real filesystem."""

    def test_killed_writer(self) -> None:
        """While it lives nobody else gets in; after its death all that it acknowledged is there."""
        directory = os.path.abspath(self.mktemp())
        command = [sys.executable, "-c", WRITER, directory]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert writer.stdout is not None
        try:
            acknowledged = [int(writer.stdout.readline()) for _ in range(150)]
            with self.assertRaises(StorageError) as refused:
                Wal.open(OsFilesystem(), directory, WalSnapshot(), SEGMENT_BYTES)
            self.assertIn("another process", str(refused.exception))
        finally:
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read()
            writer.wait()
            writer.stdout.close()
        acknowledged += [int(line) for line in rest.splitlines(keepends=True) if line[-1] == "\n"]
        wal, contents = Wal.open(OsFilesystem(), directory, WalSnapshot(), SEGMENT_BYTES)
        self.addCleanup(wal.close)
        self.assertEqual(contents.entries, entries(1, len(contents.entries)))
        self.assertGreaterEqual(len(contents.entries), acknowledged[-1])
        self.assertGreater(len(wal.segment_names), 3)
        self.assertFalse([name for name in os.listdir(directory) if name.endswith(".tmp")])
