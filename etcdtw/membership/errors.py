"""Why a membership change has no effect: the texts of the v2 API and the log, and their v3 form."""

from __future__ import annotations

from typing import ClassVar

from etcdtw import errors
from etcdtw.errors import EtcdError


class MembershipError(EtcdError):
    """A refused membership change. ``v3`` is what gRPC clients are told instead."""

    v3: ClassVar[type[EtcdError]]

    def for_v3(self) -> EtcdError:
        """The error that gRPC clients read."""
        return self.v3()


class IDRemoved(MembershipError):
    text = "membership: ID removed"
    v3 = errors.MemberNotFound


class IDExists(MembershipError):
    text = "membership: ID exists"
    v3 = errors.MemberExists


class IDNotFound(MembershipError):
    text = "membership: ID not found"
    v3 = errors.MemberNotFound


class PeerURLTaken(MembershipError):
    text = "membership: peerURL exists"
    v3 = errors.PeerURLExists


class NotLearner(MembershipError):
    text = "membership: can only promote a learner member"
    v3 = errors.MemberNotLearner


class TooManyLearners(MembershipError):
    text = "membership: too many learner members in cluster"
    v3 = errors.TooManyLearners
