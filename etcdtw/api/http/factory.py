"""HTTP/1.1 on a port: a path finds its page, and whatever is not listed is etcd's 404."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.web.http import HTTPChannel, Request, datetimeToString

from etcdtw.api.http.resources import HttpRequest, Page, plain_error

IDLE_SECONDS = 60.0
"""How long a connection may keep us waiting for the next bytes of a request."""

_CORS_HEADERS = (
    (b"access-control-allow-headers", b"accept, content-type, authorization"),
    (b"access-control-allow-methods", b"POST, GET, OPTIONS, PUT, DELETE"),
    (b"access-control-allow-origin", b"*"),
)


class RoutedRequest(Request):
    """A request that the pages of its factory answer."""

    def process(self) -> None:
        factory: HttpFactory = self.channel.factory
        factory.serve(self)


class HttpFactory(ServerFactory[Any]):
    """Serves the pages of one port. Paths match as a whole: ``/health/`` is not ``/health``. With
    ``cors`` the pages of any web site may read the answers.

    It does without ``twisted.web.server``, whose sessions, templates and perspective broker would
    take 3 MiB of every member's memory, and without an access log, which etcd has not either.
    """

    noisy = False

    def __init__(self, routes: Mapping[bytes, Page], clock: IReactorTime, cors: bool) -> None:
        self._routes = routes
        self._clock = clock
        self._cors = cors

    def buildProtocol(self, addr: object) -> HTTPChannel:
        channel: Any = HTTPChannel()
        channel.factory = self
        channel.requestFactory = RoutedRequest
        channel.callLater = self._clock.callLater
        channel.timeOut = IDLE_SECONDS
        return cast(HTTPChannel, channel)

    def serve(self, request: HttpRequest) -> None:
        """Answer, now or when the page is ready to."""
        request.setHeader(b"date", datetimeToString())
        if self._cors:
            for name, value in _CORS_HEADERS:
                request.setHeader(name, value)
        page = self._routes.get(request.path)
        if page is None:
            body: bytes | None = plain_error(request, 404, "404 page not found")
        else:
            body = page.render(request)
        if body is not None:
            request.write(body)
            request.finish()

    def log(self, request: HttpRequest) -> None:
        """For the channel: a request was answered."""
