"""A short form of ``python -m tests.process.mixes``, which runs all mixes for long."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.process.mixes import replace_all, run_mix

WRITES = 300
PAUSE_SECONDS = 0.03


class MixesTests(SynchronousTestCase):
    timeout = 240

    def test_killed_one_by_one(self) -> None:
        """ST23, FA1, FA2: members of both kinds are killed one after the other under load: nothing
        acknowledged is lost, all are equal, and every client's history makes sense."""
        run_mix(("ours", "ours", "3.5.1"), WRITES, PAUSE_SECONDS)

    def test_rolling_replacement(self) -> None:
        """RC15, RC18: a real cluster becomes one of ours, member by member, under load."""
        replace_all("3.5.1", "ours", WRITES, PAUSE_SECONDS)
