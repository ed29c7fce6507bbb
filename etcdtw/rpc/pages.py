"""HTTP/2 requests that are not gRPC: whoever serves pages gets them, stream by stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from etcdtw.errors import EtcdError
from etcdtw.http2.frames import ErrorCode
from etcdtw.http2.header_table import Field
from etcdtw.http2.message import Headers

from .call import STREAM_QUEUE_BYTES as QUEUE_BYTES
from .call import CallOwner


class PageReceiver(Protocol):
    """Serves one request."""

    def data(self, data: bytes) -> int:
        """A piece of the request's body; how many bytes of it are kept so far."""

    def ended(self) -> None:
        """The request is complete."""

    def lost(self) -> None:
        """The client gave it up, or is gone."""

    def room(self) -> None:
        """The client takes more of the answer, after it did not."""


class PageStream:
    """One such request, as a connection keeps it among its calls."""

    __slots__ = ("_held_bytes", "_owner", "deadline", "done", "receiver", "stream_id")

    receiver: PageReceiver

    def __init__(self, owner: CallOwner, stream_id: int) -> None:
        self._owner = owner
        self._held_bytes = 0  # of a request that is not complete
        self.stream_id = stream_id
        self.deadline: float | None = None
        self.done = False

    # --- for who serves --------------------------------------------------------------------------

    @property
    def transport(self) -> object:
        """The connection's transport, which knows the peer and its certificate."""
        return self._owner.transport

    def send_headers(self, fields: tuple[Field, ...], *, end: bool = False) -> None:
        if not self.done:
            self._owner.http2.send_headers(self.stream_id, fields, end=end)
            self._sent(end)

    def send_data(self, data: bytes, *, end: bool = False) -> None:
        if not self.done:
            self._owner.http2.send_data(self.stream_id, (data,), len(data), end=end)
            self._owner.unsent_bytes += len(data)
            self._sent(end)

    def refuse(self) -> None:
        """End it without an answer."""
        if not self.done:
            self._owner.http2.reset(self.stream_id)
            self._sent(True)

    def is_writable(self) -> bool:
        """Whether more should be sent now; after a False, ``room`` of the receiver is called."""
        if self.done:
            return False
        if self._owner.congested() or self.queued_bytes > QUEUE_BYTES:
            self._owner.stalled(self)
            return False
        return True

    def _sent(self, end: bool) -> None:
        if end:
            self.done = True
            self._holds(0)
            self._owner.calls.pop(self.stream_id, None)
        self._owner.mark_dirty()

    # --- for the connection ----------------------------------------------------------------------

    @property
    def queued_bytes(self) -> int:
        return self._owner.http2.queued_bytes(self.stream_id)

    @property
    def on_writable(self) -> Callable[[], None]:
        return self.receiver.room

    def data_received(self, data: bytes, ended: bool) -> None:
        if data:
            self._holds(self.receiver.data(data))
        if ended and not self.done:
            self._holds(0)
            self.receiver.ended()

    def _holds(self, size: int) -> None:
        self._owner.partial_bytes += size - self._held_bytes
        self._held_bytes = size

    def cancelled(self) -> None:
        if not self.done:
            self.done = True
            self._holds(0)
            self.receiver.lost()

    def fail(self, error: EtcdError) -> None:
        if not self.done:
            self._owner.http2.reset(self.stream_id, ErrorCode.INTERNAL_ERROR)
            self._owner.calls.pop(self.stream_id, None)
            self._owner.mark_dirty()
            self.cancelled()

    expire = fail


OpenPage = Callable[[PageStream, Headers], PageReceiver]
"""Takes a request whose body may still be on its way."""
