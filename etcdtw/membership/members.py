"""Who belongs to the cluster: kept in the v2 tree, which decides, and copied to the backend."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from etcdtw.ids import format_id
from etcdtw.membership.errors import (
    IDExists,
    IDNotFound,
    IDRemoved,
    MembershipError,
    NotLearner,
    PeerURLTaken,
    TooManyLearners,
)
from etcdtw.membership.member import (
    MEMBERS_PATH,
    REMOVED_PATH,
    VERSION_PATH,
    Member,
    parse_context,
    parse_member,
    parse_object,
)
from etcdtw.mvcc.interfaces import IBackend
from etcdtw.raft.messages import ConfChange, ConfChangeType
from etcdtw.v2store import V2Code, V2Error, V2Store

LEARNERS_MAX = 1
"""Learners at a time in a cluster (etcd 3.4 and 3.5)."""

_MEMBERS = b"members"
_REMOVED = b"members_removed"
_CLUSTER = b"cluster"
_CLUSTER_VERSION = b"clusterVersion"
_DOWNGRADE = b"downgrade"


class Members:
    """The members, the ids that were removed, and the cluster's version.

    ``version`` is text like ``3.5.0``, None until the leader has set it. Changes arrive in log
    order on every member. ``to_backend`` False leaves the backend alone: it has seen the entry
    already, and only the tree, which is younger in memory than on disk, has not.
    """

    def __init__(self, store: V2Store, backend: IBackend | None = None) -> None:
        self._store = store
        self._backend = backend
        self._members: dict[int, Member] = {}
        self.removed: set[int] = set()
        self.version: str | None = None
        self.on_version: list[Callable[[str | None, str], None]] = []
        """Called with the version before, None for none, and the new one."""

    # --- reads ---------------------------------------------------------------------------------

    def get(self, identity: int) -> Member | None:
        return self._members.get(identity)

    def all(self) -> list[Member]:
        """All members, by ascending id."""
        return [self._members[each] for each in sorted(self._members)]

    def voters(self) -> list[Member]:
        """The members that vote, by ascending id."""
        return [each for each in self.all() if not each.is_learner]

    # --- recovery ------------------------------------------------------------------------------

    def stored_version(self) -> str | None:
        """The cluster version as the backend has it."""
        found = None if self._backend is None else self._backend.get(_CLUSTER, _CLUSTER_VERSION)
        return None if found is None else found.decode()

    def all_stored(self) -> list[Member]:
        """Members as the backend has them, which at a start is ahead of the tree: that becomes
        what it was only while the log is applied again."""
        if self._backend is None:
            return []
        return [parse_member(data) for _, data in self._backend.scan(_MEMBERS, b"", None)]

    def use_backend(self, backend: IBackend) -> None:
        """Continue on another backend (one that came with a snapshot)."""
        self._backend = backend

    def recover(self) -> None:
        """Take everything over from the v2 tree."""
        self.version = self._stored_version()
        self._members, self.removed = self._stored_members()

    def _stored_version(self) -> str | None:
        try:
            return self._store.get(VERSION_PATH).node.value
        except V2Error as error:
            _expect_missing(error)
            return None

    def _stored_members(self) -> tuple[dict[int, Member], set[int]]:
        members: dict[int, Member] = {}
        removed: set[int] = set()
        try:
            listing = self._store.get(MEMBERS_PATH, recursive=True, is_sorted=True)
        except V2Error as error:
            _expect_missing(error)
            return members, removed
        for directory in listing.node.nodes or ():
            values = {each.key: each.value or "" for each in directory.nodes or ()}
            member = _stored_member(directory.key, values)
            members[member.id] = member
        try:
            listing = self._store.get(REMOVED_PATH, recursive=True, is_sorted=True)
        except V2Error as error:
            _expect_missing(error)
            return members, removed
        removed.update(_id_of(each.key) for each in listing.node.nodes or ())
        return members, removed

    # --- membership changes --------------------------------------------------------------------

    def check(self, change: ConfChange) -> MembershipError | None:
        """Why a change may not take effect, or None. Asked by the proposer, and again by every
        member when the change is applied: others may have come in between.

        Reads the tree, as etcd does, which shows in the tree's read counters.
        """
        members, removed = self._stored_members()
        identity = change.node_id
        if identity in removed:
            return IDRemoved()
        member = members.get(identity)
        if change.type == ConfChangeType.REMOVE_NODE:
            return None if member else IDNotFound()
        others = [each for each in members.values() if each.id != identity]
        context = parse_context(change.context or b"")
        if change.type == ConfChangeType.UPDATE_NODE:
            if member is None:
                return IDNotFound()
            return _check_urls(context.member, others)
        if context.is_promote:
            if member is None:
                return IDNotFound()
            return None if member.is_learner else NotLearner()
        if member is not None:
            return IDExists()
        learners = sum(each.is_learner for each in others)
        if context.member.is_learner and learners >= LEARNERS_MAX:
            return _check_urls(context.member, others) or TooManyLearners()
        return _check_urls(context.member, others)

    def apply(self, change: ConfChange, to_backend: bool = True) -> None:
        """Record a change that ``check`` has let pass and that Raft has taken over."""
        identity = change.node_id
        if change.type == ConfChangeType.REMOVE_NODE:
            self._remove(identity, to_backend)
            return
        context = parse_context(change.context or b"")
        if change.type == ConfChangeType.UPDATE_NODE:
            urls, is_learner = context.member.peer_urls, context.member.is_learner
            member = replace(self._members[identity], peer_urls=urls, is_learner=is_learner)
        elif context.is_promote:
            member = replace(self._members[identity], is_learner=False)
        else:
            self._add(context.member, to_backend)
            return
        self._store.update(member.path + "/raftAttributes", member.raft_attributes_json())
        self._keep(member, to_backend)

    def _add(self, member: Member, to_backend: bool) -> None:
        self._store.create(member.path + "/raftAttributes", member.raft_attributes_json())
        self._keep(member, to_backend)

    def _remove(self, identity: int, to_backend: bool) -> None:
        name = format_id(identity)
        self._store.delete(f"{MEMBERS_PATH}/{name}", recursive=True)
        self._store.create(f"{REMOVED_PATH}/{name}")
        if to_backend and self._backend is not None:
            self._backend.delete(_MEMBERS, name.encode())
            self._backend.put(_REMOVED, name.encode(), b"removed")
        del self._members[identity]
        self.removed.add(identity)

    # --- what members and the leader publish ---------------------------------------------------

    def publish(self, identity: int, attributes: str, to_backend: bool = True) -> bool:
        """Take a member's name and client URLs from ``attributes`` (JSON).

        False when the member has been removed meanwhile. Raises ValueError for other JSON, and
        KeyError for a member that never was: both mean that the log is not ours.
        """
        fields = parse_object(attributes)
        urls = tuple(fields.get("clientURLs") or ())
        return self.set_attributes(identity, fields.get("name", ""), urls, to_backend)

    def set_attributes(
        self, identity: int, name: str, client_urls: tuple[str, ...], to_backend: bool = True
    ) -> bool:
        """The same as values."""
        member = self._members.get(identity)
        if member is None:
            if identity in self.removed:
                return False
            raise KeyError(f"attributes of unknown member {format_id(identity)}")
        member = replace(member, name=name, client_urls=client_urls)
        self._store.set(member.path + "/attributes", member.attributes_json())
        self._keep(member, to_backend)
        return True

    def set_version(self, version: str, to_backend: bool = True) -> None:
        """Set the cluster's version, text like ``3.5.0``."""
        self._store.set(VERSION_PATH, version)
        if to_backend and self._backend is not None:
            self._backend.put(_CLUSTER, _CLUSTER_VERSION, version.encode())
        before, self.version = self.version, version
        if before != version:
            for each in self.on_version:
                each(before, version)

    def set_downgrade(self, enabled: bool, target: str) -> None:
        """Note that the cluster is about to become ``target``, or is not (etcdctl downgrade)."""
        wanted = target if enabled else ""
        info = {"target-version": wanted, "enabled": enabled}
        if self._backend is not None:
            data = json.dumps(info, separators=(",", ":")).encode()
            self._backend.put(_CLUSTER, _DOWNGRADE, data)

    @property
    def downgrade_target(self) -> str | None:
        """The version that the cluster is about to become, like ``3.4.0``; None: it stays."""
        found = None if self._backend is None else self._backend.get(_CLUSTER, _DOWNGRADE)
        info = {} if found is None else parse_object(found)
        return str(info.get("target-version", "")) if info.get("enabled") is True else None

    def _keep(self, member: Member, to_backend: bool) -> None:
        if to_backend and self._backend is not None:
            self._backend.put(_MEMBERS, format_id(member.id).encode(), member.json().encode())
        self._members[member.id] = member


def _check_urls(member: Member, others: list[Member]) -> MembershipError | None:
    taken = {url for each in others for url in each.peer_urls}
    return None if taken.isdisjoint(member.peer_urls) else PeerURLTaken()


def _expect_missing(error: V2Error) -> None:
    """Absent is the one fault that the fixed paths of the tree may have."""
    if error.code is not V2Code.KEY_NOT_FOUND:
        raise error


def _id_of(path: str) -> int:
    return int(path.rpartition("/")[2], 16)


def _stored_member(path: str, values: dict[str, str]) -> Member:
    """A member from its directory in the tree. Raises ValueError when it is not one."""
    if path + "/raftAttributes" not in values:
        raise ValueError(f"{path} has no raftAttributes")
    raft_attributes = parse_object(values[path + "/raftAttributes"])
    attributes = parse_object(values.get(path + "/attributes") or "{}")
    return Member(
        _id_of(path),
        tuple(raft_attributes.get("peerURLs") or ()),
        attributes.get("name", ""),
        tuple(attributes.get("clientURLs") or ()),
        raft_attributes.get("isLearner", False) is True,
    )
