"""The plain HTTP/1.1 side of the client and peer ports: health, version, members."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Protocol

from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from etcdtw.errors import EtcdError
from etcdtw.ids import format_id
from etcdtw.version import ETCD_VERSION


class HealthView(Protocol):
    """What a health check looks at."""

    def raised_alarms(self) -> list[str]: ...

    def has_leader(self) -> bool: ...

    def read(self, waiter: Callable[[EtcdError | None], None]) -> None: ...


class ClusterView(Protocol):
    """The cluster as the peer port shows it."""

    cluster_id: int

    def version(self) -> str | None: ...

    def members_json(self) -> list[str]: ...


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def answer(request: Request, status: int, body: bytes, content_type: bytes) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", content_type)
    request.setHeader(b"content-length", b"%d" % len(body))
    return body


def plain_error(request: Request, status: int, text: str) -> bytes:
    """An error as Go's HTTP server words it."""
    request.setHeader(b"x-content-type-options", b"nosniff")
    return answer(request, status, text.encode() + b"\n", b"text/plain; charset=utf-8")


class Page:
    """Something to GET."""

    def render(self, request: Request) -> bytes | int:
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET")
            return plain_error(request, 405, "Method Not Allowed")
        return self.show(request)

    def show(self, request: Request) -> bytes | int:
        raise NotImplementedError


class Health(Page):
    """``/health``: alarms, then the leader, then a linearizable read (unless ``serializable``)."""

    def __init__(self, view: HealthView) -> None:
        self._view = view

    def show(self, request: Request) -> bytes | int:
        excluded = {each.decode("utf-8", "replace") for each in request.args.get(b"exclude", [])}
        for alarm in self._view.raised_alarms():
            if alarm not in excluded:
                return self._say(request, f"ALARM {alarm}")
        if not self._view.has_leader():
            return self._say(request, "RAFT NO LEADER")
        if request.args.get(b"serializable") == [b"true"]:
            return self._say(request, "")
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def ready(error: EtcdError | None) -> None:
            if not gone:
                request.write(self._say(request, f"RANGE ERROR:{error}" if error else ""))
                request.finish()

        self._view.read(ready)
        return NOT_DONE_YET

    @staticmethod
    def _say(request: Request, reason: str) -> bytes:
        body = _compact({"health": "false" if reason else "true", "reason": reason})
        return answer(request, 503 if reason else 200, body, b"text/plain; charset=utf-8")


class Version(Page):
    """``/version``: ours and the cluster's."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view

    def show(self, request: Request) -> bytes:
        body = _compact(
            {"etcdserver": ETCD_VERSION, "etcdcluster": self._view.version() or "not_decided"}
        )
        return answer(request, 200, body, b"application/json")


class Members(Page):
    """``/members`` of the peer port: what a joining member reads."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view

    def show(self, request: Request) -> bytes:
        request.setHeader(b"x-etcd-cluster-id", format_id(self._view.cluster_id).encode())
        body = f"[{','.join(self._view.members_json())}]\n".encode()
        return answer(request, 200, body, b"application/json")


@implementer(IResource)
class Root:
    """The routes of one port; whatever is not listed is etcd's 404. Serves every path itself, so
    that ``/health/`` is not ``/health``."""

    isLeaf = True
    server = None

    def __init__(self, routes: Mapping[bytes, Page], cors: bool) -> None:
        self._routes = routes
        self._cors = cors

    def getChildWithDefault(self, name: bytes, request: Request) -> IResource:
        return self

    def putChild(self, path: bytes, child: IResource) -> None:
        raise AssertionError("routes are given at construction")

    def render(self, request: Request) -> bytes | int:
        if self._cors:
            request.setHeader(
                b"access-control-allow-headers", b"accept, content-type, authorization"
            )
            request.setHeader(b"access-control-allow-methods", b"POST, GET, OPTIONS, PUT, DELETE")
            request.setHeader(b"access-control-allow-origin", b"*")
        request.responseHeaders.removeHeader(b"server")
        resource = self._routes.get(request.path)
        if resource is None:
            return plain_error(request, 404, "404 page not found")
        return resource.render(request)
