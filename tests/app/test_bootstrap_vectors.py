"""Replay of real etcd's refused starts, up to the point where sockets are needed."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.main import read_text
from etcdtw.app.preflight import preflight
from etcdtw.bootstrap.factories import BUILT_IN
from etcdtw.config.load import Loaded, load
from etcdtw.config.problems import ConfigProblems
from tests.app.bootstrap_vectors import EXCLUDED, FILES, Case, cases, labels


def start(case: Case, directory: str) -> ConfigProblems | None:
    """Everything that a start checks before it opens anything."""
    try:
        loaded = load(case.words, case.variables, directory, read_text)
        assert isinstance(loaded, Loaded), "no recorded case asks for a text"
        preflight(loaded, BUILT_IN)
    except ConfigProblems as problems:
        return problems
    return None


class ReplayTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory)
        for name, text in FILES.items():
            with open(os.path.join(self.directory, name), "w", encoding="utf-8") as file:
                file.write(text)

    def test_replay(self) -> None:
        """Every recorded start of a single static member ends with etcd's text and exit code."""
        differences = []
        for case in cases(self.directory):
            problems = start(case, self.directory)
            ours = (None, "") if problems is None else (problems.exit_code, str(problems))
            theirs = (None, "") if case.exit_code is None else (case.exit_code, case.text)
            if ours != theirs:
                differences.append(f"{case.label}:\n  ours   {ours}\n  theirs {theirs}")
        self.assertEqual(differences, [], "\n".join(differences))

    def test_nothing_is_left_behind(self) -> None:
        """A refused start leaves no directory behind."""
        for case in cases(self.directory):
            start(case, self.directory)
        self.assertEqual(sorted(os.listdir(self.directory)), sorted(FILES))

    def test_exclusions_are_needed(self) -> None:
        """Every excluded label exists, and at least 45 cases are replayed."""
        for beginning in EXCLUDED:
            self.assertTrue(any(label.startswith(beginning) for label in labels()), beginning)
        self.assertGreaterEqual(len(cases("/x")), 45)
