"""What Raft members say to each other and keep on disk, as plain values.

The shapes follow ``raftpb``; :mod:`etcdtw.raft.codec` turns them into etcd's bytes and back.
Values are immutable tuples where they are held in bulk (entries), so that the garbage collector
passes over them quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import partial
from itertools import count, repeat
from typing import NamedTuple

NO_NODE = 0
"""The id that stands for "nobody": no leader, no vote."""


class EntryType(IntEnum):
    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


class MessageType(IntEnum):
    HUP = 0
    BEAT = 1
    PROP = 2
    APP = 3
    APP_RESP = 4
    VOTE = 5
    VOTE_RESP = 6
    SNAP = 7
    HEARTBEAT = 8
    HEARTBEAT_RESP = 9
    UNREACHABLE = 10
    SNAP_STATUS = 11
    CHECK_QUORUM = 12
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_RESP = 16
    PRE_VOTE = 17
    PRE_VOTE_RESP = 18


class ConfChangeType(IntEnum):
    ADD_NODE = 0
    REMOVE_NODE = 1
    UPDATE_NODE = 2
    ADD_LEARNER_NODE = 3


class Entry(NamedTuple):
    """One slot of the log. ``data`` is None for the empty entry of a new leader."""

    term: int
    index: int  # type: ignore[assignment]  # tuple.index means nothing here
    type: EntryType = EntryType.NORMAL
    data: bytes | None = None


# What ``Entry._make`` does, without a Python call for each.
_make_entry: Callable[[tuple[int, int, EntryType, bytes]], Entry] = partial(tuple.__new__, Entry)


def number_entries(term: int, index: int, datas: Sequence[bytes]) -> list[Entry]:
    """Normal entries with these data, the first at ``index``."""
    if len(datas) == 1:
        return [Entry(term, index, EntryType.NORMAL, datas[0])]
    slots = zip(repeat(term), count(index), repeat(EntryType.NORMAL), datas, strict=False)
    return list(map(_make_entry, slots))


class HardState(NamedTuple):
    """What must be durable before any message that depends on it leaves (Raft paper, figure 2)."""

    term: int = 0
    vote: int = NO_NODE
    commit: int = 0


EMPTY_HARD_STATE = HardState()


class ConfState(NamedTuple):
    """The configuration as snapshots carry it. Ids ascend within each tuple."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False


class ConfChange(NamedTuple):
    """One member added, removed, updated or added as learner (``EntryType.CONF_CHANGE`` data)."""

    id: int
    type: ConfChangeType
    node_id: int
    context: bytes | None = None


class Snapshot(NamedTuple):
    """The state up to and including ``index``; ``data`` belongs to the application."""

    index: int  # type: ignore[assignment]  # tuple.index means nothing here
    term: int
    conf_state: ConfState = ConfState()
    data: bytes | None = None


EMPTY_SNAPSHOT = Snapshot(0, 0)


class Message(NamedTuple):
    """A Raft message; which fields mean something depends on ``type`` as in ``raftpb.Message``."""

    type: MessageType
    to: int = NO_NODE
    from_: int = NO_NODE
    term: int = 0
    log_term: int = 0
    index: int = 0  # type: ignore[assignment]
    entries: Sequence[Entry] = ()
    commit: int = 0
    snapshot: Snapshot | None = None
    reject: bool = False
    reject_hint: int = 0
    context: bytes | None = None
