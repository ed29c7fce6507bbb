"""What pages need of an HTTP request, and answers as Go's HTTP server words them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import IO, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


class HttpRequest(Protocol):
    """The part of ``twisted.web.http.Request`` that pages use."""

    comes_soon: bool
    """Whether the answer takes some turns and nothing else: a client that says that it sends no
    more still gets it."""

    @property
    def method(self) -> bytes: ...

    @property
    def uri(self) -> bytes: ...

    @property
    def path(self) -> bytes: ...

    @property
    def args(self) -> Any: ...

    @property
    def content(self) -> IO[bytes] | None: ...

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for the answer any more."""

    def getHeader(self, key: bytes) -> bytes | None: ...

    def all_headers(self) -> Iterable[tuple[bytes, bytes]]:
        """Names in lower case with their (first) values."""

    def isSecure(self) -> bool: ...

    def getClientAddress(self) -> object: ...

    def setResponseCode(self, code: int, message: bytes | None = None) -> None: ...

    def setHeader(self, name: bytes, value: bytes) -> None: ...

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...

    def cut(self) -> None:
        """Instead of ``finish``, where less came than the answer's length promised: whoever reads
        it must not take the next answer for its rest."""

    def notifyFinish(self) -> Deferred[None]: ...

    def stream_writer(self) -> Callable[[bytes], None]:
        """For a body that was begun without a length: writes a piece of it without delay."""

    def registerProducer(self, producer: Any, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...


class Resource(Protocol):
    """What answers the requests for a path."""

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        """The body, with status and headers set; None if the request is finished later."""


def tell_finished(waiting: list[Deferred[None]], reason: Failure | None) -> None:
    """Fire and forget what ``notifyFinish`` gave out; ``reason``: the answer did not arrive."""
    told = waiting[:]
    waiting.clear()
    for each in told:
        if reason is None:
            each.callback(None)
        else:
            each.errback(reason)


def json_in(request: HttpRequest) -> Any:
    """What a body says. ValueError for what is no JSON, or nested deeper than anybody would."""
    content = request.content
    try:
        return json.loads(b"" if content is None else content.read())
    except RecursionError as error:
        raise ValueError(str(error)) from None


# Header fields and hosts as net/http takes them. Whoever stands in front may read others otherwise,
# and take a part of one request for another.
FIELD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*")
HOST = re.compile(rb"[!$%&'()*+,\-.0-9:;=A-Z\[\]_a-z~]*")

# Those of net/http that Twisted has not, or words otherwise.
PHRASES = {421: b"Misdirected Request", 429: b"Too Many Requests", 504: b"Gateway Timeout"}


def answer(request: HttpRequest, status: int, body: bytes, content_type: bytes) -> bytes:
    request.setResponseCode(status, PHRASES.get(status))
    request.setHeader(b"content-type", content_type)
    request.setHeader(b"content-length", b"%d" % len(body))
    return body


def plain_error(request: HttpRequest, status: int, text: str) -> bytes:
    request.setHeader(b"x-content-type-options", b"nosniff")
    return answer(request, status, text.encode() + b"\n", b"text/plain; charset=utf-8")
