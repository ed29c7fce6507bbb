"""The Cluster service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from etcdtw.api.v3.canonical import canonical
from etcdtw.apply.header import HeaderSource
from etcdtw.errors import (
    EtcdError,
    LearnerNotReady,
    MemberBadURLs,
    MemberNotFound,
    NotLeader,
    TimedOut,
)
from etcdtw.membership import Member as ClusterMember
from etcdtw.membership import Members
from etcdtw.membership.changes import (
    add_change,
    promote_change,
    remove_change,
    update_change,
)
from etcdtw.membership.errors import MembershipError
from etcdtw.membership.member import added_member
from etcdtw.membership.quorum_checks import check_add, check_promote, check_remove
from etcdtw.pb.rpc_pb2 import (
    Member,
    MemberAddRequest,
    MemberAddResponse,
    MemberListRequest,
    MemberListResponse,
    MemberPromoteRequest,
    MemberPromoteResponse,
    MemberRemoveRequest,
    MemberRemoveResponse,
    MemberUpdateRequest,
    MemberUpdateResponse,
)
from etcdtw.raft.codec import encode_conf_change
from etcdtw.raft.messages import ConfChange
from etcdtw.replica.proposal import ConfChangeProposal
from etcdtw.replica.replica import Replica
from etcdtw.rpc import Router, UnaryCall

ACTIVE_SECONDS = 5.0
"""A member counts as connected when it has been for so long."""
READY_PERCENT = 90
"""Of the leader's log that a learner must have before it may vote."""

Done = Callable[[EtcdError | None], None]


class Connections(Protocol):
    """Who is connected to this member."""

    def active_ids(self, seconds: float) -> set[int]: ...

    def is_active(self, member_id: int) -> bool: ...


class LeaderCluster(Protocol):
    """Promotion by a leader elsewhere."""

    def promote(self, member_id: int, done: Done) -> None: ...


