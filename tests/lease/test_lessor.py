"""Leases: what is replicated, and when they end."""

from __future__ import annotations

from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import LeaseExists, LeaseNotFound, LeaseTTLTooLarge, NotLeader
from etcdtw.lease import lessor as module
from etcdtw.lease.deadlines import Deadlines
from etcdtw.lease.lessor import (
    EXPIRED_RETRY_SECONDS,
    TTL_SECONDS_MAX,
    Lessor,
    ttl_seconds_min,
)
from etcdtw.pb.lease_pb2 import Lease
from etcdtw.storage.backend.memory import MemoryBackend

ROUND = 0.5


def leader(now: float = 0.0) -> Lessor:
    lessor = Lessor(MemoryBackend(), 2)
    lessor.promote(0, now)
    return lessor


class ReplicatedTests(SynchronousTestCase):
    def test_minimum(self) -> None:
        """The shortest TTL is one and a half election timeouts, in whole seconds."""
        self.assertEqual(ttl_seconds_min(10, 0.1), 2)
        self.assertEqual(ttl_seconds_min(20, 0.1), 3)
        self.assertEqual(ttl_seconds_min(21, 0.1), 4)
        self.assertEqual(ttl_seconds_min(10, 0.01), 1)

    def test_grant(self) -> None:
        """A TTL below the minimum is raised, one above the maximum refused, ids are free to be
        anything but 0 and taken once."""
        lessor = leader()
        self.assertEqual(lessor.grant(1, 0, 0), 2)
        self.assertEqual(lessor.grant(-7, -5, 0), 2)
        self.assertEqual(lessor.grant(3, TTL_SECONDS_MAX, 0), TTL_SECONDS_MAX)
        self.assertRaises(LeaseTTLTooLarge, lessor.grant, 4, TTL_SECONDS_MAX + 1, 0)
        self.assertRaises(LeaseExists, lessor.grant, 1, 5, 0)
        self.assertRaises(LeaseNotFound, lessor.grant, 0, 5, 0)
        self.assertEqual(len(lessor), 3)
        self.assertFalse(lessor.exists(4))

    def test_keys(self) -> None:
        """Revoking gives the keys in bytewise order; detached and double ones are not in it."""
        lessor = leader()
        lessor.grant(1, 5, 0)
        for key in (b"b", b"\xff", b"a", b"c", b"a"):
            lessor.attach(1, key)
        lessor.detach(1, b"c")
        lessor.detach(1, b"nothing")
        lessor.detach(9, b"a")
        self.assertEqual(lessor.keys(1), [b"a", b"b", b"\xff"])
        self.assertEqual(lessor.revoke(1), [b"a", b"b", b"\xff"])
        self.assertRaises(LeaseNotFound, lessor.revoke, 1)
        self.assertRaises(LeaseNotFound, lessor.attach, 1, b"a")
        self.assertEqual(lessor.keys(1), [])

    def test_records(self) -> None:
        """The lease bucket holds leasepb.Lease by big-endian id, and a restart reads it."""
        backend = MemoryBackend()
        first = Lessor(backend, 2)
        first.grant(7, 500, 0)
        first.grant(-7, 60, 0)
        first.grant(8, 60, 0)
        first.revoke(8)
        self.assertEqual(
            list(backend.scan(b"lease", b"", None)),
            [
                (b"\0\0\0\0\0\0\0\7", Lease(ID=7, TTL=500).SerializeToString()),
                (b"\xff" * 7 + b"\xf9", Lease(ID=-7, TTL=60).SerializeToString()),
            ],
        )
        again = Lessor(backend, 2)
        self.assertEqual(again.ids_by_expiry(), [7, -7])
        self.assertEqual(again.ttl(7), 500)
        again.attach(7, b"a")

    def test_checkpoints_persist(self) -> None:
        """A checkpoint survives a restart only where that is asked for."""
        for persist, left in ((True, 40), (False, 500)):
            backend = MemoryBackend()
            first = Lessor(backend, 2, persist_checkpoints=persist)
            first.grant(7, 500, 0)
            first.checkpoint(7, 40, 0)
            again = Lessor(backend, 2, persist_checkpoints=persist)
            again.promote(1, 0)
            self.assertEqual(again.remaining(7, 0), left + 1)


