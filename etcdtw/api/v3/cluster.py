"""The Cluster service."""

from __future__ import annotations

from etcdtw.api.v3.canonical import canonical
from etcdtw.apply.header import HeaderSource
from etcdtw.errors import EtcdError
from etcdtw.membership import Members
from etcdtw.pb.rpc_pb2 import Member, MemberListRequest, MemberListResponse
from etcdtw.replica.replica import Replica
from etcdtw.rpc import Router, UnaryCall


class ClusterService:
    """``etcdserverpb.Cluster``. Headers of this service carry no revision, as in etcd."""

    def __init__(self, replica: Replica, members: Members, header: HeaderSource) -> None:
        self._replica = replica
        self._members = members
        self._header = header

    def register(self, router: Router) -> None:
        router.add_unary("/etcdserverpb.Cluster/MemberList", self.member_list)

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
        listed = MemberListResponse(
            members=[
                Member(
                    ID=each.id,
                    name=each.name,
                    peerURLs=each.peer_urls,
                    clientURLs=each.client_urls,
                    isLearner=each.is_learner,
                )
                for each in self._members.all()
            ]
        )
        return self._header.encode(0) + listed.SerializeToString()
