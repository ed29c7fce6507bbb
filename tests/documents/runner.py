"""Plays a scenario against a server, and says of each row whether it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from unittest import SkipTest

from tests.documents import servers
from tests.documents.case import Row, Scenario
from tests.documents.expectations import Unmet
from tests.documents.stage import Stage

PASSED, FAILED, SKIPPED, ABSENT = "pass", "fail", "skip", "n/a"


@dataclass(frozen=True)
class Outcome:
    """Of one row: a verdict, and the reason if it is not ``pass``."""

    verdict: str
    reason: str = ""


def play(scenario: Scenario, server: str, catalogue: Mapping[str, Row]) -> dict[str, Outcome]:
    """The outcome of each row of a scenario."""
    absent = {
        row: Outcome(ABSENT, catalogue[row].ours)
        for row in scenario.rows
        if server not in (servers.OURS, servers.MIXED) and catalogue[row].ours
    }
    wanted = [row for row in scenario.rows if row not in absent]
    if not wanted:
        return absent
    try:
        with Stage(scenario, server) as stage:
            found = perform(stage, scenario, server)
    except SkipTest as skip:
        found = dict.fromkeys(wanted, Outcome(SKIPPED, str(skip)))
    return {**found, **absent}


def perform(stage: Stage, scenario: Scenario, server: str) -> dict[str, Outcome]:
    """The first step that fails decides on a row; without any it holds."""
    outcomes: dict[str, Outcome] = {}
    lost = ""
    for step in scenario.steps:
        if step.only and step.only != server:
            continue
        outcome = Outcome(FAILED, lost) if lost else Outcome(PASSED)
        if not lost:
            try:
                stage.act(step)
            except Unmet as unmet:
                outcome = Outcome(FAILED, str(unmet))
                if step.needed:
                    lost = f"not reached: {unmet}"
        for row in step.rows:
            if row not in outcomes or outcomes[row].verdict == PASSED:
                outcomes[row] = outcome
    for row in scenario.rows:
        outcomes.setdefault(row, Outcome(ABSENT, "etcdtw's own"))
    return outcomes
