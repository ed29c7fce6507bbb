"""The pages of plain HTTP on the client and peer ports: health, version, members."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Protocol

from etcdtw.api.http.requests import HttpRequest, answer, plain_error
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


class Page:
    """Something to GET. A body of None means that the page finishes the request later."""

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        if request.method != b"GET":
            request.setHeader(b"allow", b"GET")
            return plain_error(request, 405, "Method Not Allowed")
        return self.show(request)

    def show(self, request: HttpRequest) -> bytes | None:
        raise NotImplementedError


class Health(Page):
    """``/health``: alarms, then the leader, then a linearizable read (unless ``serializable``)."""

    def __init__(self, view: HealthView) -> None:
        self._view = view
        self.successes = self.failures = 0

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

    def _say(self, request: HttpRequest, reason: str) -> bytes:
        body = _compact({"health": "false" if reason else "true", "reason": reason})
        if reason:
            self.failures += 1
            return plain_error(request, 503, body.decode())
        self.successes += 1
        return answer(request, 200, body, b"text/plain; charset=utf-8")


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


class DowngradeEnabled(Page):
    """``/downgrade/enabled`` of the peer port: whether the cluster is about to become older."""

    def __init__(self, view: ClusterView, enabled: Callable[[], bool]) -> None:
        self._view = view
        self._enabled = enabled

    def show(self, request: HttpRequest) -> bytes:
        request.setHeader(b"x-etcd-cluster-id", format_id(self._view.cluster_id).encode())
        body = b"true" if self._enabled() else b"false"
        return answer(request, 200, body, b"text/plain")
