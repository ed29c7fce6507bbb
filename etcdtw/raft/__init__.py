"""Consensus without input and output: the Raft core of one member.

:class:`RaftNode` is the face: messages, ticks and proposals go in, :class:`Ready` records come
out. Read ``node.py`` for the driver's duties, then ``step.py`` for what a message does.
"""

from __future__ import annotations

from etcdtw.raft.config import RaftConfig, StateType
from etcdtw.raft.errors import (
    ConfChangeRefused,
    LogCompacted,
    LogLost,
    LogUnavailable,
    ProposalDropped,
    RaftError,
    SnapshotTemporarilyUnavailable,
    UnexpectedMessage,
)
from etcdtw.raft.interfaces import ILogView
from etcdtw.raft.memory_log import MemoryLog
from etcdtw.raft.node import RaftNode
from etcdtw.raft.ready import ReadState, Ready, SoftState

__all__ = [
    "ConfChangeRefused",
    "ILogView",
    "LogCompacted",
    "LogLost",
    "LogUnavailable",
    "MemoryLog",
    "ProposalDropped",
    "RaftConfig",
    "RaftError",
    "RaftNode",
    "ReadState",
    "Ready",
    "SnapshotTemporarilyUnavailable",
    "SoftState",
    "StateType",
    "UnexpectedMessage",
]
