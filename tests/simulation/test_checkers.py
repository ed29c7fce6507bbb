"""Each checker, on the smallest history that breaks its rule."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.raft.messages import Entry
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.testing.checkers import Checkers
from etcdtw.testing.cluster_machine import LedgerMachine


def machine(*digests: bytes, index: int = 0) -> LedgerMachine:
    made = LedgerMachine(lambda entry, machine: None, MemoryBackend(durable=True))
    made.digest = b"".join(digests)
    made.applied_index = index
    return made


class CheckersTests(SynchronousTestCase):
    """What members and clients report, and what is made of it."""

    def setUp(self) -> None:
        self.checkers = Checkers()

    def assertBroken(self, rule: str) -> None:
        self.assertEqual([each.split(":")[0] for each in self.checkers.violations], [rule])

    def test_election_safety(self) -> None:
        """Two leaders in one term are one too many; one in each of two terms is fine."""
        self.checkers.leads(1, 2, {})
        self.checkers.leads(1, 2, {})
        self.checkers.leads(2, 3, {})
        self.assertEqual(self.checkers.violations, [])
        self.checkers.leads(3, 2, {})
        self.assertBroken("election safety")

    def test_leader_completeness(self) -> None:
        """A leader needs what was committed in earlier terms, not in its own or later ones."""
        self.checkers.applied(1, 5, 0, Entry(term=4, index=1), b"x")
        self.checkers.leads(2, 5, {})
        self.checkers.leads(1, 6, {1: 4})
        self.assertEqual(self.checkers.violations, [])
        self.checkers.leads(2, 7, {1: 3})
        self.assertBroken("leader completeness")

    def test_log_matching(self) -> None:
        """Logs that share an index and term share the entry and the term before it."""
        entry = Entry(term=2, index=5, data=b"a")
        self.checkers.appended(1, [entry], 2)
        self.checkers.appended(2, [entry], 2)
        self.checkers.appended(2, [Entry(term=3, index=5, data=b"b")], 2)
        self.assertEqual(self.checkers.violations, [])
        self.checkers.appended(3, [entry], 1)
        self.assertBroken("log matching")

    def test_log_matching_of_content(self) -> None:
        """Other data at the same index and term is a mismatch."""
        self.checkers.appended(1, [Entry(term=2, index=5, data=b"a")], 2)
        self.checkers.appended(2, [Entry(term=2, index=5, data=b"b")], 2)
        self.assertBroken("log matching")

    def test_state_machine_safety(self) -> None:
        """Members apply the same entry at an index."""
        self.checkers.applied(1, 2, 0, Entry(term=2, index=1, data=b"a"), b"x")
        self.checkers.applied(2, 2, 0, Entry(term=2, index=1, data=b"b"), b"x")
        self.assertBroken("state machine safety")

    def test_apply_order(self) -> None:
        """A member applies entries without a gap."""
        self.checkers.applied(1, 2, 3, Entry(term=2, index=5), b"x")
        self.assertBroken("apply order")

    def test_state_equality(self) -> None:
        """Digests at an index are equal where both are known."""
        entry = Entry(term=2, index=1)
        for digest in (b"", b"x", b"", b"x"):
            self.checkers.applied(1, 2, 0, entry, digest)
        self.assertEqual(self.checkers.violations, [])
        self.checkers.applied(2, 2, 0, entry, b"y")
        self.assertBroken("state equality")

    def test_linearizable_reads(self) -> None:
        """A read sees what had been acknowledged before it was asked for."""
        seen = machine()
        seen.writes[7] = 1
        self.checkers.read_released(1, [7], seen)
        self.assertEqual(self.checkers.violations, [])
        self.checkers.read_released(1, [7, 8], seen)
        self.assertBroken("linearizable reads")

    def test_durability(self) -> None:
        """An acknowledged write that no member has at the end is lost."""
        self.checkers.write_acknowledged(7, "")
        self.checkers.finished({1: machine(b"x", index=4)})
        self.assertBroken("durability")

    def test_catching_up(self) -> None:
        """At the end all members have applied the same."""
        self.checkers.finished({1: machine(b"x", index=4), 2: machine(b"x", index=5)})
        self.assertBroken("progress")

    def test_equal_at_the_end(self) -> None:
        """At the end all members hold the same."""
        self.checkers.finished({1: machine(b"x", index=4), 2: machine(b"y", index=4)})
        self.assertBroken("state equality")
