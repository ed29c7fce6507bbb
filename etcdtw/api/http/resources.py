"""The pages of plain HTTP on the client and peer ports: health, version, members."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from etcdtw.errors import EtcdError
from etcdtw.ids import format_id
from etcdtw.version import ETCD_VERSION


class HttpRequest(Protocol):
    """What pages need of ``twisted.web.http.Request``."""

    @property
    def method(self) -> bytes: ...

    @property
    def path(self) -> bytes: ...

    @property
    def args(self) -> Any: ...

    def setResponseCode(self, code: int) -> None: ...

    def setHeader(self, name: bytes, value: bytes) -> None: ...

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...

    def notifyFinish(self) -> Deferred[None]: ...


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


def answer(request: HttpRequest, status: int, body: bytes, content_type: bytes) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", content_type)
    request.setHeader(b"content-length", b"%d" % len(body))
    return body


def plain_error(request: HttpRequest, status: int, text: str) -> bytes:
    """An error as Go's HTTP server words it."""
    request.setHeader(b"x-content-type-options", b"nosniff")
    return answer(request, status, text.encode() + b"\n", b"text/plain; charset=utf-8")


class Page:
    """Something to GET. A body of None means that the page finishes the request later."""

    def render(self, request: HttpRequest) -> bytes | None:
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET")
            return plain_error(request, 405, "Method Not Allowed")
        return self.show(request)

    def show(self, request: HttpRequest) -> bytes | None:
        raise NotImplementedError


class Health(Page):
    """``/health``: alarms, then the leader, then a linearizable read (unless ``serializable``)."""

    def __init__(self, view: HealthView) -> None:
        self._view = view

    def show(self, request: HttpRequest) -> bytes | None:
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
        return None

    @staticmethod
    def _say(request: HttpRequest, reason: str) -> bytes:
        body = _compact({"health": "false" if reason else "true", "reason": reason})
        return answer(request, 503 if reason else 200, body, b"text/plain; charset=utf-8")


class Version(Page):
    """``/version``: ours and the cluster's."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view

    def show(self, request: HttpRequest) -> bytes:
        body = _compact(
            {"etcdserver": ETCD_VERSION, "etcdcluster": self._view.version() or "not_decided"}
        )
        return answer(request, 200, body, b"application/json")


class Members(Page):
    """``/members`` of the peer port: what a joining member reads."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view

    def show(self, request: HttpRequest) -> bytes:
        request.setHeader(b"x-etcd-cluster-id", format_id(self._view.cluster_id).encode())
        body = f"[{','.join(self._view.members_json())}]\n".encode()
        return answer(request, 200, body, b"application/json")
