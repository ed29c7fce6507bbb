"""Majority arithmetic against the definitions, spelled out naively."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.raft.quorum import EVERYTHING, VoteResult, committed_index, vote_result

QUICK = settings(max_examples=200, deadline=None, derandomize=True)


class Quorums(SynchronousTestCase):
    @QUICK
    @given(st.lists(st.integers(0, 20), max_size=9))
    def test_committed_index(self, matches: list[int]) -> None:
        """The committed index is the highest that more than half have reached."""
        naive = max(
            (n for n in range(21) if 2 * sum(each >= n for each in matches) > len(matches)),
            default=EVERYTHING,
        )
        self.assertEqual(committed_index(matches), naive if matches else EVERYTHING)

    @QUICK
    @given(st.sets(st.integers(1, 9)), st.dictionaries(st.integers(1, 12), st.booleans()))
    def test_vote_result(self, voters: set[int], votes: dict[int, bool]) -> None:
        """A vote is won or lost as soon as no missing answer can change that."""
        yes = sum(votes.get(each, False) for each in voters)
        no = sum(not votes.get(each, True) for each in voters)
        if not voters or 2 * yes > len(voters):
            expected = VoteResult.WON
        elif 2 * (len(voters) - no) <= len(voters):
            expected = VoteResult.LOST
        else:
            expected = VoteResult.PENDING
        self.assertIs(vote_result(voters, votes), expected)
