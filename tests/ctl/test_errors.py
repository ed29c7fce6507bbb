"""What ``etcdtw ctl`` says when it cannot."""

from __future__ import annotations

import io
import sys

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.ctl.commands import run


class ErrorTests(SynchronousTestCase):
    def test_no_file(self) -> None:
        """The system's reasons are told as a member tells them, without numbers."""
        stderr = io.StringIO()
        self.patch(sys, "stderr", stderr)
        path = self.mktemp()
        for words in (["snapshot", "status"], ["hashkv"]):
            self.assertEqual(run([*words, path]), 1)
        lines = stderr.getvalue().splitlines()
        self.assertEqual(len(lines), 2)
        for line in lines:
            self.assertRegex(line, f"^Error: open .*{path}: no such file or directory$")
