"""The guide's page about members in programs: its test passes as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "guide" / "embedding.md"
SECONDS_MAX = 60.0


class PageTests(SynchronousTestCase):
    def test_page(self) -> None:
        """Both files of the page, run by trial, which fails for what is left on the reactor."""
        files = re.findall(
            r"^`(\w+\.py)`:\n\n```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S
        )
        self.assertEqual([name for name, _ in files], ["embedded.py", "test_embedded.py"])
        directory = Path(self.mktemp())
        directory.mkdir()
        for name, text in files:
            (directory / name).write_text(text, encoding="utf-8")
        ended = subprocess.run(
            [sys.executable, "-m", "twisted.trial", "test_embedded"],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
        self.assertIn("PASSED (successes=1)", ended.stdout)
