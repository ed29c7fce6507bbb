"""``etcdtw playground``: a whole cluster by one command."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import IO

from twisted.trial.unittest import SynchronousTestCase

from tests.process.cluster import until
from tests.process.foreign import ForeignClient
from tests.process.member import reserved, server_under_test

STEP = 10_000
OFFSETS = [place * STEP + each for place in range(3) for each in (0, 1)]


class PlaygroundTests(SynchronousTestCase):
    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="playground-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.out = self.directory / "out"
        self.port = next(
            port
            for port in random.sample(range(11_000, 11_990), 900)
            if all(reserved.take(port + more) for more in OFFSETS)
        )

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        output: IO[bytes]
        with open(self.out, "wb") as output:
            process = subprocess.Popen(
                [*server_under_test(), "playground", *words],
                cwd=self.directory,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.terminate()
        process.wait(30)

    def said(self) -> str:
        return self.out.read_text()

    def test_comes_and_goes(self) -> None:
        """It says when it is up and where; what was written is there the next time; it stops on
        Ctrl-C, and with it all members."""
        for turn in range(2):
            process = self.start("--port", str(self.port))
            until(lambda: "A cluster of 3 members is up" in self.said(), "it is up")
            pids = [int(each) for each in re.findall(r"pid (\d+)", self.said())]
            self.assertEqual(len(pids), 3)
            for place in range(3):
                endpoint = f"127.0.0.1:{self.port + STEP * place}"
                with closing(ForeignClient(endpoint)) as client:
                    self.assertEqual(len(client.members()), 3)
                    self.assertEqual(client.call("KV.Range", key=b"k").count, turn)
            with closing(ForeignClient(f"127.0.0.1:{self.port}")) as client:
                client.call("KV.Put", key=b"k", value=b"v")
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(30), 0, self.said())
            for pid in pids:
                self.assertFalse(Path(f"/proc/{pid}").exists())

    def test_member_that_fails(self) -> None:
        """A member that cannot start is named, with the reason."""
        process = self.start("--size", "1", "--port", str(self.port), "--", "--no-such-flag")
        self.assertEqual(process.wait(60), 1)
        self.assertIn("infra0 has ended: exit code", self.said())
        self.assertIn("no-such-flag", self.said())

    def test_no_directory(self) -> None:
        """A directory that cannot be made is told of in a sentence."""
        process = self.start("--dir", str(self.out))
        self.assertEqual(process.wait(60), 1)
        self.assertEqual(self.said(), f"Error: open {self.out}: file exists\n")

    def test_too_many(self) -> None:
        """More members than there are ports are refused at once."""
        process = self.start("--size", "9")
        self.assertEqual(process.wait(60), 2)
        self.assertIn("do not fit", self.said())
