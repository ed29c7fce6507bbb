"""Each row of the documents as a test of its own, named after it: ``test_ST22`` and so on.

The rows of a scenario share its start. It is played once, by whichever process needs it first; the
outcome is in a file beside the working directories, so that the processes of ``trial -j`` share it.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestSuite

from tests.documents import servers
from tests.documents.case import Scenario, all_rows, scenarios
from tests.documents.runner import PASSED, SKIPPED, Outcome, play

ROWS = all_rows()


class ScenarioCase(SynchronousTestCase):
    """A scenario, and the server that it is played against."""

    scenario: Scenario
    server = servers.OURS
    played: dict[str, Outcome] | None = None

    def outcomes(self) -> dict[str, Outcome]:
        cls = type(self)
        if cls.played is None:
            kept = _place_of_this_run() / f"documents-{cls.__name__}.json"
            with kept.open("a+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                if said := file.read():
                    found = {row: Outcome(**each) for row, each in json.loads(said).items()}
                else:
                    found = play(self.scenario, self.server, ROWS)
                    json.dump({row: asdict(each) for row, each in found.items()}, file)
            cls.played = found
        return cls.played

    def check(self, row: str) -> None:
        outcome = self.outcomes()[row]
        if outcome.verdict == SKIPPED:
            raise SkipTest(outcome.reason)
        self.assertEqual(outcome.verdict, PASSED, outcome.reason)


def _place_of_this_run() -> Path:
    """trial's directory, which is a new one with every run; workers have theirs below it."""
    here = Path.cwd()
    return here.parent if here.parent.name.startswith("_trial_temp") else here


def _method(row: str) -> str:
    return f"test_{row.replace('-', '_')}"


def _named(row: str) -> Callable[[ScenarioCase], None]:
    def test(case: ScenarioCase) -> None:
        case.check(row)

    test.__name__ = _method(row)
    test.__doc__ = f"{row}: {ROWS[row].what}."
    return test


def _cases() -> list[type[ScenarioCase]]:
    found = []
    for scenario in scenarios():
        for server in (servers.OURS, *([servers.MIXED] if scenario.mixed else [])):
            tests = {_method(row): _named(row) for row in scenario.rows}
            name = f"{scenario.name}{'' if server == servers.OURS else 'Mixed'}Tests"
            about = {
                "__doc__": scenario.about,
                "__module__": __name__,
                "scenario": scenario,
                "server": server,
                # Whoever comes second waits for the first.
                "timeout": 300,
            }
            found.append(type(name, (ScenarioCase,), {**about, **tests}))
    return found


CASES = _cases()
globals().update({each.__name__: each for each in CASES})


def testSuite() -> TestSuite:
    """The first rows of all scenarios come first, so that several processes play different ones
    instead of waiting for each other."""
    firsts, others = TestSuite(), TestSuite()
    for case in CASES:
        names = [_method(row) for row in case.scenario.rows]
        firsts.addTest(case(names[0]))
        others.addTests(map(case, names[1:]))
    return TestSuite([firsts, others])
