"""``--force-new-cluster``: one member of a lost cluster goes on alone, with all that it has."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

from etcdtw.app.parts import OpenedLog
from etcdtw.ids import format_id
from etcdtw.membership import Member, add_change, promote_change, remove_change
from etcdtw.raft.codec import decode_conf_change, encode_conf_change
from etcdtw.raft.messages import ConfChange, ConfChangeType, ConfState, Entry, EntryType

LOST_PEER_URLS = ("http://localhost:2380", "http://localhost:7001")
"""What etcd gives a member that its own log does not know; ``member update`` corrects it."""

log = Logger(namespace="etcdtw.member")


def stand_alone(opened: OpenedLog) -> None:
    """End the log with the removal of all other members, durably, and take all of it for committed.

    etcd drops entries that its log does not call committed. Here they stay: the commit index on
    disk lags behind, so among them may be some whose writers were told that they are safe.
    """
    tail = opened.tail
    state, _ = tail.initial_state()
    first, last = tail.first_index(), tail.last_index()
    entries = tail.entries(first, last + 1, None) if last >= first else []
    known = members_after(opened.snapshot.conf_state, entries)
    appended = [
        Entry(
            term=state.term,
            index=last + place,
            type=EntryType.CONF_CHANGE,
            data=encode_conf_change(change),
        )
        for place, change in enumerate(_changes(opened.member_id, known), 1)
    ]
    committed = state._replace(commit=last + len(appended))
    opened.wal.append(committed, appended)
    opened.wal.sync()
    tail.append(appended)
    tail.set_hard_state(committed)
    log.info(
        "forced to be the only member",
        local_member_id=format_id(opened.member_id),
        removed=[format_id(each) for each in sorted(known.keys() - {opened.member_id})],
    )


def members_after(conf_state: ConfState, entries: Iterable[Entry]) -> dict[int, bool]:
    """Who is a member once these entries were applied to this configuration, by id, and whether
    he is a learner."""
    known = dict.fromkeys(conf_state.voters, False) | dict.fromkeys(conf_state.learners, True)
    for entry in entries:
        if entry.type == EntryType.CONF_CHANGE:
            change = decode_conf_change(entry.data or b"")
            if change.type == ConfChangeType.REMOVE_NODE:
                known.pop(change.node_id, None)
            elif change.type != ConfChangeType.UPDATE_NODE:
                known[change.node_id] = change.type == ConfChangeType.ADD_LEARNER_NODE
    return known


def _changes(own_id: int, known: dict[int, bool]) -> Iterable[ConfChange]:
    """The own vote first: a configuration without a voter is refused."""
    if own_id not in known:
        yield add_change(0, Member(own_id, LOST_PEER_URLS))
    elif known[own_id]:
        yield promote_change(0, own_id)
    for each in sorted(known.keys() - {own_id}):
        yield remove_change(0, each)
