"""Worlds with faults keep every promise, and broken members are found out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.testing.cluster import MemberParts
from etcdtw.testing.cluster_etcd import ETCD_PARTS
from etcdtw.testing.world import WorldSettings, run_world
from etcdtw.testing.world_kinds import KINDS
from tests.simulation.planted import (
    AcksBeforeSync,
    AppliesOutOfOrder,
    CallsReplacedCommitted,
    CommitsAlone,
    ForgetsVote,
    KeepsDeleted,
    LosesConfChanges,
    NeverCampaigns,
    ReadsAtOnce,
    ReadsByLease,
    RemembersItsOwn,
    ReplaysTwice,
    SkipsEvents,
    SkipsSnapshots,
    StateUnsynced,
    TakesBackSnapshots,
    VotesForAnybody,
)

SEEDS = range(30)
LOST = ("leader completeness", "log matching", "state machine safety", "durability")
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

    def test_seeds_of_streams(self) -> None:
        """Worlds whose members talk over byte streams as real ones do violate nothing."""
        settings = WorldSettings(fault_seconds=8.0, parts=KINDS["streams"])
        for seed in range(200, 206):
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
        """A seed gives the same events in processes that hash differently and whose real clocks
        do not agree about how long anything took."""
        code = (
            "import sys, time\n"
            "real, pace = time.monotonic, float(sys.argv[1])\n"
            "time.monotonic = time.time = lambda: pace * real()\n"
            "from etcdtw.testing.world import WorldSettings, run_world\n"
            "from etcdtw.testing.world_kinds import KINDS\n"
            "for parts in KINDS.values():\n"
            "    report = run_world(7, WorldSettings(fault_seconds=6.0, parts=parts))\n"
            "    print(report.trace_digest, sorted(report.messages.items()))"
        )
        told = set()
        for hash_seed, pace in (("1", "0.001"), ("2", "1000")):
            environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
            command = [sys.executable, "-c", code, pace]
            told.add(subprocess.check_output(command, env=environment))
        self.assertEqual(len(told), 1, told)


class PlantedBugTests(SynchronousTestCase):
    """A checker that finds nothing in a broken member would find nothing at all."""

    def first_violation(self, settings: WorldSettings, seeds: int = 30) -> str:
        """The first that a campaign comes upon."""
        for seed in range(seeds):
            report = run_world(seed, settings)
            if report.violations:
                return report.violations[0]
        raise self.failureException(f"{seeds} seeds found nothing")

    def assertFound(
        self,
        noticed: Sequence[str],
        faults: Sequence[str] = (),
        size: int = 0,
        **planted: Any,
    ) -> None:
        """What is noticed first depends on who loses what, and on what had been applied. ``faults``
        are those that a rare bug takes, if not all are to happen."""
        parts = replace(ETCD_PARTS, **planted)
        settings = WorldSettings(size=size, faults=frozenset(faults) or None, parts=parts)
        first = self.first_violation(settings)
        self.assertTrue(any(each in first for each in noticed), first)

    def test_acknowledges_before_sync(self) -> None:
        """Acknowledging an append, or giving a vote, before it is durable is found."""
        noticed = ("election safety", *LOST, "LogLost", "release to")
        self.assertFound(noticed, durable=AcksBeforeSync)

    def test_forgets_vote(self) -> None:
        """A vote that does not survive a restart is found: two leaders in one term, or what they
        did to the logs before either was seen to lead."""
        self.assertFound(("election safety", *LOST), durable=ForgetsVote)

    def test_state_unsynced(self) -> None:
        """A vote that is given before it is durable is found."""
        self.assertFound(("election safety", *LOST), durable=StateUnsynced)

    def test_votes_for_anybody(self) -> None:
        """A leader whose log lacks what was committed is found."""
        self.assertFound(LOST, node=VotesForAnybody)

    def test_commits_alone(self) -> None:
        """Taking an entry for committed without a majority is found."""
        self.assertFound(LOST, node=CommitsAlone)

    def test_calls_replaced_committed(self) -> None:
        """A log that calls committed what another leader has replaced is found."""
        faults = "overtaken disk", "bad weather"
        self.assertFound(LOST, faults, size=5, replica=CallsReplacedCommitted)

    def test_takes_back_snapshots(self) -> None:
        """A member that does not begin with the snapshot that it has received is found."""
        self.assertFound(("recovery",), durable=TakesBackSnapshots)

    def test_loses_conf_changes(self) -> None:
        """Members that do not agree who is a member are found."""
        self.assertFound((*LOST, "state equality", "progress"), node=LosesConfChanges)

    def test_applies_out_of_order(self) -> None:
        """Applying in another order than the log's is found."""
        self.assertFound(("apply order", "our own bugs"), replica=AppliesOutOfOrder)

    def test_reads_at_once(self) -> None:
        """A read that does not ask for the read index is found once it misses a write."""
        self.assertFound(("linearizable reads",), replica=ReadsAtOnce)

    def test_reads_by_lease(self) -> None:
        """A leader that trusts its clock is found once that is wrong."""
        faults = "clock drift", "leader isolated"
        self.assertFound(("linearizable reads",), faults, node=ReadsByLease)

    def test_reads_by_lease_after_a_pause(self) -> None:
        """So is one that goes on after it was stopped for longer than it takes to elect another."""
        self.assertFound(("linearizable reads",), ("frozen member",), node=ReadsByLease)

    def test_local_state(self) -> None:
        """A state that depends on anything local is found."""
        first = self.first_violation(WorldSettings(parts=MemberParts(machine=RemembersItsOwn)))
        self.assertIn("state equality", first)

    def test_replays_twice(self) -> None:
        """Replaying entries that the backend holds already is found."""
        self.assertFound(("state equality", "watch"), machine=ReplaysTwice)

    def test_keeps_deleted(self) -> None:
        """Answers that everybody agrees on, and that no order of the requests explains, are
        found."""
        self.assertFound(("linearizability",), machine=KeepsDeleted)

    def test_skips_events(self) -> None:
        """A watch that misses a revision is found."""
        self.assertFound(("watch",), machine=SkipsEvents)

    def test_skips_snapshots(self) -> None:
        """A watch that misses what a received snapshot brought is found."""
        self.assertFound(("watch",), machine=SkipsSnapshots)

    def test_no_progress(self) -> None:
        """A cluster that does not work again after all faults are over is found."""
        self.assertFound(("progress",), node=NeverCampaigns)
