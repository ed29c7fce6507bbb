"""Streams to the cluster: one that clients share and that is opened again whenever it ends, and one
that belongs to a client and is passed on as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from etcdtw.client.channel import Channel
from etcdtw.errors import Code, EtcdError, NoLeader
from etcdtw.proxy.grpc.upstream import Metadata, Upstream, passed_on
from etcdtw.rpc import StreamCall
from etcdtw.rpc.outgoing import OutgoingConnection, StreamOutgoing, unavailable

REOPEN_SECONDS = 0.05
REOPEN_SECONDS_MAX = 1.0
_FINAL = frozenset(
    {Code.UNIMPLEMENTED, Code.PERMISSION_DENIED, Code.UNAUTHENTICATED, Code.INVALID_ARGUMENT}
)


class Shared(Protocol):
    """What clients do together on a stream."""

    @property
    def is_idle(self) -> bool: ...

    def opened(self, send: Callable[[bytes], None]) -> None:
        """A stream begins; nothing that was sent on a former one counts."""

    def received(self, body: bytes) -> None: ...

    def lost(self) -> None:
        """The stream is gone; another one follows if anybody needs it."""


class SharedStream:
    """Keeps one stream open for as long as ``shared`` is not idle.

    ``on_refused`` gets the error with which the cluster ended it for good, and ends what is shared.
    A stream that nobody needs is ended.
    """

    def __init__(self, upstream: Upstream, path: str, metadata: Metadata, shared: Shared) -> None:
        self._upstream = upstream
        self._channel: Channel = upstream.channel
        self._path = path
        self._metadata = metadata
        self._shared = shared
        self._connection: OutgoingConnection | None = None
        self._stream: StreamOutgoing | None = None
        self._opening: IDelayedCall | None = None
        self._waiting = False
        self._failures = 0
        self._needs_leader = metadata.get("hasleader") == "true"
        self.on_refused: Callable[[EtcdError], None] = lambda error: None

    def look(self) -> None:
        """Open the stream if it is needed, end it if it is not."""
        if self._shared.is_idle:
            self.close()
        elif self._stream is None and self._opening is None and not self._waiting:
            self._waiting = True
            self._channel.wait(self._connected)

    def close(self) -> None:
        self._waiting = False
        self._channel.forget(self._connected)
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()
            self._shared.lost()

    def _connected(self, connection: OutgoingConnection | EtcdError) -> None:
        if not self._waiting:
            return
        self._waiting = False
        if isinstance(connection, EtcdError):
            self._open_later()
            return
        self._connection = connection
        self._stream = connection.stream(self._path, self._metadata, self)
        self._shared.opened(self._stream.send)

    def message_received(self, body: bytes) -> None:
        self._failures = 0
        self._shared.received(body)

    def stream_ended(self, error: EtcdError | None, answered: bool) -> None:
        if self._stream is None:
            return  # we ended it
        self._stream = None
        final = error if answered and error is not None and self._is_final(error) else None
        if answered and (final is None or isinstance(final, NoLeader)):
            assert self._connection is not None, "ended on no connection"
            self._upstream.leave(self._connection)
        self._open_later()
        self._shared.lost()
        if final is not None:
            self.on_refused(final)

    def _is_final(self, error: EtcdError) -> bool:
        """Whether it would be the same on another stream, or is what a client wants to know."""
        return error.code in _FINAL or (self._needs_leader and isinstance(error, NoLeader))

    def _open_later(self) -> None:
        pause = min(REOPEN_SECONDS * 2 ** min(self._failures, 10), REOPEN_SECONDS_MAX)
        self._failures += 1
        self._opening = self._channel.clock.callLater(pause, self._open_now)

    def _open_now(self) -> None:
        self._opening = None
        self.look()


class ForwardedStream:
    """A client's request whose answers are a stream: passed on as bytes, on a connection of its
    own, which is read as fast as the client reads."""

    def __init__(self, upstream: Upstream, call: StreamCall) -> None:
        self._channel = upstream.channel
        self._call = call
        self._request: bytes | None = None
        self._connection: OutgoingConnection | None = None
        self._connecting: Deferred[Any] | None = None
        call.on_message = self._begin
        call.on_cancel = self._canceled
        call.on_writable = self._resume

    def _begin(self, request: bytes) -> None:
        if self._request is None:
            self._request = request
            self._channel.wait(self._reachable)

    def _reachable(self, shared: OutgoingConnection | EtcdError) -> None:
        """There is an endpoint that answers, if it is no error."""
        if isinstance(shared, EtcdError):
            self._call.finish(shared)
            return
        self._connecting = self._channel.connect_alone()
        self._connecting.addCallbacks(self._connected, self._not_connected)

    def _connected(self, connection: OutgoingConnection) -> None:
        self._connecting = None
        assert self._request is not None, "a stream is opened for a request"
        self._connection = connection
        call = self._call
        stream = connection.stream(call.method.path, passed_on(call.metadata), self)
        stream.send(self._request)
        stream.half_close()

    def _not_connected(self, failure: Failure) -> None:
        self._connecting = None
        self._call.finish(unavailable(failure.getErrorMessage()))

    def message_received(self, body: bytes) -> None:
        call = self._call
        call.send(body)
        if not call.writable:
            self._transport("pauseProducing")

    def _resume(self) -> None:
        self._transport("resumeProducing")

    def stream_ended(self, error: EtcdError | None, answered: bool) -> None:
        self._close()
        self._call.finish(error)

    def _canceled(self) -> None:
        self._channel.forget(self._reachable)
        if self._connecting is not None:
            self._connecting.cancel()
        self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _transport(self, action: str) -> None:
        if self._connection is not None and self._connection.transport is not None:
            getattr(self._connection.transport, action)()