class PrimaryTests(SynchronousTestCase):
    def test_only_the_primary_knows_time(self) -> None:
        """Elsewhere leases are forever, do not expire and cannot be renewed."""
        lessor = Lessor(MemoryBackend(), 2)
        lessor.grant(1, 5, 0)
        self.assertEqual(lessor.remaining(1, 1000), inf)
        self.assertEqual(lessor.expired(1000), [])
        self.assertRaises(NotLeader, lessor.renew, 1, 0)
        lessor.promote(1, 1000)
        self.assertEqual(lessor.remaining(1, 1000), 6)
        lessor.demote()
        self.assertEqual(lessor.expired(5000), [])
        self.assertEqual(lessor.remaining(1, 5000), inf)

    def test_renew(self) -> None:
        """A renewal starts the TTL again; one that comes too late is refused."""
        lessor = leader()
        lessor.grant(1, 10, 0)
        self.assertEqual(lessor.renew(1, 9), 10)
        self.assertEqual(lessor.remaining(1, 12), 7)
        self.assertEqual(lessor.expired(18.9), [])
        self.assertRaises(LeaseNotFound, lessor.renew, 1, 19)
        self.assertEqual(lessor.expired(19), [1])
        self.assertRaises(LeaseNotFound, lessor.renew, 2, 0)

    def test_expired_comes_again(self) -> None:
        """A lease that is over comes up again some seconds later unless it was revoked."""
        lessor = leader()
        lessor.grant(1, 2, 0)
        lessor.grant(2, 2, 0)
        self.assertEqual(lessor.expired(2), [1, 2])
        self.assertEqual(lessor.expired(2 + EXPIRED_RETRY_SECONDS - 0.1), [])
        lessor.revoke(1)
        self.assertEqual(lessor.expired(2 + EXPIRED_RETRY_SECONDS), [2])

    def test_limit_and_order(self) -> None:
        """A round gives at most its limit, those that ended first first."""
        lessor = leader()
        for lease_id in range(1, 21):
            lessor.grant(lease_id, 40 - lease_id, 0)
        self.assertEqual(lessor.expired(100, 5), [20, 19, 18, 17, 16])
        self.assertEqual(lessor.expired(100, 500), list(range(15, 0, -1)))

    def test_granted_again(self) -> None:
        """A lease granted under the id of a revoked one does not inherit its deadline."""
        lessor = leader()
        lessor.grant(1, 5, 0)
        lessor.revoke(1)
        lessor.grant(1, 50, 1)
        self.assertEqual(lessor.expired(40), [])
        self.assertEqual(lessor.expired(51), [1])

    def test_promotion_in_rounds(self) -> None:
        """A new primary looks at so many leases per round, and knows every remaining time."""
        self.patch(module, "ROUND_LEASES_MAX", 3)
        lessor = Lessor(MemoryBackend(), 2)
        for lease_id in range(1, 9):
            lessor.grant(lease_id, 10, 0)
        lessor.promote(1, 100)
        self.assertEqual(lessor.remaining(8, 100), 11)
        self.assertEqual(lessor.renew(1, 105), 10)
        over = lessor.expired(111)
        self.assertTrue(lessor.unfinished)
        while lessor.unfinished:
            over += lessor.expired(111)
        self.assertEqual(sorted(over), [2, 3, 4, 5, 6, 7, 8])
        for lease_id in over:
            lessor.revoke(lease_id)
        self.assertEqual(lessor.expired(115), [1])

    def test_renewed_in_rounds(self) -> None:
        """Many renewed leases whose old deadlines come up together are looked at in rounds."""
        self.patch(module, "ROUND_LEASES_MAX", 3)
        lessor = leader()
        for lease_id in range(1, 9):
            lessor.grant(lease_id, 10, 0)
            if lease_id != 8:
                lessor.renew(lease_id, 5)
        over: list[int] = lessor.expired(12)
        rounds = 1
        while lessor.unfinished:
            over += lessor.expired(12)
            rounds += 1
        self.assertEqual((over, rounds), ([8], 3))

    def test_renewal_keeps_an_extension(self) -> None:
        """A renewal never brings the end nearer than a promotion has put it."""
        lessor = Lessor(MemoryBackend(), 2)
        lessor.grant(1, 10, 0)
        lessor.promote(5, 100)
        lessor.renew(1, 101)
        self.assertEqual(lessor.remaining(1, 101), 14)

    def test_checkpoints(self) -> None:
        """Long leases are checkpointed once per interval with their remaining seconds rounded
        up; a new primary goes on from there and a renewal forgets it."""
        lessor = leader()
        lessor.grant(1, 1000, 0)
        lessor.grant(2, 200, 0)
        self.assertEqual(lessor.due_checkpoints(299), [])
        self.assertEqual(lessor.due_checkpoints(300.5), [(1, 700)])
        lessor.checkpoint(1, 700, 300.6)
        self.assertTrue(lessor.was_checkpointed(1))
        self.assertEqual(lessor.due_checkpoints(600), [])
        self.assertEqual(lessor.due_checkpoints(600.6), [(1, 400)])
        lessor.promote(1, 700)
        self.assertEqual(lessor.remaining(1, 700), 701)
        lessor.checkpoint(1, 0, 701)
        self.assertFalse(lessor.was_checkpointed(1))
        lessor.renew(1, 702)
        self.assertEqual(lessor.remaining(1, 702), 1000)
        self.assertRaises(LeaseNotFound, lessor.checkpoint, 5, 1, 0)

    def test_checkpoint_does_not_shorten(self) -> None:
        """Applying a checkpoint changes no running deadline, also right after a promotion."""
        lessor = Lessor(MemoryBackend(), 2)
        lessor.grant(1, 1000, 0)
        lessor.promote(1, 0)
        lessor.checkpoint(1, 10, 5)
        self.assertEqual(lessor.remaining(1, 5), 996)

    def test_sorted(self) -> None:
        """The list of leases begins with the one that ends first."""
        lessor = leader()
        for lease_id, ttl in ((1, 30), (2, 10), (3, 20), (4, 10)):
            lessor.grant(lease_id, ttl, 0)
        lessor.renew(2, 9)
        self.assertEqual(lessor.ids_by_expiry(), [4, 2, 3, 1])


