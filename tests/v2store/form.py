"""Turns a recorded v2 HTTP request into the log entry that etcd makes of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from etcdtw.pb.etcdserver_pb2 import Request
from etcdtw.v2store import parse_time

SECOND = 10**9


def to_request(case: dict[str, Any], node: dict[str, Any]) -> Request:
    """The entry of a recorded write or quorum read; its expiration comes from the recorded
    answer (``node``), since it depended on the clock of that run."""
    url = urlsplit(case["path"])
    form = dict(parse_qsl(url.query, keep_blank_values=True))
    if "Content-Type" not in case.get("headers", {}):
        form.update(parse_qsl(case.get("body") or "", keep_blank_values=True))
    path = "/1" + unquote(url.path).removeprefix("/v2/keys").rstrip("/")
    method = "QGET" if case["method"] == "GET" else case["method"]
    request = Request(Method=method, Path=path, Val=form.get("value", ""))
    request.Dir = form.get("dir") == "true" or form.get("recursive") == "true"
    request.Recursive = form.get("recursive") == "true"
    request.Sorted = form.get("sorted") == "true"
    request.Refresh = form.get("refresh") == "true"
    request.PrevValue = form.get("prevValue", "")
    request.PrevIndex = int(form.get("prevIndex", 0))
    if "prevExist" in form:
        request.PrevExist = form["prevExist"] == "true"
    if "expiration" in node:
        request.Expiration = parse_time(node["expiration"])
    return request


def shown_at(node: dict[str, Any]) -> int:
    """A time at which ``node`` shows the ttl that it showed in the recording."""
    if "expiration" not in node:
        return 0
    return parse_time(node["expiration"]) - int(node.get("ttl", 0)) * SECOND
