"""``--force-new-cluster``: one member of a lost cluster goes on alone, with all that it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from twisted.logger import Logger

from etcdtw.app.parts import OpenedLog
from etcdtw.ids import format_id
from etcdtw.membership import (
    Member,
    add_change,
    promote_change,
    remove_change,
    update_change,
)
from etcdtw.raft.codec import decode_conf_change, encode_conf_change
from etcdtw.raft.messages import ConfChange, ConfChangeType, ConfState, Entry, EntryType

log = Logger(namespace="etcdtw.member")


def stand_alone(opened: OpenedLog, peer_urls: Sequence[str], keyspace_index: int = 0) -> None:
    """End the log with the removal of all other members, durably, and take all of it for committed.

    etcd drops entries that its log does not call committed. Here they stay: the commit index on
    disk lags behind, so among them may be some whose writers were told that they are safe.

    A member that its own log does not know, as one that begins with a backup, is added with
    ``peer_urls``. ``etcdctl backup --with-v3`` of 3.4 leaves entries out and numbers the rest anew,
    but not the keyspace: up to ``keyspace_index`` the log is filled up, for what lies below would
    be taken for done.
    """
    tail = opened.tail
    state, _ = tail.initial_state()
    last = tail.last_index()
    known = known_members(opened)
    changes = [
        (EntryType.CONF_CHANGE, encode_conf_change(each))
        for each in _changes(opened.member_id, tuple(sorted(peer_urls)), known)
    ]
    filling = [(EntryType.NORMAL, None)] * max(0, keyspace_index - last)
    term = max(state.term, 1)  # one that has joined and heard nobody yet has none
    appended = [
        Entry(term=term, index=last + place, type=kind, data=data)
        for place, (kind, data) in enumerate([*filling, *changes], 1)
    ]
    committed = state._replace(term=term, commit=last + len(appended))
    opened.wal.append(committed, appended)
    opened.wal.sync()
    tail.append(appended)
    tail.set_hard_state(committed)
    log.info(
        "forced to be the only member",
        local_member_id=format_id(opened.member_id),
        removed=[format_id(each) for each in sorted(known.keys() - {opened.member_id})],
    )


def known_members(opened: OpenedLog) -> dict[int, bool]:
    """Who is a member at the end of a log, as ``members_after`` has it."""
    tail = opened.tail
    first, last = tail.first_index(), tail.last_index()
    entries = tail.entries(first, last + 1, None) if last >= first else []
    return members_after(opened.snapshot.conf_state, entries)


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


def _changes(
    own_id: int, peer_urls: tuple[str, ...], known: dict[int, bool]
) -> Iterator[ConfChange]:
    """The own vote first: a configuration without a voter is refused. Who is new gets his URLs
    last: until the others are gone one of them may have the same."""
    if own_id not in known:
        yield add_change(0, Member(own_id, ()))
    elif known[own_id]:
        yield promote_change(0, own_id)
    for each in sorted(known.keys() - {own_id}):
        yield remove_change(0, each)
    if own_id not in known:
        yield update_change(0, Member(own_id, peer_urls))
