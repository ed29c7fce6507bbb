"""``/v2/members`` and ``/v2/machines``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from etcdtw.api.http.requests import HttpRequest, answer, json_in, plain_error
from etcdtw.api.v2.running import JSON, NO_ACCESS, run
from etcdtw.api.v2.users import Users
from etcdtw.api.v3.cluster import ClusterService
from etcdtw.errors import EtcdError
from etcdtw.ids import format_id
from etcdtw.membership import Members
from etcdtw.membership.errors import IDExists, IDNotFound, IDRemoved, PeerURLTaken
from etcdtw.membership.member import Member

MEMBERS_PREFIX = b"/v2/members"

ParseUrls = Callable[[list[str]], tuple[str, ...]]


def member_json(member: Member) -> str:
    """A member as this API shows it, without the empty lists that Go would leave out."""
    fields = {
        "id": format_id(member.id),
        "name": member.name,
        "peerURLs": list(member.peer_urls),
        "clientURLs": list(member.client_urls),
    }
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


class Machines:
    """``/v2/machines``: where clients may go."""

    def __init__(self, members: Members) -> None:
        self._members = members

    def render(self, request: HttpRequest, path: bytes) -> bytes:
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET,HEAD")
            return plain_error(request, 405, "Method Not Allowed")
        urls = sorted(url for each in self._members.all() for url in each.client_urls)
        return answer(request, 200, ", ".join(urls).encode(), b"text/plain; charset=utf-8")


class MembersPage:
    """``/v2/members`` and all below it."""

    def __init__(
        self,
        cluster: ClusterService,
        members: Members,
        cluster_id: int,
        leader: Callable[[], int],
        parse_urls: ParseUrls,
        users: Users,
    ) -> None:
        """``parse_urls`` raises ValueError, in etcd's words, for what is no list of peer URLs."""
        self._cluster = cluster
        self._members = members
        self._cluster_id = format_id(cluster_id).encode()
        self._leader = leader
        self._parse_urls = parse_urls
        self._users = users

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        request.setHeader(b"x-etcd-cluster-id", self._cluster_id)
        rest = path[len(MEMBERS_PREFIX) :].strip(b"/").decode("latin-1")
        handler = {
            b"GET": self._get,
            b"POST": self._add,
            b"PUT": self._update,
            b"DELETE": self._remove,
        }.get(request.method)
        if handler is None:
            request.setHeader(b"allow", b"GET,POST,DELETE,PUT")
            return plain_error(request, 405, "Method Not Allowed")
        if request.method != b"GET" and self._users.enabled:
            run(request, self._change_if_root(request, rest, handler))
            return None
        return handler(request, rest)

    async def _change_if_root(
        self,
        request: HttpRequest,
        rest: str,
        handler: Callable[[HttpRequest, str], bytes | None],
    ) -> None:
        if await self._users.is_root(request.getHeader(b"authorization") or b""):
            body = handler(request, rest)
        else:
            body = _refuse(request, 401, NO_ACCESS)
        if body is not None:
            request.write(body)
            request.finish()

    def _get(self, request: HttpRequest, rest: str) -> bytes:
        if not rest:
            listed = ",".join(member_json(each) for each in self._members.all())
            return _json(request, 200, f'{{"members":[{listed}]}}\n')
        if rest != "leader":
            return _refuse(request, 404, "Not found")
        leader = self._members.get(self._leader())
        if leader is None:
            return _refuse(request, 503, "During election")
        return _json(request, 200, member_json(leader) + "\n")

    def _add(self, request: HttpRequest, rest: str) -> bytes | None:
        urls = self._urls(request)
        if isinstance(urls, bytes):
            return urls

        def added(member: Member, error: EtcdError | None) -> bytes:
            if isinstance(error, PeerURLTaken | IDExists):
                return _refuse(request, 409, str(error))
            if error is not None:
                return _refuse(request, 500, "Internal Server Error")
            return _json(request, 201, member_json(member) + "\n")

        finish = _finishing(request)
        try:
            self._cluster.add(urls, lambda member, error: finish(added(member, error)))
        except EtcdError:
            return _refuse(request, 500, "Internal Server Error")
        return None

    def _remove(self, request: HttpRequest, rest: str) -> bytes | None:
        identity = self._identity(request, rest)
        if isinstance(identity, bytes):
            return identity
        finish = _finishing(request)
        try:
            self._cluster.remove(
                identity, lambda error: finish(self._changed(request, rest, error))
            )
        except EtcdError:
            return _refuse(request, 500, "Internal Server Error")
        return None

    def _update(self, request: HttpRequest, rest: str) -> bytes | None:
        identity = self._identity(request, rest)
        if isinstance(identity, bytes):
            return identity
        urls = self._urls(request)
        if isinstance(urls, bytes):
            return urls
        finish = _finishing(request)
        self._cluster.update(
            identity, urls, lambda error: finish(self._changed(request, rest, error))
        )
        return None

    def _changed(self, request: HttpRequest, rest: str, error: EtcdError | None) -> bytes:
        if error is None:
            request.setResponseCode(204)
            return b""
        if isinstance(error, IDRemoved):
            return _refuse(request, 410, f"Member permanently removed: {rest}")
        if isinstance(error, IDNotFound):
            return _refuse(request, 404, f"No such member: {rest}")
        if isinstance(error, PeerURLTaken):
            return _refuse(request, 409, str(error))
        return _refuse(request, 500, "Internal Server Error")

    def _identity(self, request: HttpRequest, rest: str) -> int | bytes:
        if not rest:
            return plain_error(request, 405, "Method Not Allowed")
        try:
            identity = int(rest, 16)
        except ValueError:
            return _refuse(request, 404, f"No such member: {rest}")
        return (
            identity
            if 0 <= identity < 1 << 64
            else _refuse(request, 404, f"No such member: {rest}")
        )

    def _urls(self, request: HttpRequest) -> tuple[str, ...] | bytes:
        header = (request.getHeader(b"content-type") or b"").decode("latin-1")
        kind = header.partition(";")[0]
        if kind != "application/json":
            text = f"Bad Content-Type {kind}, accept application/json"
            return _refuse(request, 415, text)
        try:
            found = json_in(request)
        except ValueError:
            return _refuse(request, 400, "unexpected end of JSON input")
        urls = found.get("peerURLs") if isinstance(found, dict) else None
        listed: Sequence[object] = urls if isinstance(urls, list) else ()
        try:
            return self._parse_urls([str(each) for each in listed])
        except ValueError as error:
            return _refuse(request, 400, str(error))


def _finishing(request: HttpRequest) -> Callable[[bytes], None]:
    """Finishes the request with a body, unless its client is gone."""
    gone: list[object] = []
    request.notifyFinish().addErrback(gone.append)

    def finish(body: bytes) -> None:
        if not gone:
            request.write(body)
            request.finish()

    return finish


def _json(request: HttpRequest, status: int, text: str) -> bytes:
    return answer(request, status, text.encode(), JSON)


def _refuse(request: HttpRequest, status: int, message: str) -> bytes:
    text = json.dumps({"message": message}, separators=(",", ":"), ensure_ascii=False)
    return _json(request, status, text)
