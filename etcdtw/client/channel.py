"""Calls to whichever endpoint answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from google.protobuf.message import DecodeError, Message
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from etcdtw.client.endpoints import CONNECT_SECONDS, Address, Connector, parse_endpoint
from etcdtw.errors import Code, EtcdError, StatusError, TooManyRequests
from etcdtw.rpc.outgoing import (
    MESSAGE_BYTES_MAX,
    NO_KEEPALIVE,
    Keepalive,
    OutgoingConnection,
    UnaryOutgoing,
    unavailable,
)
from etcdtw.rpc.status import deadline_exceeded

RETRY_SECONDS_MIN = 0.05
RETRY_SECONDS_MAX = 3.0
KEEPALIVE = Keepalive(30.0)
WAITING_MAX = 10_000
"""Calls that wait for a connection; more are refused."""


class Dice(Protocol):
    """A source of chance."""

    def random(self) -> float: ...


class Channel:
    """One connection at a time to one of the endpoints; the next one in turn when it fails.

    A call waits while there is no connection. One that the server cannot have seen is made again
    elsewhere; so is one that it may have seen if that does no harm, which its caller knows.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoints: Sequence[str],
        connector: Connector,
        dice: Dice,
        *,
        metadata: Mapping[str, str] | None = None,
        keepalive: Keepalive = KEEPALIVE,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
    ) -> None:
        """Raises ValueError for an endpoint that is none, or if there are none."""
        self.metadata: dict[str, str] = dict(metadata or {})
        self.clock = clock
        self._connector = connector
        self._addresses = self._parsed(endpoints)
        self._dice = dice
        self._keepalive = keepalive
        self._message_bytes_max = message_bytes_max
        self._turn = 0
        self._failures = 0
        self._connection: OutgoingConnection | None = None
        self._attempt: Deferred[Any] | None = None
        self._pause: IDelayedCall | None = None
        self._left: dict[OutgoingConnection, IDelayedCall] = {}
        self._waiting: dict[Callable[[OutgoingConnection | EtcdError], None], None] = {}
        self._closed = False
        self.last_error: EtcdError = unavailable("not connected yet")

    # --- calls -----------------------------------------------------------------------------------

    def call(
        self,
        path: str,
        request: Message,
        response_class: type[Message],
        timeout_seconds: float,
        repeatable: bool,
        metadata: Mapping[str, str] | None = None,
    ) -> Deferred[Any]:
        """The response, or an EtcdError. ``repeatable``: it does no harm to make the call twice.
        ``metadata`` takes the place of the channel's. Cancelling the Deferred cancels the call."""
        return _UnaryAttempts(
            self,
            path,
            request.SerializeToString(),
            response_class,
            timeout_seconds,
            repeatable,
            self.metadata if metadata is None else metadata,
        ).result

    def wait(self, ready: Callable[[OutgoingConnection | EtcdError], None]) -> None:
        """Call ``ready`` with a connection that takes a call, at once if there is one, or with an
        error when the channel is closed."""
        if self._closed:
            ready(unavailable("the client is closed"))
            return
        if self._connection is not None and self._connection.usable:
            ready(self._connection)
            return
        if len(self._waiting) >= WAITING_MAX:
            ready(TooManyRequests())
            return
        self._waiting[ready] = None
        self._seek_room()

    def forget(self, ready: Callable[[OutgoingConnection | EtcdError], None]) -> None:
        """Who waited does not any more."""
        self._waiting.pop(ready, None)

    def leave(self, connection: OutgoingConnection) -> None:
        """This connection's member cannot serve: go on with another endpoint, if there is one."""
        if connection is self._connection and len(self._addresses) > 1:
            self._turn += 1
            # Calls under way have their own timeouts; closing would fail them all.
            self._leave_later(connection)

    def connect_alone(self) -> Deferred[OutgoingConnection]:
        """A connection of one's own to the endpoint whose turn it is, for a stream whose reader may
        hold it up; the caller closes it."""
        address = self._address()
        made = self._make(address, NO_KEEPALIVE)
        connected: Deferred[Any] = self._connector(address).connect(
            Factory.forProtocol(lambda: made)
        )
        return connected.addCallback(lambda _: made)

    def set_endpoints(self, endpoints: Sequence[str]) -> None:
        """Use these from now on. A connection to one that is gone is left. ValueError as at the
        start."""
        addresses = self._parsed(endpoints)
        current = self._address()
        self._addresses = addresses
        if current in addresses:
            self._turn = addresses.index(current)
        elif self._connection is not None:
            self._leave_later(self._connection)

    def close(self) -> None:
        """End everything; who waits gets an error."""
        self._closed = True
        if self._pause is not None and self._pause.active():
            self._pause.cancel()
        if self._attempt is not None:
            self._attempt.cancel()
        if self._connection is not None:
            self._connection.close()
        for each in list(self._left):
            self._close_left(each)
        for ready in self._take_waiting():
            ready(unavailable("the client is closed"))

    def _parsed(self, endpoints: Sequence[str]) -> list[Address]:
        if not endpoints:
            raise ValueError("a client needs at least one endpoint")
        addresses = [parse_endpoint(each) for each in endpoints]
        for address in addresses:
            self._connector(address)
        return addresses

    def _leave_later(self, connection: OutgoingConnection) -> None:
        self._connection = None
        connection.on_room = None
        self._left[connection] = self.clock.callLater(CONNECT_SECONDS, self._close_left, connection)
        if self._waiting:
            self._connect()

    def _close_left(self, connection: OutgoingConnection) -> None:
        timer = self._left.pop(connection)
        if timer.active():
            timer.cancel()
        connection.close()

    # --- connecting ------------------------------------------------------------------------------

    def _connect(self) -> None:
        if self._attempt is not None or self._pause is not None:
            return
        address = self._address()
        made = self._make(address, self._keepalive)
        made.on_settled = lambda error: self._settled(made, address, error)
        made.on_lost = lambda: self._lost(made)
        self._attempt = self._connector(address).connect(Factory.forProtocol(lambda: made))
        self._attempt.addCallbacks(
            lambda _: None, lambda failure: self._not_connected(address, failure)
        )

    def _address(self) -> Address:
        return self._addresses[self._turn % len(self._addresses)]

    def _make(self, address: Address, keepalive: Keepalive) -> OutgoingConnection:
        return OutgoingConnection(
            self.clock,
            address.authority,
            keepalive=keepalive,
            scheme="https" if address.scheme in ("https", "unixs") else "http",
            message_bytes_max=self._message_bytes_max,
        )

    def _settled(self, made: OutgoingConnection, address: Address, error: EtcdError | None) -> None:
        self._attempt = None
        if self._closed:
            made.close()
        elif error is None:
            self._failures = 0
            self._connection = made
            self._serve_waiting()
        else:
            self._failed(f"{address.authority or address.path}: {error}")

    def _not_connected(self, address: Address, failure: Failure) -> None:
        self._attempt = None
        if not self._closed:
            self._failed(f"{address.path or address.authority}: {failure.getErrorMessage()}")

    def _failed(self, reason: str) -> None:
        """Try the next endpoint, after a pause when all were tried."""
        self.last_error = unavailable(reason)
        self._turn += 1
        self._failures += 1
        rounds = self._failures // len(self._addresses)
        if self._failures % len(self._addresses):
            pause = 0.0
        else:
            pause = min(RETRY_SECONDS_MIN * 2 ** min(rounds, 10), RETRY_SECONDS_MAX)
            pause *= 0.5 + self._dice.random() / 2
        self._pause = self.clock.callLater(pause, self._retry)

    def _retry(self) -> None:
        self._pause = None
        if self._waiting:
            self._connect()

    def _lost(self, connection: OutgoingConnection) -> None:
        if connection is self._connection:
            self._connection = None
            self._turn += 1
            self.last_error = connection.reason
            if self._waiting:
                self._connect()

    def _seek_room(self) -> None:
        connection = self._connection
        if connection is None or connection.finished:
            self._connect()
        else:
            # The server takes so many calls at once and no more. Another connection for those that
            # are too many would be one more with every burst of them.
            connection.on_room = self._serve_waiting

    def _serve_waiting(self) -> None:
        while self._waiting:
            connection = self._connection
            if connection is None or not connection.usable:
                self._seek_room()
                return
            ready = next(iter(self._waiting))
            del self._waiting[ready]
            ready(connection)

    def _take_waiting(self) -> list[Callable[[OutgoingConnection | EtcdError], None]]:
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting


