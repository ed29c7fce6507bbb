"""``/raft``, ``/raft/stream/…`` and ``/raft/probing``: the calls that carry Raft messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from etcdtw.api.http.requests import HttpRequest, answer, plain_error
from etcdtw.api.http.resources import Page
from etcdtw.api.peer.checks import refusal
from etcdtw.ids import format_id
from etcdtw.peer.headers import SERVER_VERSION, parse_hex_id, sender_of, urls_of
from etcdtw.peer.outgoing import OutStream
from etcdtw.peer.peer import APPEND, MESSAGE
from etcdtw.peer.transport import PeerTransport
from etcdtw.raft.codec import decode_message
from etcdtw.version import ETCD_VERSION

STREAM_PREFIX = b"/raft/stream/"

log = Logger(namespace="etcdtw.peer")


class StreamTree:
    """A member dials: what we have to say to it goes into the answer, without end."""

    def __init__(self, transport: PeerTransport) -> None:
        self._transport = transport

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        transport = self._transport
        if request.method == b"GET":
            request.setHeader(SERVER_VERSION, ETCD_VERSION.encode())
        refused = refusal(request, transport, b"GET")
        if refused is not None:
            return refused
        kind, _, sender_text = path[len(STREAM_PREFIX) :].decode("latin-1").partition("/")
        if kind not in (MESSAGE, APPEND):
            return plain_error(request, 404, "invalid path")
        sender = parse_hex_id(sender_text)
        if sender is None:
            return plain_error(request, 404, "invalid from")
        if sender in transport.removed:
            return plain_error(request, 410, "removed member")
        peer = transport.peers.get(sender)
        if peer is None:
            transport.add_remote(sender, urls_of(request.getHeader))
            return plain_error(request, 404, "error sender not found")
        to = (request.getHeader(b"x-raft-to") or b"").decode("latin-1")
        if to != format_id(transport.identity.member_id):
            return plain_error(request, 412, "to field mismatch")
        sink = _RequestSink(request)
        stream = peer.attach(kind, sink)

        def gone(_: object) -> None:
            sink.is_open = False
            stream.ended()

        request.notifyFinish().addBoth(gone)
        request.setResponseCode(200)
        request.write(b"")  # the head, at once: the caller waits for it
        sink.serve(stream)
        return None


@implementer(IPushProducer)
class _RequestSink:
    """The answer to a dialled stream."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._stream: OutStream | None = None
        self.is_open = True

    def serve(self, stream: OutStream) -> None:
        self._stream = stream
        # A leader's appends must be on their way before its own disk syncs.
        self._write = self._request.stream_writer()
        self._request.registerProducer(self, True)

    def write(self, data: bytes) -> None:
        if self.is_open:
            self._write(data)

    def close(self) -> None:
        if self.is_open:
            self._request.unregisterProducer()
            self._request.finish()

    def pauseProducing(self) -> None:
        assert self._stream is not None, "paused before it began"
        self._stream.pause()

    def resumeProducing(self) -> None:
        assert self._stream is not None, "resumed before it began"
        self._stream.resume()

    def stopProducing(self) -> None:
        """The connection ends, which is told elsewhere."""


class RaftPage:
    """One posted message."""

    def __init__(self, transport: PeerTransport) -> None:
        self._transport = transport

    def render(self, request: HttpRequest, path: bytes) -> bytes:
        transport = self._transport
        refused = refusal(request, transport, b"POST")
        if refused is not None:
            return refused
        sender = sender_of(request.getHeader)
        if sender is not None:
            transport.add_remote(sender, urls_of(request.getHeader))
        body = b"" if request.content is None else request.content.read()
        try:
            message = decode_message(body)
        except ValueError:
            return plain_error(request, 400, "error unmarshalling raft message")
        if message.from_ in transport.removed or message.to != transport.identity.member_id:
            return plain_error(request, 500, "error processing raft message")
        transport.receive(message, len(body))
        request.setResponseCode(204)
        return b""


class Probing(Page):
    """``/raft/probing``: we are here, and this is our time."""

    def __init__(self, wall_seconds: Callable[[], float]) -> None:
        self._wall_seconds = wall_seconds

    def show(self, request: HttpRequest) -> bytes:
        now = self._wall_seconds()
        moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        body: Any = json.dumps({"OK": True, "Now": moment}, separators=(",", ":")) + "\n"
        return answer(request, 200, body.encode(), b"text/plain; charset=utf-8")
