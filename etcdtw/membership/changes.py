"""Configuration changes as they go into the log."""

from __future__ import annotations

from collections.abc import Iterable

from etcdtw.membership.member import Member, promotion_json
from etcdtw.raft.codec import encode_conf_change
from etcdtw.raft.messages import ConfChange, ConfChangeType, ConfState, Entry, EntryType


def add_change(request_id: int, member: Member) -> ConfChange:
    """Add a voter, or a learner."""
    kind = ConfChangeType.ADD_LEARNER_NODE if member.is_learner else ConfChangeType.ADD_NODE
    return _change(request_id, kind, member.id, member.json().encode())


def update_change(request_id: int, member: Member) -> ConfChange:
    """Give a member other peer URLs. etcd's update carries no learner flag, so that a learner
    stays one only if ``member`` says so."""
    return _change(request_id, ConfChangeType.UPDATE_NODE, member.id, member.json().encode())


def promote_change(request_id: int, identity: int) -> ConfChange:
    """Turn a learner into a voter."""
    context = promotion_json(identity).encode()
    return _change(request_id, ConfChangeType.ADD_NODE, identity, context)


def remove_change(request_id: int, identity: int) -> ConfChange:
    """Remove a member for good."""
    return _change(request_id, ConfChangeType.REMOVE_NODE, identity, None)


def bootstrap_entries(members: Iterable[Member]) -> list[Entry]:
    """The first entries of a new cluster: every founding member writes the same ones, at term 1,
    and takes them for committed."""
    ordered = sorted(members, key=lambda each: each.id)
    return [
        Entry(
            term=1,
            index=index,
            type=EntryType.CONF_CHANGE,
            data=encode_conf_change(add_change(0, member)),
        )
        for index, member in enumerate(ordered, 1)
    ]


def conf_state_json(conf_state: ConfState) -> str:
    """The record ``confState`` of the backend's ``meta`` bucket (etcd 3.5)."""
    learners = f',"learners":{_ids(conf_state.learners)}' if conf_state.learners else ""
    return f'{{"voters":{_ids(conf_state.voters)}{learners},"auto_leave":false}}'


def _ids(identities: Iterable[int]) -> str:
    return "[" + ",".join(map(str, identities)) + "]"


def _change(
    request_id: int, kind: ConfChangeType, identity: int, context: bytes | None
) -> ConfChange:
    return ConfChange(id=request_id, type=kind, node_id=identity, context=context)
