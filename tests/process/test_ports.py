"""Ports that tests choose before they use them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.process.member import free_ports, reserved


class PortTests(SynchronousTestCase):
    def test_chosen_once(self) -> None:
        """What one process has chosen, bound or not, neither it nor another chooses again."""
        chosen = free_ports(3)
        code = f"from tests.process.member import reserved; print(reserved.take({chosen[0]}))"
        root = str(Path(__file__).parents[2])
        said = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=root)
        self.assertEqual(said.strip(), "False")
        self.assertFalse(reserved.take(chosen[0]))
        self.assertEqual(len(set(chosen)), 3)
