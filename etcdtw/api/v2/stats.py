"""``/v2/stats``: what this member did, what its followers do, what was asked of the tree."""

from __future__ import annotations

import json
from collections.abc import Callable

from etcdtw.api.http.requests import HttpRequest, answer, plain_error
from etcdtw.ids import format_id
from etcdtw.membership import Members
from etcdtw.replica.replica import Replica
from etcdtw.v2store import V2Store
from etcdtw.v2store.times import format_time

STATS_PREFIX = b"/v2/stats/"
JSON = b"application/json"

_STATES = {True: "StateLeader", False: "StateFollower"}


class Stats:
    """The three pages, over one life of the member."""

    def __init__(
        self,
        replica: Replica,
        members: Members,
        store: V2Store,
        identity: int,
        name: str,
        wall_seconds: Callable[[], float],
    ) -> None:
        self._replica = replica
        self._members = members
        self._store = store
        self._identity = identity
        self._name = name
        self._wall_seconds = wall_seconds
        self._begun = self._leader_since = int(wall_seconds() * 1e9)
        replica.on_leader_change.append(self._leader_changed)

    def render(self, request: HttpRequest, path: bytes) -> bytes:
        if request.method != b"GET":
            request.setHeader(b"allow", b"GET")
            return plain_error(request, 405, "Method Not Allowed")
        what = path[len(STATS_PREFIX) :]
        if what == b"self":
            return answer(request, 200, self._self().encode(), JSON)
        if what == b"store":
            return answer(request, 200, self._store.stats_json().encode(), JSON)
        if what == b"leader":
            if not self._replica.is_leader:
                return answer(request, 403, b'{"message":"not current leader"}', JSON)
            return answer(request, 200, self._followers().encode(), JSON)
        return plain_error(request, 404, "404 page not found")

    def _leader_changed(self, leader: int) -> None:
        self._leader_since = int(self._wall_seconds() * 1e9)

    def _self(self) -> str:
        now = int(self._wall_seconds() * 1e9)
        leader = self._replica.leader
        return _dumps(
            {
                "name": self._name,
                "id": format_id(self._identity),
                "state": _STATES[self._replica.is_leader],
                "startTime": format_time(self._begun),
                "leaderInfo": {
                    "leader": format_id(leader) if leader else "",
                    "uptime": f"{(now - self._leader_since) / 1e9:.9f}s",
                    "startTime": format_time(self._leader_since),
                },
                "recvAppendRequestCnt": 0,
                "sendAppendRequestCnt": 0,
            }
        )

    def _followers(self) -> str:
        zeros = {"current": 0, "average": 0, "standardDeviation": 0, "minimum": 0, "maximum": 0}
        followers = {
            format_id(each.id): {"latency": zeros, "counts": {"fail": 0, "success": 0}}
            for each in self._members.all()
            if each.id != self._identity
        }
        return _dumps({"leader": format_id(self._identity), "followers": followers})


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
