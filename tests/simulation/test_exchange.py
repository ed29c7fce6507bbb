"""Snapshots between simulated members, in moments that worlds seldom come upon."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.membership import version_request
from etcdtw.raft.messages import Message, MessageType, Snapshot
from etcdtw.replica.proposal import Proposal
from etcdtw.testing.cluster import Condition, SimCluster
from etcdtw.testing.cluster_snapshots import MemoryBody, database_path

SLOW_SECONDS = 0.3


class ExchangeTests(SynchronousTestCase):
    def test_overtaken(self) -> None:
        """A snapshot that the log has overtaken while it was written down leaves nothing."""
        cluster = SimCluster(seed=1, size=3)
        cluster.boot_all()
        cluster.time.run_until(3.0)
        leader = cluster.leader()
        assert leader is not None and leader.life is not None, "nobody leads a healthy cluster"
        follower = next(each for each in cluster.up() if each is not leader)
        life = follower.life
        assert life is not None and life.transport.exchange is not None, "it is up"
        follower.set_condition(Condition(disk_seconds=(SLOW_SECONDS, SLOW_SECONDS)))
        node = life.node
        ahead = Snapshot(node.committed + 1, node.term, node.conf_state(), b"")
        message = Message(
            MessageType.SNAP, from_=leader.id, to=follower.id, term=node.term, snapshot=ahead
        )
        told: list[str] = []
        life.transport.exchange.snapshot_received(message, MemoryBody(b"keyspace"), told.append)
        request = version_request(1, "3.5.0")
        proposal = Proposal(request.SerializeToString(), "v2", request, lambda result: None)
        leader.life.replica.propose(proposal)
        cluster.time.run_until(3.0 + 3 * SLOW_SECONDS)
        self.assertEqual(told, [""])
        self.assertIs(follower.life, life)
        self.assertEqual(cluster.rare["received snapshot overtaken"], 1)
        self.assertFalse(follower.disk.exists(database_path(ahead.index)))
        self.assertEqual(cluster.checkers.violations, [])
