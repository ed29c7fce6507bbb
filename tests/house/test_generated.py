"""The checked-in protobuf modules are what the .proto files say."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.house.source import ROOT


class GeneratedTests(SynchronousTestCase):
    def test_protobuf_modules_are_current(self) -> None:
        """Generating again gives the same files, none missing and none left over."""
        if find_spec("grpc_tools") is None:
            raise SkipTest("grpcio-tools is not installed")
        sources = sorted(p.relative_to(ROOT) for p in (ROOT / "etcdtw/pb").glob("*.proto"))
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "grpc_tools.protoc",
                    "-I.",
                    f"--python_out={folder}",
                    f"--pyi_out={folder}",
                    *map(str, sources),
                ],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            fresh = {p.name: p.read_text() for p in (Path(folder) / "etcdtw/pb").iterdir()}
        checked_in = {
            p.name: p.read_text()
            for p in (ROOT / "etcdtw/pb").iterdir()
            if p.name.endswith(("_pb2.py", "_pb2.pyi"))
        }
        self.assertEqual(sorted(fresh), sorted(checked_in))
        stale = [name for name in fresh if fresh[name] != checked_in[name]]
        self.assertEqual(stale, [], "`make pb` brings these up to date")
