"""Calls as a handler sees them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from google.protobuf.message import DecodeError

from etcdtw.errors import Code, EtcdError, StatusError
from etcdtw.http2.server import ServerConnection

from .messages import BAD_STREAM_MESSAGE, PREFIX, PREFIX_BYTES, MessageReader, whole_message
from .status import OK_TRAILERS, RESPONSE_HEADERS, error_trailers
from .transport import Transport

if TYPE_CHECKING:
    from .pages import PageStream
    from .router import Method, Tally

MESSAGES_AT_ONCE = 200  # of one stream, then the time is looked at
STREAM_QUEUE_BYTES = 64 * 1024  # a stream with more than this waiting is not writable


class CallOwner(Protocol):
    """The connection below a call, as far as calls need it."""

    http2: ServerConnection
    calls: dict[int, Call]
    transport: Transport
    peer: str
    dirty: bool
    message_bytes_max: int
    unsent_bytes: int
    partial_bytes: int
    undelivered: deque[tuple[StreamCall, list[bytes], bool]]

    def mark_dirty(self) -> None:
        """There is output to write."""

    def congested(self) -> bool:
        """Whether streams should wait before they send more."""

    def unary_received(self, request: UnaryRequest, message: bytes) -> None:
        """The one message of a unary request is complete."""

    def deliver_later(self, call: StreamCall, messages: list[bytes], ended: bool) -> None:
        """Give the stream these messages when others had their turn."""

    def stalled(self, call: StreamCall | PageStream) -> None:
        """Tell this call when it may send again."""


class Call(Protocol):
    """What a connection keeps of a call that is not answered yet."""

    deadline: float | None

    def data_received(self, data: bytes, ended: bool) -> None:
        """Bytes of the request; ``ended`` with the last."""

    def cancelled(self) -> None:
        """The client gave the call up, or is gone."""

    def fail(self, error: EtcdError) -> None:
        """The request is at fault; the call ends with this error."""

    def expire(self, error: EtcdError) -> None:
        """The deadline passed; the call ends with this error."""


class Target:
    """What the headers of a request ask for, worked out once for all requests that share them."""

    __slots__ = ("clients", "gzip", "metadata", "method", "needs_leader")

    def __init__(
        self, method: Method, metadata: Mapping[str, str], gzip: bool, clients: Tally
    ) -> None:
        self.clients = clients
        self.method = method
        self.metadata = metadata
        self.gzip = gzip
        self.needs_leader = metadata.get("hasleader") == "true"


class _CallFacts:
    """What both kinds of call know about their request."""

    __slots__ = ("_owner", "_target", "deadline", "done", "on_cancel", "stream_id")

    _owner: CallOwner
    _target: Target
    stream_id: int
    deadline: float | None
    done: bool
    on_cancel: Callable[[], None] | None

    @property
    def metadata(self) -> Mapping[str, str]:
        """Metadata by lower-case name; the first value where a name is repeated."""
        return self._target.metadata

    @property
    def peer(self) -> str:
        """Where the call comes from, as ``address:port``."""
        return self._owner.peer

    @property
    def transport(self) -> Transport:
        """The connection's transport, which knows the peer's certificate."""
        return self._owner.transport

    @property
    def method(self) -> Method:
        """What is called; its ``path`` is ``/package.Service/Method``."""
        return self._target.method

    def cancelled(self) -> None:
        """For the connection: the call ended without an answer."""
        if not self.done:
            self.done = True
            self._target.method.handled[Code.CANCELED] += 1
            if self.on_cancel is not None:
                self.on_cancel()


class UnaryCall(_CallFacts):
    """One request that takes one answer.

    ``deadline`` is in seconds on the server's clock, None if the client set none. ``on_cancel``
    is the handler's to set: it is called once if the client resets the call, the connection ends
    or the deadline passes before the answer; the call is ``done`` then, as it is once answered.
    """

    __slots__ = ()

    def __init__(
        self, owner: CallOwner, stream_id: int, target: Target, deadline: float | None
    ) -> None:
        self._owner = owner
        self._target = target
        self.stream_id = stream_id
        self.deadline = deadline
        self.done = False
        self.on_cancel = None

    def reply(self, body: bytes) -> None:
        """Answer with this encoded message; nothing happens if the call is done."""
        if self.done:
            return
        self.done = True
        owner = self._owner
        stream_id = self.stream_id
        owner.http2.send_answer(stream_id, body)
        method = self._target.method
        method.handled[0] += 1
        size = len(body)
        method.sent_bytes += size
        owner.unsent_bytes += size
        owner.calls.pop(stream_id, None)
        if not owner.dirty:
            owner.mark_dirty()

    def fail(self, error: EtcdError) -> None:
        """Answer with an error; nothing happens if the call is done."""
        if self.done:
            return
        self.done = True
        self._target.method.handled[error.code] += 1
        refuse(self._owner, self.stream_id, error)

    def expire(self, error: EtcdError) -> None:
        """For the connection: the deadline passed."""
        told = None if self.done else self.on_cancel
        self.fail(error)
        if told is not None:
            told()

    def data_received(self, data: bytes, ended: bool) -> None:
        """For the connection: what follows the one message does not matter."""


class StreamCall(_CallFacts):
    """One call with a stream of messages in either direction or both.

    The handler sets the callbacks. ``on_message`` takes each message's bytes; ``on_half_close``
    comes when the client will send no more; ``on_cancel`` once if the call ends other than by
    ``finish``; ``on_writable`` after ``writable`` was False and has become true.
    """

    __slots__ = ("_headers_sent", "_reader", "on_half_close", "on_message", "on_writable")

    is_local: ClassVar[bool] = False
    """Whether the caller is in this process, and may act on a message before the next one."""

    def __init__(
        self,
        owner: CallOwner,
        stream_id: int,
        target: Target,
        deadline: float | None,
        reader: MessageReader,
    ) -> None:
        self._owner = owner
        self._target = target
        self._reader = reader
        self._headers_sent = False
        self.stream_id = stream_id
        self.deadline = deadline
        self.done = False
        self.on_cancel = None
        self.on_message: Callable[[bytes], None] | None = None
        self.on_half_close: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None

    @property
    def queued_bytes(self) -> int:
        """Bytes of this stream that the client's flow control holds back."""
        return self._owner.http2.queued_bytes(self.stream_id)

    @property
    def writable(self) -> bool:
        """Whether more should be sent now. After a False, ``on_writable`` is called once."""
        if self.done:
            return False
        owner = self._owner
        if owner.congested() or owner.http2.queued_bytes(self.stream_id) > STREAM_QUEUE_BYTES:
            owner.stalled(self)
            return False
        return True

    def send_headers(self) -> None:
        """Send the response headers ahead of the first message."""
        if not self._headers_sent and not self.done:
            self._headers_sent = True
            self._owner.http2.send_headers(self.stream_id, RESPONSE_HEADERS)
            self._owner.mark_dirty()

    def send(self, body: bytes) -> None:
        """Send one encoded message; ignored when the call is done."""
        self.send_shared(b"", body)

    def send_shared(self, prefix: bytes, body: bytes) -> None:
        """Send one message made of two parts, of which ``body`` may be shared by many streams:
        it is not copied before the connection's one write."""
        if self.done:
            return
        if not self._headers_sent:
            self.send_headers()
        owner = self._owner
        size = len(prefix) + len(body)
        head = PREFIX.pack(0, size) + prefix
        owner.http2.send_data(self.stream_id, (head, body), size + PREFIX_BYTES)
        owner.unsent_bytes += size
        method = self._target.method
        method.sent += 1
        method.sent_bytes += size
        if not owner.dirty:
            owner.mark_dirty()

    def send_each(self, prefixes: Sequence[bytes], body: bytes) -> None:
        """Send one message for each prefix, which has this body behind it."""
        if self.done:
            return
        if not self._headers_sent:
            self.send_headers()
        owner = self._owner
        size = len(body)
        pieces: list[bytes] = []
        for prefix in prefixes:
            pieces += (PREFIX.pack(0, len(prefix) + size), prefix, body)
        data = b"".join(pieces)
        owner.http2.send_data(self.stream_id, (data,), len(data))
        message_bytes = len(data) - PREFIX_BYTES * len(prefixes)
        owner.unsent_bytes += message_bytes
        method = self._target.method
        method.sent += len(prefixes)
        method.sent_bytes += message_bytes
        if not owner.dirty:
            owner.mark_dirty()

    def finish(self, error: EtcdError | None = None) -> None:
        """End the call behind what was sent, with success or an error."""
        if self.done:
            return
        self.done = True
        owner = self._owner
        self._target.method.handled[0 if error is None else error.code] += 1
        status = OK_TRAILERS if error is None else error_trailers(error)
        if self._headers_sent:
            owner.http2.send_trailers(self.stream_id, status)
        else:
            owner.http2.send_headers(self.stream_id, RESPONSE_HEADERS + status, end=True)
        owner.calls.pop(self.stream_id, None)
        self._drop_partial()
        owner.mark_dirty()

    def fail(self, error: EtcdError) -> None:
        """For the connection: end the call with an error that the handler did not choose."""
        told = None if self.done else self.on_cancel
        self.finish(error)
        if told is not None:
            told()

    expire = fail

    def cancelled(self) -> None:
        self._drop_partial()
        super().cancelled()

    def data_received(self, data: bytes, ended: bool) -> None:
        """For the connection: bytes of the request."""
        owner = self._owner
        reader = self._reader
        owner.partial_bytes -= reader.buffered
        try:
            try:
                messages = reader.feed(data)
            finally:
                owner.partial_bytes += reader.buffered
            if ended and reader.buffered:
                raise StatusError(Code.INTERNAL, "unexpected EOF")
        except StatusError as error:
            self.fail(error)
            return
        if len(messages) > MESSAGES_AT_ONCE or owner.undelivered:
            owner.deliver_later(self, messages, ended)
        else:
            self.deliver(messages, ended)

    def deliver(self, messages: list[bytes], ended: bool) -> None:
        """For the connection: whole messages; ``ended`` if they are the last."""
        try:
            for message in messages:
                if self.done:
                    return
                method = self._target.method
                method.received += 1
                method.received_bytes += len(message)
                if self.on_message is not None:
                    self.on_message(message)
            if ended and not self.done and self.on_half_close is not None:
                self.on_half_close()
        except EtcdError as error:
            self.finish(error)
        except DecodeError:
            self.fail(StatusError(Code.INTERNAL, BAD_STREAM_MESSAGE))

    def _drop_partial(self) -> None:
        self._owner.partial_bytes -= self._reader.buffered
        self._reader.clear()


