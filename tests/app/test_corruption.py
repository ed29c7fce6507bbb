"""What hashes of members tell about them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.compact_hashes import Verdict, judge
from etcdtw.app.corruption import Hash, suspects

OWN = Hash(1, 10, 77, 4)


class SuspectsTests(SynchronousTestCase):
    def found(self, *peers: Hash, after: Hash = OWN) -> list[int]:
        return [suspect.member_id for suspect, _ in suspects(OWN, after, peers)]

    def test_equal(self) -> None:
        """Equal hashes, and those of other compactions, accuse nobody."""
        self.assertEqual(self.found(Hash(2, 9, 77, 4), Hash(3, 10, 5, 3)), [])

    def test_other_hash(self) -> None:
        """At the same compaction the hashes must match."""
        self.assertEqual(self.found(Hash(2, 10, 78, 4)), [2])

    def test_ahead(self) -> None:
        """Nobody may be ahead of the leader, by revision or by compaction."""
        self.assertEqual(self.found(Hash(2, 11, 77, 4)), [2])
        self.assertEqual(self.found(Hash(2, 10, 5, 6)), [2])

    def test_leader_itself(self) -> None:
        """A leader that has two hashes at one revision is wrong itself; at another it is not."""
        self.assertEqual(self.found(after=OWN._replace(hash=78)), [1])
        self.assertEqual(self.found(after=OWN._replace(hash=78, revision=11)), [])


class JudgeTests(SynchronousTestCase):
    """What hashes of one compaction tell, of a cluster of three."""

    def judged(self, *peers: Hash) -> Verdict:
        return judge(OWN, peers, 2)

    def test_equal(self) -> None:
        """Equal hashes accuse nobody; it is final when everybody was asked."""
        self.assertEqual(self.judged(OWN, OWN), Verdict([], True))
        self.assertEqual(self.judged(OWN), Verdict([], False))
        self.assertEqual(self.judged(OWN, Hash(3, 10, 5, 3)), Verdict([], False))

    def test_minority(self) -> None:
        """Whoever differs from a majority is wrong, be it the leader itself."""
        self.assertEqual(self.judged(Hash(2, 10, 78, 4), Hash(3, 10, 77, 4)), Verdict([2], True))
        self.assertEqual(self.judged(Hash(2, 10, 78, 4), Hash(3, 10, 78, 4)), Verdict([1], True))

    def test_no_majority(self) -> None:
        """Where no hash has a majority nobody knows who is wrong."""
        self.assertEqual(self.judged(Hash(2, 10, 78, 4)), Verdict([0], True))
        self.assertEqual(self.judged(Hash(2, 10, 78, 4), Hash(3, 10, 79, 4)), Verdict([0], True))
