"""``/members/promote/<id>``: a follower has the leader promote a learner."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from etcdtw.api.http.requests import HttpRequest, answer, plain_error
from etcdtw.api.v3.cluster import ClusterService, Done
from etcdtw.errors import (
    EtcdError,
    LearnerNotReady,
    MemberNotFound,
    MemberNotLearner,
    TimedOut,
    known_error,
)
from etcdtw.ids import format_id
from etcdtw.membership import Members
from etcdtw.membership.errors import NotLearner
from etcdtw.peer.calling import Answered, HttpCaller

PROMOTE_PREFIX = b"/members/promote/"
RETRY_SECONDS = 0.05


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
        if not text.isdecimal() or int(text) >= 1 << 64:
            return plain_error(request, 404, f"member {text} not found in cluster")
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def done(error: EtcdError | None) -> None:
            if not gone:
                request.write(self._answer(request, error))
                request.finish()

        try:
            self._cluster.promote(int(text), done)
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


class RemoteCluster:
    """Has the leader promote, at each of its peer URLs in turn."""

    def __init__(
        self,
        caller: HttpCaller,
        leader_urls: Callable[[], Sequence[str]],
        timeout_seconds: float,
    ) -> None:
        self._caller = caller
        self._leader_urls = leader_urls
        self._timeout = timeout_seconds

    def promote(self, member_id: int, done: Done) -> None:
        clock = self._caller.reactor
        until = clock.seconds() + self._timeout
        turn = 0

        def attempt() -> None:
            nonlocal turn
            urls = self._leader_urls()
            if clock.seconds() >= until:
                done(TimedOut())
                return
            if not urls:
                again()
                return
            url = f"{urls[turn % len(urls)]}/members/promote/{member_id}"
            turn += 1
            call = self._caller.call(b"POST", url, {}, b"", self._timeout)
            call.addCallbacks(got, lambda _: again())

        def got(response: Answered) -> None:
            text = response.body.decode("utf-8", "replace").strip()
            if response.status == 200:
                done(None)
            elif response.status == 404:
                done(MemberNotFound())
            elif response.status == 412 and text == str(NotLearner()):
                done(MemberNotLearner())
            elif response.status == 412:
                done(known_error(LearnerNotReady.code, text))
            else:
                again()

        def again() -> None:
            clock.callLater(RETRY_SECONDS, attempt)

        attempt()
