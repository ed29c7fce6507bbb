"""Design notes name only tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PROJECT = Path(__file__).parent.parent.parent


class DesignTests(SynchronousTestCase):
    def test_named_tests_exist(self) -> None:
        """Each `test_…` behind a file name in a design note is defined in that file."""
        missing = []
        named = 0
        for note in sorted(PROJECT.glob("docs/design/*.md")):
            for cell in re.split(r"[|;\n]", note.read_text(encoding="utf-8")):
                found = re.findall(r"`([^`]+)`", cell)
                files = [each for each in found if each.endswith(".py") and "/" in each]
                tests = [each for each in found if re.fullmatch(r"test_\w+", each)]
                if not files or not tests:
                    continue
                folders = (PROJECT / "tests", PROJECT / "etcdtw")
                paths = [folder / files[0] for folder in folders]
                text = "".join(path.read_text(encoding="utf-8") for path in paths if path.exists())
                named += len(tests)
                missing += [f"{files[0]}: {each}" for each in tests if f"def {each}(" not in text]
        self.assertEqual(missing, [])
        self.assertGreater(named, 20)
