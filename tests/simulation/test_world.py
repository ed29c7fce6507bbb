"""Worlds with faults keep every promise, and broken members are found out."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.testing.cluster import MemberParts
from etcdtw.testing.cluster_etcd import ETCD_PARTS
from etcdtw.testing.world import Report, WorldSettings, run_world
from tests.simulation.planted import (
    AcksBeforeSync,
    AppliesOutOfOrder,
    ForgetsVote,
    NeverCampaigns,
    ReadsAtOnce,
    RemembersItsOwn,
    ReplaysTwice,
)

SEEDS = range(30)
SHORT = WorldSettings(fault_seconds=8.0)


class WorldTests(SynchronousTestCase):
    """Whole worlds, one seed each."""

    def test_seeds(self) -> None:
        """Thirty worlds with all kinds of faults violate nothing."""
        failed = []
        for seed in SEEDS:
            report = run_world(seed, SHORT)
            if report.violations:
                failed.append(f"{report.violations[0]}\n  show it again: {report.replay_command}")
        self.assertEqual(failed, [], "\n".join(failed))

    def test_seeds_of_etcd(self) -> None:
        """Worlds whose members hold keys, leases and a backend that forgets violate nothing."""
        settings = WorldSettings(fault_seconds=8.0, parts=ETCD_PARTS)
        for seed in range(100, 108):
            report = run_world(seed, settings)
            self.assertEqual(report.violations, [], report.replay_command)

    def test_something_happens(self) -> None:
        """A world has faults, messages that get lost, and requests that succeed all the same."""
        report = run_world(1, SHORT)
        self.assertGreater(sum(report.faults.values()), 3)
        self.assertGreater(report.requests["writes acknowledged"], 50)
        self.assertGreater(report.requests["reads answered"], 10)
        self.assertGreater(report.messages["cut"] + report.messages["dropped"], 0)

    def test_same_in_two_processes(self) -> None:
        """A seed gives the same events in processes that hash differently."""
        code = (
            "from etcdtw.testing.cluster import MemberParts\n"
            "from etcdtw.testing.cluster_etcd import ETCD_PARTS\n"
            "from etcdtw.testing.world import WorldSettings, run_world\n"
            "for parts in (MemberParts(), ETCD_PARTS):\n"
            "    report = run_world(7, WorldSettings(fault_seconds=6.0, parts=parts))\n"
            "    print(report.trace_digest, sorted(report.messages.items()))"
        )
        told = set()
        for hash_seed in ("1", "2"):
            environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
            told.add(subprocess.check_output([sys.executable, "-c", code], env=environment))
        self.assertEqual(len(told), 1, told)


class PlantedBugTests(SynchronousTestCase):
    """A checker that finds nothing in a broken member would find nothing at all."""

    def first_violation(self, settings: WorldSettings, seeds: int) -> Report:
        for seed in range(seeds):
            report = run_world(seed, settings)
            if report.violations:
                return report
        raise self.failureException(f"{seeds} seeds found nothing")

    def test_acknowledges_before_sync(self) -> None:
        """Acknowledging an append before it is durable is found."""
        faults = frozenset(("power cut at answer", "slow disk"))
        parts = MemberParts(durable=AcksBeforeSync)
        report = self.first_violation(WorldSettings(3, faults=faults, parts=parts), 20)
        # What is noticed first depends on who loses the entry, and on whether it had been applied.
        noticed = ("leader completeness", "log matching", "state machine safety", "LogLost")
        self.assertTrue(any(each in report.violations[0] for each in noticed), report.violations)

    def test_forgets_vote(self) -> None:
        """A vote that does not survive a restart is found: two leaders in one term, or what they
        did to the logs before either was seen to lead."""
        faults = frozenset(("upset election",))
        parts = MemberParts(durable=ForgetsVote)
        report = self.first_violation(
            WorldSettings(3, fault_seconds=30.0, faults=faults, parts=parts), 20
        )
        noticed = ("election safety", "log matching", "leader completeness")
        self.assertTrue(any(each in report.violations[0] for each in noticed), report.violations)

    def test_applies_out_of_order(self) -> None:
        """Applying in another order than the log's is found."""
        report = self.first_violation(
            WorldSettings(parts=MemberParts(replica=AppliesOutOfOrder)), 3
        )
        self.assertIn("apply order", report.violations[0])

    def test_reads_at_once(self) -> None:
        """A read that does not ask for the read index is found once it misses a write."""
        parts = MemberParts(replica=ReadsAtOnce)
        report = self.first_violation(WorldSettings(3, parts=parts), 3)
        self.assertIn("linearizable reads", report.violations[0])

    def test_local_state(self) -> None:
        """A state that depends on anything local is found."""
        parts = MemberParts(machine=RemembersItsOwn)
        report = self.first_violation(WorldSettings(3, parts=parts), 3)
        self.assertIn("state equality", report.violations[0])

    def test_replays_twice(self) -> None:
        """Replaying entries that the backend holds already is found."""
        parts = replace(ETCD_PARTS, machine=ReplaysTwice)
        report = self.first_violation(WorldSettings(3, parts=parts), 3)
        self.assertIn("state equality", report.violations[0])

    def test_no_progress(self) -> None:
        """A cluster that does not work again after all faults are over is found."""
        parts = MemberParts(node=NeverCampaigns)
        report = self.first_violation(WorldSettings(3, fault_seconds=3.0, parts=parts), 1)
        self.assertIn("progress", report.violations[0])