class _UnaryAttempts:
    """One call, made as often as it takes."""

    def __init__(
        self,
        channel: Channel,
        path: str,
        body: bytes,
        response_class: type[Message],
        timeout_seconds: float,
        repeatable: bool,
        metadata: Mapping[str, str],
    ) -> None:
        self.result: Deferred[Any] = Deferred(self._cancelled)
        self._channel = channel
        self._path = path
        self._body = body
        self._response_class = response_class
        self._repeatable = repeatable
        self._metadata = metadata
        self._until = channel.clock.seconds() + timeout_seconds
        self._call: UnaryOutgoing | None = None
        self._connection: OutgoingConnection | None = None
        self._timer = channel.clock.callLater(timeout_seconds, self._late)
        channel.wait(self._ready)

    def _ready(self, connection: OutgoingConnection | EtcdError) -> None:
        if isinstance(connection, EtcdError):
            self._fail(connection)
            return
        self._connection = connection
        left = max(self._until - self._channel.clock.seconds(), 0.001)
        self._call = connection.unary(self._path, self._body, self._metadata, left, self._answered)

    def _answered(self, answer: bytes | EtcdError, maybe_done: bool) -> None:
        self._call = None
        if isinstance(answer, bytes):
            self._finish(answer)
        elif answer.code == Code.UNAVAILABLE and (self._repeatable or not maybe_done):
            assert self._connection is not None, "answered without a connection"
            self._channel.last_error = answer
            self._channel.leave(self._connection)
            # A lone member that has no leader is asked again a little later.
            self._channel.clock.callLater(RETRY_SECONDS_MIN, self._again)
        else:
            self._fail(answer)

    def _finish(self, answer: bytes) -> None:
        try:
            response = self._response_class.FromString(answer)
        except DecodeError:
            kind = self._response_class.DESCRIPTOR.name
            self._fail(StatusError(Code.INTERNAL, f"{self._path} was answered with no {kind}"))
            return
        if self._timer.active():
            self._timer.cancel()
        self.result.callback(response)

    def _again(self) -> None:
        if not self.result.called:
            self._channel.wait(self._ready)

    def _late(self) -> None:
        """Time is up: say what kept the call from being made, if that is known."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
            self._fail(deadline_exceeded())
        else:
            self._channel.forget(self._ready)
            text = f"no endpoint answers: {self._channel.last_error}"
            self._fail(StatusError(Code.UNAVAILABLE, text))

    def _fail(self, error: EtcdError) -> None:
        if self._timer.active():
            self._timer.cancel()
        if not self.result.called:
            self.result.errback(error)

    def _cancelled(self, _: Deferred[Any]) -> None:
        if self._timer.active():
            self._timer.cancel()
        self._channel.forget(self._ready)
        if self._call is not None:
            self._call.cancel()
