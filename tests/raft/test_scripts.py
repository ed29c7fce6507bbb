"""Conversation scripts: what a cluster says, turn by turn, against what was written down."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.raft.arithmetic_scripts import ChangeScript, execute_quorum
from tests.raft.datadriven import Directive, Script
from tests.raft.script_cluster import ScriptCluster

OWN = Path(__file__).parent / "scripts"
RECORDED = Path(__file__).parents[3] / "shared" / "vectors" / "raft"


class OwnScripts(SynchronousTestCase):
    def test_own_scripts(self) -> None:
        """Each of our own scripts passes to the letter; ETCDTW_REWRITE=1 writes them anew."""
        paths = sorted(OWN.glob("*.txt"))
        self.assertTrue(paths)
        rewrite = os.environ.get("ETCDTW_REWRITE") == "1"
        run_all(self, paths, lambda: ScriptCluster().execute, rewrite=rewrite)


class RecordedScripts(SynchronousTestCase):
    """Scripts of the etcd-io/raft project, which are not part of this one."""

    def recorded(self, room: str) -> list[Path]:
        folder = RECORDED / room
        if not folder.is_dir():
            raise SkipTest(f"the recorded conversations are not here: {folder}")
        return sorted(folder.glob("*.txt"))

    def test_interaction(self) -> None:
        """Our core leads each recorded conversation to the letter."""
        run_all(self, self.recorded("interaction"), lambda: ScriptCluster().execute)

    def test_quorum(self) -> None:
        """Majorities of indexes and votes come out as recorded."""
        run_all(self, self.recorded("quorum"), lambda: execute_quorum)

    def test_confchange(self) -> None:
        """Configuration changes come out, or are refused, as recorded."""
        run_all(self, self.recorded("confchange"), lambda: ChangeScript().execute)


def run_all(
    case: SynchronousTestCase,
    paths: list[Path],
    new_run: Callable[[], Callable[[Directive], str]],
    *,
    rewrite: bool = False,
) -> None:
    """Run all scripts; the first difference of each is shown."""
    problems = []
    for path in paths:
        problems += Script.read(path).run(new_run(), rewrite=rewrite)[:1]
    if problems:
        case.fail("\n\n".join(problems))
