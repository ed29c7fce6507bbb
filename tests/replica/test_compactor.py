"""Automatic compaction, hour by hour."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3.compactor import REVISION_CHECK_SECONDS, PeriodicCompactor, RevisionCompactor
from etcdtw.errors import Compacted, EtcdError, TimedOut
from etcdtw.pb.rpc_pb2 import CompactionRequest

HOUR = 3600.0


class FakeStore:
    revision = 1


class FakeSubmitter:
    """Answers every request at once."""

    def __init__(self) -> None:
        self.compacted_to: list[int] = []
        self.answer: object = b""

    def submit(
        self,
        kind: str,
        request: CompactionRequest,
        raw: bytes,
        done: Callable[[object], None],
        cost: int = 0,
    ) -> None:
        assert (kind, raw) == ("compaction", request.SerializeToString())
        self.compacted_to.append(request.revision)
        done(self.answer)


class CompactorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = FakeStore()
        self.submitter = FakeSubmitter()
        self.is_leader = True

    def start(self, kind: type, retention: float) -> None:
        compactor = kind(self.clock, self.store, self.submitter, lambda: self.is_leader, retention)
        compactor.start()
        self.addCleanup(compactor.stop)

    def run_for(self, seconds: float, per_minute: int = 1) -> list[int]:
        """What is compacted while so many revisions are written each minute."""
        self.submitter.compacted_to.clear()
        for _ in range(round(seconds / 60)):
            self.store.revision += per_minute
            self.clock.advance(60)
        return list(self.submitter.compacted_to)

    def test_revisions(self) -> None:
        """In revision mode every five minutes all but the last revisions go, as soon as there
        are more."""
        self.start(RevisionCompactor, 100)
        self.assertEqual(self.run_for(300, per_minute=10), [])
        self.assertEqual(self.run_for(REVISION_CHECK_SECONDS - 60, per_minute=20), [])
        self.assertEqual(self.run_for(60, per_minute=20), [self.store.revision - 100])
        self.assertEqual(self.run_for(600, per_minute=0), [])

    def test_period(self) -> None:
        """In periodic mode nothing goes for a whole period; then what is older than the period,
        once per period."""
        self.start(PeriodicCompactor, HOUR)
        self.assertEqual(self.run_for(HOUR - 60), [])
        begin = self.store.revision
        found = self.run_for(2 * HOUR)
        self.assertEqual(len(found), 2)
        for number, revision in enumerate(found):
            kept = begin + 1 + 60 * number - revision
            self.assertTrue(59 <= kept <= 67, f"{kept} minutes of history are kept")

    def test_long_period(self) -> None:
        """A period longer than an hour is kept whole, and compacted every hour."""
        self.start(PeriodicCompactor, 5 * HOUR)
        self.assertEqual(self.run_for(5 * HOUR - 60), [])
        found = self.run_for(3 * HOUR)
        # As in etcd the first one leaves one look less.
        self.assertEqual([later - one for one, later in pairwise(found)], [54, 60])
        self.assertGreaterEqual(self.store.revision - found[-1], 300)

    def test_short_period(self) -> None:
        """A period of ten minutes is compacted every ten minutes."""
        self.start(PeriodicCompactor, 600.0)
        self.assertEqual(len(self.run_for(HOUR)), 6)

    def test_follower(self) -> None:
        """Only the leader compacts; a new leader has seen the history and goes on at once."""
        self.is_leader = False
        self.start(PeriodicCompactor, HOUR)
        self.assertEqual(self.run_for(3 * HOUR), [])
        self.is_leader = True
        found = self.run_for(360)
        self.assertEqual(len(found), 1)
        self.assertGreaterEqual(self.store.revision - found[0], 60)

    def test_failure(self) -> None:
        """A compaction that failed is tried again at the next look; one that somebody else was
        faster with counts as done."""
        for answer, tries in ((TimedOut(), 10), (Compacted(), 1)):
            self.setUp()
            self.submitter.answer = answer
            assert isinstance(answer, EtcdError)
            self.start(PeriodicCompactor, HOUR)
            self.run_for(HOUR - 60)
            self.assertEqual(len(self.run_for(HOUR)), tries, answer)

    def test_idle(self) -> None:
        """Without new revisions nothing is proposed."""
        self.start(PeriodicCompactor, HOUR)
        self.run_for(2 * HOUR, per_minute=0)
        self.assertEqual(self.run_for(5 * HOUR, per_minute=0), [])