class ClusterService:
    """``etcdserverpb.Cluster``. Headers of this service carry no revision, as in etcd."""

    def __init__(
        self,
        replica: Replica,
        members: Members,
        header: HeaderSource,
        connections: Connections,
        strict: bool,
        wall_seconds: Callable[[], float],
        valid_url: Callable[[str], bool],
        elsewhere: LeaderCluster | None = None,
    ) -> None:
        """``strict`` is ``--strict-reconfig-check``."""
        self._replica = replica
        self._members = members
        self._header = header
        self._connections = connections
        self._strict = strict
        self._wall_seconds = wall_seconds
        self._valid_url = valid_url
        self._elsewhere = elsewhere
        self.promotions = 0

    def register(self, router: Router) -> None:
        for name, handler in (
            ("MemberList", self.member_list),
            ("MemberAdd", self.member_add),
            ("MemberRemove", self.member_remove),
            ("MemberUpdate", self.member_update),
            ("MemberPromote", self.member_promote),
        ):
            router.add_unary(f"/etcdserverpb.Cluster/{name}", handler)

    def member_list(self, call: UnaryCall, body: bytes) -> None:
        request, _ = canonical(MemberListRequest, body)
        if not request.linearizable:
            call.reply(self._listing())
            return

        def ready(error: EtcdError | None) -> None:
            if error is None:
                call.reply(self._listing())
            else:
                call.fail(error)

        self._replica.read(ready)

    def _listing(self) -> bytes:
        listed = MemberListResponse(members=self.shown_members())
        return self._header.encode(0) + listed.SerializeToString()

    def shown_members(self) -> list[Member]:
        return [_shown(each) for each in self._members.all()]

    # --- changes ---------------------------------------------------------------------------------

    def member_add(self, call: UnaryCall, body: bytes) -> None:
        request, _ = canonical(MemberAddRequest, body)
        _check_urls(request.peerURLs, self._valid_url)
        urls = tuple(sorted(request.peerURLs))

        def added(member: ClusterMember, error: EtcdError | None) -> None:
            def answer() -> bytes:
                response = MemberAddResponse(member=_shown(member), members=self.shown_members())
                return response.SerializeToString()

            self._answering(call, answer)(error)

        self.add(urls, added, request.isLearner)

    def member_remove(self, call: UnaryCall, body: bytes) -> None:
        request, _ = canonical(MemberRemoveRequest, body)

        def answer() -> bytes:
            return MemberRemoveResponse(members=self.shown_members()).SerializeToString()

        self.remove(request.ID, self._answering(call, answer))

    def member_update(self, call: UnaryCall, body: bytes) -> None:
        request, _ = canonical(MemberUpdateRequest, body)
        # Members of etcd end at a URL that they cannot use, and at every start after it.
        _check_urls(request.peerURLs, self._valid_url)

        def answer() -> bytes:
            return MemberUpdateResponse(members=self.shown_members()).SerializeToString()

        self.update(request.ID, tuple(request.peerURLs), self._answering(call, answer))

    def member_promote(self, call: UnaryCall, body: bytes) -> None:
        request, _ = canonical(MemberPromoteRequest, body)

        def answer() -> bytes:
            return MemberPromoteResponse(members=self.shown_members()).SerializeToString()

        done = self._answering(call, answer)
        try:
            self.promote(request.ID, done)
        except NotLeader:
            if self._elsewhere is None:
                raise TimedOut from None
            self._elsewhere.promote(request.ID, done)

    # --- the same for other APIs -----------------------------------------------------------------

    def add(
        self,
        urls: tuple[str, ...],
        done: Callable[[ClusterMember, EtcdError | None], None],
        is_learner: bool = False,
    ) -> None:
        """Add a member with these sorted URLs; ``done`` gets it, and a MembershipError or another
        reason why it was not added. Raises what forbids to try."""
        if self._strict:
            _raise(check_add(self._members, is_learner, self._active()))
        member = added_member(urls, int(self._wall_seconds()), is_learner)
        self._propose(add_change(self._next(), member), lambda error: done(member, error))

    def remove(self, member_id: int, done: Done) -> None:
        """Remove a member; raises what forbids to try."""
        if self._strict:
            is_active = self._connections.is_active(member_id)
            _raise(check_remove(self._members, member_id, self._active(), is_active))
        self._propose(remove_change(self._next(), member_id), done)

    def update(self, member_id: int, urls: tuple[str, ...], done: Done) -> None:
        """Give a member other peer URLs."""
        member = ClusterMember(member_id, urls)
        self._propose(update_change(self._next(), member), done)

    def promote(self, member_id: int, done: Done) -> None:
        """Make a learner a voter. NotLeader, LearnerNotReady and others that forbid it."""
        if not self._replica.is_leader:
            raise NotLeader
        member = self._members.get(member_id)
        if member is not None and member.is_learner:
            self._check_ready(member_id)
        if member is None:
            raise MemberNotFound
        if self._strict:
            _raise(check_promote(self._members))

        def promoted(error: EtcdError | None) -> None:
            if error is None:
                self.promotions += 1
            done(error.for_v3() if isinstance(error, MembershipError) else error)

        self._propose(promote_change(self._next(), member_id), promoted)

    def _check_ready(self, member_id: int) -> None:
        progress = self._replica.node.progress()
        learner = progress.get(member_id)
        leader = progress.get(self._replica.node.id)
        if learner is None or leader is None:
            raise LearnerNotReady
        if learner.match * 100 < leader.match * READY_PERCENT:
            raise LearnerNotReady

    def _next(self) -> int:
        return self._replica.ids.next()

    def _active(self) -> set[int]:
        return self._connections.active_ids(ACTIVE_SECONDS)

    def _propose(self, change: ConfChange, done: Done) -> None:
        def applied(result: object) -> None:
            done(result if isinstance(result, EtcdError) else None)

        data = encode_conf_change(change)
        self._replica.propose(ConfChangeProposal(data, "conf_change", change, applied))

    def _answering(self, call: UnaryCall, answer: Callable[[], bytes]) -> Done:
        def done(error: EtcdError | None) -> None:
            if error is None:
                call.reply(self._header.encode(0) + answer())
            elif isinstance(error, MembershipError):
                call.fail(error.for_v3())
            else:
                call.fail(error)

        return done


def _shown(member: ClusterMember) -> Member:
    return Member(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )


def _check_urls(urls: Sequence[str], valid: Callable[[str], bool]) -> None:
    if not urls or not all(map(valid, urls)):
        raise MemberBadURLs


def _raise(error: EtcdError | None) -> None:
    if error is not None:
        raise error
