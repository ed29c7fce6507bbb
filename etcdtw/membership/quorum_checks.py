"""Would a change leave the cluster without a quorum? Asked of the proposer only
(``--strict-reconfig-check``), since the answer depends on who is connected to whom.

``connected`` holds the ids of the members, this one included, that have been connected for the
last 5 seconds.
"""

from __future__ import annotations

from collections.abc import Collection

from etcdtw.errors import EtcdError, MemberNotEnoughStarted, Unhealthy
from etcdtw.membership.member import Member
from etcdtw.membership.members import Members


def check_add(members: Members, is_learner: bool, connected: Collection[int]) -> EtcdError | None:
    """Whether a member may be added now; None if it may."""
    voters = members.voters()
    if not is_learner:
        started = _started(voters)
        # One started voter of one may always get a second, so that a cluster can grow again.
        only_voter = started == 1 and len(voters) == 1
        if not only_voter and started < _quorum(len(voters) + 1):
            return MemberNotEnoughStarted()
    return None if all(each.id in connected for each in voters) else Unhealthy()


def check_promote(members: Members) -> EtcdError | None:
    """Whether a started learner may become a voter now; None if it may."""
    voters = members.voters()
    if _started(voters) + 1 < _quorum(len(voters) + 1):
        return MemberNotEnoughStarted()
    return None


def check_remove(
    members: Members, identity: int, connected: Collection[int], is_active: bool
) -> EtcdError | None:
    """Whether a member may be removed now; None if it may. ``is_active``: it is this member, or
    connected to it at this moment."""
    member = members.get(identity)
    if member is not None and member.is_learner:
        return None
    voters = members.voters()
    staying = [each for each in voters if each.id != identity]
    if _started(staying) < _quorum(len(staying)):
        return MemberNotEnoughStarted()
    if not is_active:
        return None
    active = sum(each.id in connected for each in voters)
    return Unhealthy() if active - 1 < _quorum(len(voters) - 1) else None


def _started(members: list[Member]) -> int:
    return sum(each.is_started for each in members)


def _quorum(count: int) -> int:
    return count // 2 + 1
