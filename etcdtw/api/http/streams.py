"""HTTP/2 requests for the pages that HTTP/1.1 serves as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.web.http import parse_qs

from etcdtw.api.http.requests import tell_finished
from etcdtw.http2.message import Headers
from etcdtw.rpc.pages import PageStream

# Of one connection, which HTTP/2 has no words for.
_HOP_BY_HOP = frozenset({b"connection", b"transfer-encoding", b"keep-alive", b"upgrade"})


class Http2Request:
    """One request and its answer (``HttpRequest``); at the same time who receives its body."""

    def __init__(
        self,
        stream: PageStream,
        headers: Headers,
        serve: Callable[[Http2Request], None],
        body_bytes_max: int,
    ) -> None:
        """``serve`` is called when the request is complete."""
        self._stream = stream
        self._serve = serve
        self._body_bytes_max = body_bytes_max
        self._headers = [
            (name.encode(), value.encode("latin-1", "replace")) for name, value in headers.fields
        ]
        if headers.authority:
            self._headers.insert(0, (b"host", headers.authority.encode("latin-1", "replace")))
        self._by_name = dict(reversed(self._headers))
        self._status = 200
        self._answer: list[tuple[bytes, bytes]] = []
        self._begun = False
        self._is_too_large = False
        self._left: int | None = None
        self._waiting: list[Deferred[None]] = []
        self._producer: Any = None
        self.method = headers.method.encode()
        self.uri = headers.path.encode("latin-1", "replace")
        self.path, _, query = self.uri.partition(b"?")
        self.args: Any = parse_qs(query, keep_blank_values=True) if query else {}
        self.content = BytesIO()
        self.is_gone = self.comes_soon = False

    # --- the stream's side -----------------------------------------------------------------------

    def data(self, data: bytes) -> int:
        if not self._is_too_large:
            self.content.write(data)
            # Clients do not look for an answer before they have sent it all.
            if self.content.tell() > self._body_bytes_max:
                self._is_too_large = True
                self.content = BytesIO()
        return self.content.tell()

    def ended(self) -> None:
        if self._is_too_large:
            self.setResponseCode(413)
            self.setHeader(b"content-length", b"0")
            self.finish()
            return
        self.content.seek(0)
        self._serve(self)

    def lost(self) -> None:
        self.is_gone = True
        if self._producer is not None:
            self._producer.stopProducing()
        tell_finished(self._waiting, Failure(ConnectionDone("the stream is gone")))

    def room(self) -> None:
        if self._producer is not None:
            self._producer.resumeProducing()

    # --- the page's side -------------------------------------------------------------------------

    def all_headers(self) -> Iterable[tuple[bytes, bytes]]:
        return self._by_name.items()

    def getHeader(self, key: bytes) -> bytes | None:
        return self._by_name.get(key.lower())

    def isSecure(self) -> bool:
        return True

    def getClientAddress(self) -> object:
        return cast(Any, self._stream.transport).getPeer()

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        self._status = code

    def setHeader(self, name: bytes, value: bytes) -> None:
        self._answer.append((name.lower(), value))

    def notifyFinish(self) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, data: bytes) -> None:
        if not self._begun:
            self._begin(end=False)
        if self.method == b"HEAD" or not data:
            return
        if self._left is not None:
            self._left -= len(data)
        self._stream.send_data(data, end=self._left == 0)
        if self._producer is not None and not self._stream.is_writable():
            self._producer.pauseProducing()

    def stream_writer(self) -> Callable[[bytes], None]:
        return self.write

    def finish(self) -> None:
        if not self._begun:
            self._begin(end=True)
        else:
            self._stream.send_data(b"", end=True)
        tell_finished(self._waiting, None)

    def cut(self) -> None:
        self._stream.refuse()

    def _begin(self, end: bool) -> None:
        self._begun = True
        fields = [(":status", str(self._status))]
        for name, value in self._answer:
            if name not in _HOP_BY_HOP:
                fields.append((name.decode("latin-1"), value.decode("latin-1")))
            if name == b"content-length" and self.method != b"HEAD":
                self._left = int(value)
        self._stream.send_headers(tuple(fields), end=end)
