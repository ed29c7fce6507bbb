"""Requests whose answer takes several steps."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from etcdtw.api.http.requests import HttpRequest, answer
from etcdtw.api.v2.users import compact
from etcdtw.errors import EtcdError

JSON = b"application/json"
NO_ACCESS = "Insufficient credentials"

log = Logger(namespace="etcdtw.v2")


def run(request: HttpRequest, work: Any) -> None:
    """Have a coroutine answer a request. A client that is gone ends it."""
    gone: list[object] = []
    running = Deferred.fromCoroutine(work)

    def client_gone(failure: Any) -> None:
        gone.append(failure)
        running.cancel()

    request.notifyFinish().addErrback(client_gone)

    def failed(failure: Any) -> None:
        if gone:
            return
        if not failure.check(EtcdError):
            log.failure("a request of the v2 API failed", failure)
        finish(request, 500, {"message": "Internal Server Error"}, end="")

    running.addErrback(failed)


def finish(request: HttpRequest, status: int, found: object, end: str = "\n") -> None:
    """Answer with JSON; None is an empty body."""
    body = "" if found is None else compact(found) + end
    request.write(answer(request, status, body.encode(), JSON))
    request.finish()
