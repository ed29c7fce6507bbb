"""``/members/promote/<id>``: a follower has the leader promote a learner."""

from __future__ import annotations

from etcdtw.api.http.requests import HttpRequest, answer, plain_error
from etcdtw.api.peer.leader import LeaderCaller
from etcdtw.api.v3.cluster import ClusterService, Done
from etcdtw.errors import (
    EtcdError,
    LearnerNotReady,
    MemberNotFound,
    MemberNotLearner,
    TimedOut,
    known_error,
)
from etcdtw.ids import format_id, parse_decimal
from etcdtw.membership import Members
from etcdtw.membership.errors import NotLearner
from etcdtw.peer.calling import Answered

PROMOTE_PREFIX = b"/members/promote/"


class PromoteTree:
    """Ids in this path are decimal."""

    def __init__(self, cluster: ClusterService, members: Members, cluster_id: int) -> None:
        self._cluster = cluster
        self._members = members
        self._cluster_id = cluster_id

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        if request.method != b"POST":
            request.setHeader(b"allow", b"POST")
            return plain_error(request, 405, "Method Not Allowed")
        request.setHeader(b"x-etcd-cluster-id", format_id(self._cluster_id).encode())
        text = path[len(PROMOTE_PREFIX) :].decode("latin-1")
        member_id = parse_decimal(text)
        if member_id is None:
            return plain_error(request, 404, f"member {text} not found in cluster")
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def done(error: EtcdError | None) -> None:
            if not gone:
                request.write(self._answer(request, error))
                request.finish()

        try:
            self._cluster.promote(member_id, done)
        except EtcdError as error:
            done(error)
        return None

    def _answer(self, request: HttpRequest, error: EtcdError | None) -> bytes:
        if error is None:
            listed = ",".join(each.json() for each in self._members.all())
            return answer(request, 200, f"[{listed}]\n".encode(), b"application/json")
        if isinstance(error, MemberNotFound):
            return plain_error(request, 404, "membership: ID not found")
        if isinstance(error, MemberNotLearner):
            return plain_error(request, 412, str(NotLearner()))
        if isinstance(error, LearnerNotReady):
            return plain_error(request, 412, str(error))
        return plain_error(request, 500, str(error))


class RemotePromoter:
    """Has the leader promote."""

    def __init__(self, leader: LeaderCaller, answer_seconds: float) -> None:
        self._leader = leader
        self._answer_seconds = answer_seconds

    def promote(self, member_id: int, done: Done) -> None:
        def accepted(answer: Answered) -> bool:
            text = answer.body.decode("utf-8", "replace").strip()
            if answer.status == 200:
                done(None)
            elif answer.status == 404:
                done(MemberNotFound())
            elif answer.status == 412 and text == str(NotLearner()):
                done(MemberNotLearner())
            elif answer.status == 412:
                done(known_error(LearnerNotReady.code, text))
            else:
                return False
            return True

        path = f"{PROMOTE_PREFIX.decode()}{member_id}"
        self._leader.post(path, b"", self._answer_seconds, accepted, lambda: done(TimedOut()))
