"""A process that is killed while it writes its keyspace."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from etcdtw.storage.backend.lmdb_backend import LmdbBackend
from tests.storage_lmdb.keyspaces import KeyspaceCase

PROJECT = Path(__file__).parent.parent.parent
ROUNDS = 8
PATIENCE_SECONDS = 20.0

# Goes on from what it finds: entry i writes key i, counts in ``meta``, and removes key i - 50.
# Some entries come with a compaction's deletion between them; some commits are defragmentations.
WRITER = """
import sys
from twisted.internet import reactor
from etcdtw.storage.backend.lmdb_backend import LmdbSettings, open_backend
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.worker import ThreadWorker

sys.setswitchinterval(1e-4)
settings = LmdbSettings(sys.argv[1], batch_seconds=0.005, batch_changes=60)
backend = open_backend(OsFilesystem(), settings, reactor, ThreadWorker(reactor))
backend.on_durable.append(lambda index: print(index, flush=True))
print(backend.durable_index(), flush=True)

def turn():
    index = backend.consistent_index()[0]
    for _ in range(7):
        index += 1
        backend.put(b"key", b"%08d" % index, b"v" * (index % 700))
        backend.put(b"meta", b"count", b"%d" % index)
        backend.delete(b"key", b"%08d" % (index - 50))
        backend.end_entry(index, index // 100)
    backend.put(b"lease", b"unfinished", b"%d" % index)
    if index % 1001 < 7:
        backend.defragment(lambda: None, lambda error: None)
    backend.delete(b"lease", b"unfinished")
    reactor.callLater(0, turn)

reactor.callWhenRunning(turn)
reactor.run()
"""


class KilledProcessTests(KeyspaceCase):
    """SIGKILL at an arbitrary moment, on a real filesystem, with real syncs and threads."""

    def test_killed_writer(self) -> None:
        """All that was reported durable is there, and the state is the end of one entry."""
        settings = self.new_settings()
        dice = random.Random(5)
        reported = 0
        for _ in range(ROUNDS):
            said = self.run_and_kill(settings.path, dice.uniform(0.02, 0.3))
            self.assertGreaterEqual(said[0], reported, "a start forgot what was durable")
            reported = said[-1]
            backend = self.open(settings)
            index, _ = backend.consistent_index()
            self.assertGreaterEqual(index, reported)
            self.check_entry(backend, index)
            backend.close()
        self.assertGreater(reported, 1000)

    def run_and_kill(self, path: str, seconds: float) -> list[int]:
        """Let it write so long after its first commit; the indexes that it reported."""
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, path],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        assert writer.stdout is not None
        try:
            lines = [writer.stdout.readline() for _ in range(2)]
            time.sleep(seconds)
        finally:
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read()
            writer.wait(PATIENCE_SECONDS)
            writer.stdout.close()
        lines += [line for line in rest.splitlines(keepends=True) if line[-1] == "\n"]
        return [int(line) for line in lines]

    def check_entry(self, backend: LmdbBackend, index: int) -> None:
        """The contents are what entry ``index`` left."""
        self.assertEqual(backend.consistent_index(), (index, index // 100))
        self.assertEqual(backend.get(b"meta", b"count"), b"%d" % index)
        self.assertEqual(
            list(backend.scan(b"key", b"", None)),
            [
                (b"%08d" % number, b"v" * (number % 700))
                for number in range(max(1, index - 49), index + 1)
            ],
        )
        self.assertEqual(list(backend.scan(b"lease", b"", None)), [])
