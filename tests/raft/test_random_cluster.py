"""Random histories with faults: the promises of Raft hold in each, and life returns after."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.raft.random_cluster import RandomCluster

STEPS = 2500


class RandomHistories(SynchronousTestCase):
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(st.integers(0, 1 << 32), st.sampled_from((3, 3, 5)))
    def test_fixed_membership(self, seed: int, size: int) -> None:
        """Election safety, log matching, leader completeness, state machine safety, majority
        durability and linearizable reads hold under faults, and all agree after healing."""
        cluster = RandomCluster(seed, size)
        for _ in range(STEPS):
            cluster.step()
        cluster.heal()
        leader = cluster.leader()
        assert leader is not None, "nobody leads after healing"
        self.assertEqual(
            {each.applied for each in cluster.members.values()}, {leader.node.last_index}
        )

    @settings(max_examples=20, deadline=None, derandomize=True)
    @given(st.integers(0, 1 << 32))
    def test_changing_membership(self, seed: int) -> None:
        """The same promises hold while voters and learners come and go."""
        cluster = RandomCluster(seed, changes=True)
        for _ in range(STEPS):
            cluster.step()
        cluster.heal()

    def test_same_seed_same_history(self) -> None:
        """A seed determines the whole history."""
        histories = []
        for _ in range(2):
            cluster = RandomCluster(7)
            for _ in range(STEPS):
                cluster.step()
            histories.append((cluster.in_flight, cluster.checkers.applied))
        self.assertEqual(histories[0], histories[1])
