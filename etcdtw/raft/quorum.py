"""Majorities: which index a majority holds, and how a vote stands. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum

EVERYTHING = (1 << 64) - 1
"""What a quorum of nobody has committed."""


class VoteResult(Enum):
    PENDING = "VotePending"
    WON = "VoteWon"
    LOST = "VoteLost"


def majority(count: int) -> int:
    """How many of ``count`` voters are more than half of them."""
    return count // 2 + 1


def committed_index(matches: Collection[int]) -> int:
    """The highest index that a majority has reached; one match per voter (Raft 5.3)."""
    if not matches:
        return EVERYTHING
    return sorted(matches)[len(matches) - majority(len(matches))]


def vote_result(voters: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """How the election stands; votes of others than ``voters`` do not count.

    Nobody to ask means won.
    """
    granted = missing = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is None:
            missing += 1
        elif vote:
            granted += 1
    needed = majority(len(voters)) if voters else 0
    if granted >= needed:
        return VoteResult.WON
    if granted + missing >= needed:
        return VoteResult.PENDING
    return VoteResult.LOST