class UnaryRequest:
    """A unary request that is still coming in. It is served as soon as its one message is there:
    a client may end the stream later."""

    __slots__ = ("_owner", "_reader", "deadline", "stream_id", "target")

    def __init__(
        self, owner: CallOwner, stream_id: int, target: Target, deadline: float | None
    ) -> None:
        self._owner = owner
        self._reader: MessageReader | None = None
        self.stream_id = stream_id
        self.target = target
        self.deadline = deadline

    def data_received(self, data: bytes, ended: bool) -> None:
        """For the connection: bytes of the request."""
        owner = self._owner
        reader = self._reader
        if reader is None:
            message = whole_message(data, owner.message_bytes_max)
            if message is not None:
                del owner.calls[self.stream_id]
                owner.unary_received(self, message)
                return
            reader = self._reader = MessageReader(owner.message_bytes_max, self.target.gzip)
        owner.partial_bytes -= reader.buffered
        try:
            try:
                messages = reader.feed(data)
            finally:
                owner.partial_bytes += reader.buffered
            if ended and not messages:
                raise StatusError(Code.UNKNOWN, "unexpected EOF" if reader.buffered else "EOF")
        except StatusError as error:
            self.fail(error)
            return
        if messages:
            self.cancelled()
            del owner.calls[self.stream_id]
            owner.unary_received(self, messages[0])

    def cancelled(self) -> None:
        """For the connection: no more of it is wanted."""
        if self._reader is not None:
            self._owner.partial_bytes -= self._reader.buffered
            self._reader.clear()

    def fail(self, error: EtcdError) -> None:
        """For the connection: the request ends with an error."""
        self.cancelled()
        refuse(self._owner, self.stream_id, error)

    expire = fail


def refuse(owner: CallOwner, stream_id: int, error: EtcdError) -> None:
    """Answer with an error and nothing else."""
    owner.http2.send_headers(stream_id, RESPONSE_HEADERS + error_trailers(error), end=True)
    owner.calls.pop(stream_id, None)
    owner.mark_dirty()