STEPS = st.one_of(
    st.tuples(st.just("grant"), st.integers(1, 6), st.integers(0, 12)),
    st.tuples(st.just("renew"), st.integers(1, 6), st.just(0)),
    st.tuples(st.just("revoke"), st.integers(1, 6), st.just(0)),
    st.tuples(st.just("wait"), st.integers(0, 20), st.just(0)),
    st.tuples(st.just("promote"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("demote"), st.just(0), st.just(0)),
)


class ModelTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(st.lists(STEPS, min_size=10, max_size=60))
    def test_never_early(self, steps: list[tuple[str, int, int]]) -> None:
        """Against a table of ends: nothing expires early, what is over comes up in the first
        round on the primary, in order of its end."""
        self.patch(module, "ROUND_LEASES_MAX", 100)
        lessor = Lessor(MemoryBackend(), 2)
        ttls: dict[int, int] = {}
        ends: dict[int, float] = {}
        reported: dict[int, float] = {}
        primary = False
        now = 0.0
        for name, number, ttl in steps:
            if name == "grant" and number not in ttls:
                ttls[number] = lessor.grant(number, ttl, now)
                ends[number] = now + ttls[number]
            elif name == "revoke" and number in ttls:
                lessor.revoke(number)
                del ttls[number], ends[number]
                reported.pop(number, None)
            elif name == "renew" and primary and number in ttls:
                try:
                    lessor.renew(number, now)
                    self.assertLess(now, ends[number])
                    ends[number] = max(ends[number], now + ttls[number])
                except LeaseNotFound:
                    self.assertLessEqual(ends[number], now)
            elif name == "wait":
                now += number / 4
            elif name == "promote":
                lessor.promote(number, now)
                primary = True
                ends = {each: now + number + ttls[each] for each in ttls}
                reported.clear()
            elif name == "demote":
                lessor.demote()
                primary = False
            over = lessor.expired(now)
            if not primary:
                self.assertEqual(over, [])
                continue
            due = {
                each: max(end, reported.get(each, 0.0) + EXPIRED_RETRY_SECONDS)
                if each in reported
                else end
                for each, end in ends.items()
            }
            self.assertEqual(set(over), {each for each in due if due[each] <= now})
            self.assertEqual([due[each] for each in over], sorted(due[each] for each in over))
            reported.update(dict.fromkeys(over, now))
            self.assertEqual([ends[each] for each in lessor.ids_by_expiry()], sorted(ends.values()))


class DeadlinesTests(SynchronousTestCase):
    def test_leftovers_are_bounded(self) -> None:
        """Moving a deadline again and again does not make the heap grow without end."""
        deadlines = Deadlines()
        for step in range(10_000):
            deadlines.set(1, float(step))
        self.assertLess(len(deadlines._heap), 200)
        self.assertIsNone(deadlines.pop_due(9998))
        self.assertEqual(deadlines.pop_due(9999), 1)
        self.assertIsNone(deadlines.pop_due(99999))
