"""Calls on their way to the cluster: as bytes, to whichever endpoint answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IDelayedCall

from etcdtw.client.channel import RETRY_SECONDS_MIN, Channel
from etcdtw.errors import Code, EtcdError, StatusError
from etcdtw.rpc import UnaryCall
from etcdtw.rpc.outgoing import OutgoingConnection, UnaryOutgoing, unavailable

WAIT_SECONDS = 5.0
"""How long a call without a deadline waits for a connection."""
LEAVE_SECONDS = 1.0
"""A member that cannot serve is left at most this often."""
RETRIES_MAX = 5
IDENTITY = ("token", "authorization", "hasleader")
"""What tells apart clients who must not share."""
PASSED_ON = (*IDENTITY, "client-api-version")
"""What a member looks at of a call's metadata."""

Answered = Callable[[bytes | EtcdError], None]
Metadata = Mapping[str, str]
Identity = tuple[tuple[str, str], ...]


def passed_on(metadata: Metadata) -> dict[str, str]:
    """The part of a client's metadata that goes along with its calls."""
    return {name: metadata[name] for name in PASSED_ON if name in metadata}


def identity_of(metadata: Metadata) -> Identity:
    """The part of a client's metadata that whoever shares with him must have as well."""
    return tuple((name, metadata[name]) for name in IDENTITY if name in metadata)


class Upstream:
    """The cluster, as the proxy's services call it."""

    def __init__(self, channel: Channel, send_bytes_max: int = 0) -> None:
        """``send_bytes_max`` bounds requests; 0: nothing does."""
        self.channel = channel
        self._send_bytes_max = send_bytes_max
        self._left = -LEAVE_SECONDS

    def forward(
        self,
        call: UnaryCall,
        body: bytes,
        answered: Answered | None = None,
        *,
        repeatable: bool = False,
    ) -> None:
        """Make this call at the cluster; its answer is the call's, unless somebody else wants to
        see it. ``repeatable``: it does no harm to make it twice."""
        size, limit = len(body), self._send_bytes_max
        if 0 < limit < size:
            text = f"trying to send message larger than max ({size} vs. {limit})"
            raise StatusError(Code.RESOURCE_EXHAUSTED, text)
        _Forwarded(self, call, body, answered, repeatable).begin()

    def leave(self, connection: OutgoingConnection) -> None:
        """A member answered that it cannot serve: go on with another one."""
        now = self.channel.clock.seconds()
        if now - self._left >= LEAVE_SECONDS:
            self._left = now
            self.channel.leave(connection)


class _Forwarded:
    """One call."""

    __slots__ = (
        "_answered",
        "_body",
        "_call",
        "_connection",
        "_outgoing",
        "_repeatable",
        "_retries",
        "_timer",
        "_upstream",
    )

    def __init__(
        self,
        upstream: Upstream,
        call: UnaryCall,
        body: bytes,
        answered: Answered | None,
        repeatable: bool,
    ) -> None:
        self._upstream = upstream
        self._call = call
        self._body = body
        self._answered = answered
        self._repeatable = repeatable
        self._retries = 0
        self._connection: OutgoingConnection | None = None
        self._outgoing: UnaryOutgoing | None = None
        self._timer: IDelayedCall | None = None
        call.on_cancel = self._canceled

    def begin(self) -> None:
        channel = self._upstream.channel
        channel.wait(self._ready)
        if self._outgoing is None and not self._call.done:
            self._timer = channel.clock.callLater(WAIT_SECONDS, self._late)

    def _ready(self, connection: OutgoingConnection | EtcdError) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if isinstance(connection, EtcdError):
            self._end(connection)
            return
        call = self._call
        self._connection = connection
        # The client's own deadline ends the call, wherever it is then.
        self._outgoing = connection.unary(
            call.method.path, self._body, passed_on(call.metadata), None, self._done
        )

    def _done(self, answer: bytes | EtcdError, maybe_done: bool) -> None:
        self._outgoing = None
        if isinstance(answer, EtcdError) and answer.code == Code.UNAVAILABLE:
            upstream = self._upstream
            assert self._connection is not None, "answered without a connection"
            upstream.leave(self._connection)
            if (self._repeatable or not maybe_done) and self._retries < RETRIES_MAX:
                self._retries += 1
                upstream.channel.clock.callLater(RETRY_SECONDS_MIN, self._again)
                return
        self._end(answer)

    def _again(self) -> None:
        if not self._call.done:
            self.begin()

    def _late(self) -> None:
        self._timer = None
        channel = self._upstream.channel
        channel.forget(self._ready)
        self._end(unavailable(f"no endpoint answers: {channel.last_error}"))

    def _end(self, answer: bytes | EtcdError) -> None:
        call = self._call
        if self._answered is not None and not call.done:
            self._answered(answer)
        elif isinstance(answer, bytes):
            call.reply(answer)
        else:
            call.fail(answer)

    def _canceled(self) -> None:
        self._upstream.channel.forget(self._ready)
        if self._timer is not None:
            self._timer.cancel()
        if self._outgoing is not None:
            self._outgoing.cancel()
