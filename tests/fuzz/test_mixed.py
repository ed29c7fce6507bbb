"""A short form of ``python -m tests.fuzz.mixed``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.mixed import MixedFuzz
from tests.process.cluster import Cluster
from tests.process.member import real_etcd, server_under_test

BODIES = 750


class MixedTests(SynchronousTestCase):
    timeout = 180

    def test_mutated_bodies(self) -> None:
        """What ours takes of mutated requests real members read the same: none dies, all agree."""
        cluster = Cluster(server_under_test(), server_under_test(), real_etcd())
        self.addCleanup(cluster.close)
        cluster.start()
        fuzz = MixedFuzz(cluster, 2, seed=7)
        fuzz.run(BODIES)
        self.assertGreater(fuzz.answers["OK"], BODIES // 10)
        self.assertGreater(len(fuzz.answers), 2)
