"""The durable start of a member: its data directory, its log, and the consensus core over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from etcdtw.bootstrap.interfaces import ClusterPlan
from etcdtw.errors import CorruptError
from etcdtw.membership import bootstrap_entries, founding_member
from etcdtw.raft import MemoryLog, RaftConfig, RaftNode
from etcdtw.raft.messages import Entry, HardState
from etcdtw.storage.interfaces import IFilesystem
from etcdtw.storage.wal import Wal, WalSnapshot, decode_metadata, encode_metadata


class Dice(Protocol):
    """A source of chance: ``random.SystemRandom`` or a seeded ``random.Random``."""

    def randrange(self, start: int, stop: int = ..., /) -> int: ...

    def random(self) -> float: ...


@dataclass(frozen=True)
class OpenedLog:
    """A WAL ready for appending, its in-memory tail, and whose log it is."""

    wal: Wal
    tail: MemoryLog
    member_id: int
    cluster_id: int


def found_log(fs: IFilesystem, directory: str, plan: ClusterPlan) -> OpenedLog:
    """The log of a founding member: the same first entries on every one of them, taken for
    committed at term 1."""
    metadata = encode_metadata(plan.member_id, plan.cluster_id)
    wal = Wal.create(fs, directory, metadata)
    entries = bootstrap_entries(
        founding_member(each.name, each.peer_urls, plan.token) for each in plan.members
    )
    state = HardState(term=1, vote=0, commit=len(entries))
    wal.append(state, entries)
    wal.sync()
    return OpenedLog(wal, _tail(state, entries), plan.member_id, plan.cluster_id)


def reopen_log(fs: IFilesystem, directory: str) -> OpenedLog:
    """The log of an earlier run, from its beginning."""
    wal, contents = Wal.open(fs, directory, WalSnapshot())
    if contents.metadata is None:
        raise CorruptError(f"wal: {directory} has no metadata record")
    member, cluster = decode_metadata(contents.metadata)
    return OpenedLog(wal, _tail(contents.hard_state, contents.entries), member, cluster)


def consensus(opened: OpenedLog, config: RaftConfig, dice: Dice) -> RaftNode:
    return RaftNode(config, opened.tail, dice)


def _tail(state: HardState, entries: Sequence[Entry]) -> MemoryLog:
    tail = MemoryLog(state)
    tail.append(list(entries))
    return tail
