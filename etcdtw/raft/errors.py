"""What the core refuses or cannot do, as a handful of named values."""

from __future__ import annotations


class RaftError(Exception):
    """The root of this room's errors."""


class ProposalDropped(RaftError):
    """The proposal went nowhere: no leader is known, leadership is being transferred, or this
    leader was removed. The proposer may try again later."""

    def __init__(self) -> None:
        super().__init__("raft proposal dropped")


class LogCompacted(RaftError):
    """The entry is gone: a snapshot stands for it."""


class LogUnavailable(RaftError):
    """The entry is not there yet."""


class LogLost(RaftError):
    """A leader knows that this member stored entries which its log does not hold.

    Its disk lost acknowledged data; going on could lose committed entries of the cluster.
    """


class SnapshotTemporarilyUnavailable(RaftError):
    """A snapshot is being made; ask again later."""


class UnexpectedMessage(RaftError):
    """A peer sent a message that only a member itself may produce."""


class ConfChangeRefused(RaftError):
    """A configuration change that would leave no voter or change more than one at once."""
