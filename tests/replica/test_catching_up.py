"""What the log keeps for members that are being sent a snapshot."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.replica import durable
from etcdtw.replica.catching_up import LINGER_SECONDS, CatchingUp
from etcdtw.replica.durable import CATCH_UP_ENTRIES
from tests.replica.floor import OTHER, THIRD, Floor


class CatchingUpTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.floor = Floor()
        self.floor.start()
        self.tail = self.floor.durable.tail
        self.catching_up = CatchingUp(self.floor.durable, self.floor.clock)
        self.write(100)

    def write(self, count: int) -> int:
        """The last index then."""
        for number in range(count):
            self.floor.propose(f"{self.tail.last_index()}-{number}")
        self.floor.settle()
        return self.tail.last_index()

    def test_kept(self) -> None:
        """Entries behind a snapshot stay until a while after it has arrived; those before it go."""
        sent_at = self.write(3 * CATCH_UP_ENTRIES)
        self.catching_up.begin(OTHER, sent_at)
        self.write(4 * CATCH_UP_ENTRIES)
        self.floor.tick(1)
        self.assertGreater(self.tail.first_index(), 1)
        self.assertLessEqual(self.tail.first_index(), sent_at + 1)
        self.catching_up.end(OTHER, ok=True)
        self.floor.tick(10)
        self.assertLessEqual(self.tail.first_index(), sent_at + 1)
        self.floor.clock.advance(LINGER_SECONDS)
        self.floor.tick(1)
        self.assertEqual(self.tail.first_index(), self.tail.last_index() - CATCH_UP_ENTRIES + 1)

    def test_not_for_one_that_failed(self) -> None:
        """A snapshot that will not arrive keeps nothing, and the oldest of others counts."""
        self.catching_up.begin(OTHER, 10)
        self.catching_up.begin(THIRD, 20)
        self.assertEqual(self.floor.durable.needed_from(), 10)
        self.catching_up.end(OTHER, ok=False)
        self.assertEqual(self.floor.durable.needed_from(), 20)
        self.catching_up.end(THIRD, ok=True)
        self.catching_up.begin(THIRD, 30)
        self.floor.clock.advance(LINGER_SECONDS)
        self.assertEqual(self.floor.durable.needed_from(), 30)
        self.catching_up.end(THIRD, ok=True)
        self.catching_up.stop()
        self.floor.replica.stop()
        self.assertEqual(self.floor.clock.getDelayedCalls(), [])

    def test_bound(self) -> None:
        """It is not waited for without end."""
        self.catching_up.begin(OTHER, 10)
        applied = self.write(3 * CATCH_UP_ENTRIES)
        self.patch(durable, "NEEDED_ENTRIES_MAX", 2 * CATCH_UP_ENTRIES)
        self.floor.tick(1)
        self.assertEqual(self.tail.first_index(), applied - 2 * CATCH_UP_ENTRIES + 1)
