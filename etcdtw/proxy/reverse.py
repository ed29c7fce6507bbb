"""Requests of the v2 API on their way to a member, and its answers on their way back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import IO, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from etcdtw.proxy.director import Director

CONFIG_PATH = b"/v2/config/local/proxy"
JSON = b"application/json"
HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te",
        b"trailers", b"transfer-encoding", b"upgrade", b"content-length", b"proxy-connection",
    }
)  # fmt: skip
"""Of one connection; Twisted sets its own where they are needed."""

_NOT_PASSED_BACK = HOP_BY_HOP | {b"date"}

_NO_URI = re.compile(rb"[^\x21-\x7e]")
"""Clients send it nevertheless, and Twisted's agent does not."""

Send = Callable[[bytes, bytes, list[tuple[bytes, bytes]], Any], Deferred[Any]]
"""Method, URL, headers and body producer to a response, as Twisted's agent has them."""

log = Logger(namespace="etcdtw.proxy")


class Request(Protocol):
    """What is needed of an HTTP request."""

    @property
    def method(self) -> bytes: ...

    @property
    def uri(self) -> bytes: ...

    @property
    def content(self) -> IO[bytes] | None: ...

    def all_headers(self) -> Iterable[tuple[bytes, bytes]]: ...

    def getHeader(self, key: bytes) -> bytes | None: ...

    def getClientAddress(self) -> object: ...

    def setResponseCode(self, code: int, message: bytes | None = None) -> None: ...

    def setHeader(self, name: bytes, value: bytes) -> None: ...

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...

    def cut(self) -> None: ...

    def notifyFinish(self) -> Deferred[None]: ...

    def registerProducer(self, producer: Any, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...


class ReverseProxy:
    """Serves everything by asking one endpoint after the other until one answers."""

    def __init__(
        self,
        director: Director,
        send: Send,
        make_body: Callable[[IO[bytes]], Any],
        name: str,
        readonly: bool,
    ) -> None:
        """``make_body`` makes a body producer of a file; ``name`` is this proxy's, unlike that of
        any other."""
        self._director = director
        self._send = send
        self._make_body = make_body
        self._via = f"1.1 {name}".encode()
        self._readonly = readonly

    def render(self, request: Request, path: bytes) -> bytes | None:
        if self._readonly and request.method != b"GET":
            return _answer(request, 501, b"", b"")
        if path == CONFIG_PATH:
            if request.method != b"GET":
                request.setHeader(b"allow", b"GET")
                return _answer(request, 405, b"Method Not Allowed\n", b"text/plain; charset=utf-8")
            urls = json.dumps({"endpoints": self._director.endpoints()}, separators=(",", ":"))
            return _answer(request, 200, urls.encode() + b"\n")
        if self._via in (request.getHeader(b"via") or b""):
            return _refuse(request, 508, "httpproxy: this request has been here before")
        endpoints = self._director.endpoints()
        if not endpoints:
            return _refuse(request, 503, "httpproxy: zero endpoints currently available")
        assert request.content is not None, "a request has a body, if an empty one"
        _Passing(self, request, request.content.read(), endpoints).next()
        return None

    def headers(self, request: Request) -> list[tuple[bytes, bytes]]:
        """Those of the request, without what is between the client and us."""
        found = [each for each in request.all_headers() if each[0] not in HOP_BY_HOP]
        host = str(getattr(request.getClientAddress(), "host", "")).encode()
        forwarded = [value for name, value in found if name == b"x-forwarded-for"]
        via = [value for name, value in found if name == b"via"]
        kept = [each for each in found if each[0] not in (b"x-forwarded-for", b"via")]
        return [
            *kept,
            (b"x-forwarded-for", b", ".join([*forwarded, host])),
            (b"via", b", ".join([*via, self._via])),
        ]

    def ask(self, request: Request, endpoint: str, body: bytes) -> Deferred[Any]:
        """The answer of one endpoint, its body still to come."""
        producer = self._make_body(BytesIO(body)) if body else None
        uri = _NO_URI.sub(lambda found: b"%%%02X" % ord(found[0]), request.uri)
        url = endpoint.encode() + uri
        return self._send(request.method, url, self.headers(request), producer)

    def failed(self, endpoint: str, reason: str) -> None:
        log.warn("failed to direct request: {error}", error=reason, endpoint=endpoint)
        self._director.failed(endpoint)


class _Passing:
    """One request."""

    def __init__(
        self, proxy: ReverseProxy, request: Request, body: bytes, endpoints: list[str]
    ) -> None:
        self._proxy = proxy
        self._request = request
        self._body = body
        self._left = list(endpoints)
        self._count = len(endpoints)
        self._asked: Deferred[Any] | None = None
        self._gone = False
        self._answer: _Answer | None = None
        request.notifyFinish().addErrback(self._client_gone)

    def next(self) -> None:
        """Ask the next endpoint."""
        if not self._left:
            count = self._count
            message = f"httpproxy: unable to get response from {count} endpoint(s)"
            body = _refuse(self._request, 502, message)
            self._request.write(body)
            self._request.finish()
            return
        endpoint = self._left.pop(0)
        self._asked = self._proxy.ask(self._request, endpoint, self._body)
        self._asked.addCallbacks(self._answered, self._failed, errbackArgs=(endpoint,))

    def _answered(self, response: Any) -> None:
        self._asked = None
        request = self._request
        if self._gone:
            response._transport.abortConnection()
            return
        request.setResponseCode(response.code, response.phrase)
        for name, values in response.headers.getAllRawHeaders():
            if name.lower() not in _NOT_PASSED_BACK:
                request.setHeader(name.lower(), values[0])
        length: int | None = None
        # Of an answer to HEAD Twisted does not tell it.
        if isinstance(response.length, int) and request.method != b"HEAD":
            length = response.length
            request.setHeader(b"content-length", b"%d" % length)
        self._answer = _Answer(request, length)
        response.deliverBody(self._answer)

    def _failed(self, failure: Failure, endpoint: str) -> None:
        self._asked = None
        if not self._gone:
            self._proxy.failed(endpoint, failure.getErrorMessage())
            self.next()

    def _client_gone(self, _: Failure) -> None:
        self._gone = True
        if self._asked is not None:
            self._asked.cancel()
        if self._answer is not None:
            self._answer.give_up()


class _Answer(TwistedProtocol):
    """Passes a body on as it comes; nobody reads faster than the client."""

    def __init__(self, request: Request, length: int | None) -> None:
        self._request: Request | None = request
        self._left = length

    def connectionMade(self) -> None:
        assert self._request is not None, "it has just begun"
        self._request.registerProducer(self.transport, True)
        self._request.write(b"")  # the headers: a long poll's body may be long in coming

    def dataReceived(self, data: bytes) -> None:
        if self._request is not None:
            if self._left is not None:
                self._left -= len(data)
            self._request.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.unregisterProducer()
            if self._left:
                request.cut()
            else:
                request.finish()

    def give_up(self) -> None:
        """The client is gone."""
        self._request = None
        transport: Any = self.transport
        if transport is not None:
            stop = getattr(transport, "abortConnection", None) or transport.stopProducing
            stop()


def _answer(request: Request, status: int, body: bytes, content_type: bytes = JSON) -> bytes:
    request.setResponseCode(status)
    if content_type:
        request.setHeader(b"content-type", content_type)
    request.setHeader(b"content-length", b"%d" % len(body))
    return body


def _refuse(request: Request, status: int, message: str) -> bytes:
    text = json.dumps({"message": message}, separators=(",", ":"))
    return _answer(request, status, text.encode())
