"""One client's watch stream at the proxy, and its watches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etcdtw.errors import EtcdError
from etcdtw.pb.rpc_pb2 import WatchCreateRequest, WatchRequest, WatchResponse
from etcdtw.proxy.grpc.broadcast import Interest, Watcher
from etcdtw.proxy.grpc.delivery import FRAGMENT_FIELD, Delivery, fragments
from etcdtw.rpc import StreamCall

if TYPE_CHECKING:
    from etcdtw.proxy.grpc.watch_service import WatchSession

DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"
# Asking whether a stream is writable costs much of a small delivery: it is not done each time.
_LOOK_EVERY = 16
_SMALL_BYTES = 4096


@dataclass(frozen=True)
class WatchLimits:
    """Of one client's stream: where responses to a fragmenting watch are cut, and what may wait for
    a client that does not read before its watches are taken out of the common ones."""

    response_bytes_max: int = 1_572_864 + 524_288
    blocked_bytes_max: int = 4 << 20


class WatchStream:
    """One client's stream."""

    def __init__(self, session: WatchSession, call: StreamCall) -> None:
        self.call = call
        self.limits = session.limits
        self.unlooked = 0
        self._session = session
        self._watches = session.watches
        self._by_id: dict[int, ClientWatch] = {}
        self._next_id = 0
        self._blocked_bytes = 0
        self._parked: dict[ClientWatch, int] = {}
        self._is_parked = False
        self._wants_progress = False
        call.on_message = self._message
        call.on_cancel = self._release
        call.on_writable = self._resume
        # A client that has no more to ask may still want to hear.
        call.on_half_close = lambda: None

    def end(self, error: EtcdError) -> None:
        self.call.finish(error)
        self._release()

    def _release(self) -> None:
        for watch in self._by_id.values():
            self._watches.remove(watch)
        self._by_id.clear()
        self._parked.clear()
        self._session.left(self)

    # --- requests --------------------------------------------------------------------------------

    def _message(self, body: bytes) -> None:
        request = WatchRequest.FromString(body)
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            self._create(request.create_request)
        elif kind == "cancel_request":
            self._cancel(request.cancel_request.watch_id)
        elif kind == "progress_request":
            self._ask_progress()

    def _create(self, request: WatchCreateRequest) -> None:
        if request.watch_id and request.watch_id in self._by_id:
            self._answer(
                WatchResponse(watch_id=-1, created=True, canceled=True, cancel_reason=DUPLICATE_ID)
            )
            return
        if self._session.namespace is not None:
            self._session.namespace.watch(request)
        watch_id = request.watch_id or self._free_id()
        watch = self._by_id[watch_id] = ClientWatch(self, watch_id, request)
        if self._is_parked:
            self._parked[watch] = request.start_revision
            return
        self._watches.add(watch, request.start_revision)
        self._session.look()

    def _free_id(self) -> int:
        while self._next_id in self._by_id:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def _cancel(self, watch_id: int) -> None:
        watch = self._by_id.pop(watch_id, None)
        if watch is not None:
            self._parked.pop(watch, None)
            self._watches.remove(watch)
            self._answer(WatchResponse(watch_id=watch_id, canceled=True))
            self._session.look()

    def _ask_progress(self) -> None:
        """What is parked has to catch up before anything can be said."""
        self._wants_progress = True
        if not self._is_parked:
            self._session.ask_progress(self)

    # --- answers ---------------------------------------------------------------------------------

    def tell_progress(self, header: bytes) -> None:
        if not self._is_parked:
            self._wants_progress = False
            self.send(header + WatchResponse(watch_id=-1).SerializeToString())

    def refused(self, watch: ClientWatch) -> None:
        """It never came to be: its number is free."""
        self._by_id.pop(watch.watch_id, None)

    def send(self, head: bytes, body: bytes = b"") -> None:
        self.call.send_shared(head, body)
        self.look(len(head) + len(body))

    def look(self, body_bytes: int) -> None:
        """See whether the client keeps up."""
        self.unlooked = 0
        if not self.call.writable:
            self._blocked_bytes += max(body_bytes, _SMALL_BYTES)
            if self._blocked_bytes >= self.limits.blocked_bytes_max:
                self._session.blocked[self] = None

    def park(self) -> None:
        """The client does not read: its watches go on where they are once it does."""
        if self.call.done:
            return
        self._is_parked = True
        for watch in self._by_id.values():
            if watch.broadcast is not None and watch.is_created:
                self._parked[watch] = self._watches.remove(watch)

    def _resume(self) -> None:
        self._blocked_bytes = 0
        self._session.blocked.pop(self, None)
        if self._is_parked:
            self._is_parked = False
            parked, self._parked = self._parked, {}
            for watch, lacks in parked.items():
                self._watches.add(watch, lacks)
            if self._wants_progress:
                self._session.ask_progress(self)
            self._session.look()

    def _answer(self, response: WatchResponse) -> None:
        self.send(self._watches.header + response.SerializeToString())


class ClientWatch(Watcher):
    """One watch of a client."""

    __slots__ = ("_send", "fragment", "id_field", "stream", "wants_progress", "watch_id")

    def __init__(self, stream: WatchStream, watch_id: int, request: WatchCreateRequest) -> None:
        super().__init__(
            Interest(
                request.key,
                request.range_end,
                tuple(sorted(set(request.filters))),
                request.prev_kv,
            )
        )
        self.stream = stream
        self._send = stream.call.send_shared
        self.watch_id = watch_id
        self.id_field = WatchResponse(watch_id=watch_id).SerializeToString()
        self.fragment = request.fragment
        self.wants_progress = request.progress_notify

    def created(self, header: bytes) -> None:
        answer = WatchResponse(watch_id=self.watch_id, created=True)
        self.stream.send(header + answer.SerializeToString())

    def deliver(self, delivery: Delivery, body: bytes) -> None:
        stream = self.stream
        head = delivery.header + self.id_field
        size = len(body)
        if self.fragment and size > stream.limits.response_bytes_max:
            parts = list(fragments(body, stream.limits.response_bytes_max))
            for part in parts[:-1]:
                stream.send(head + FRAGMENT_FIELD, part)
            stream.send(head, parts[-1])
            return
        self._send(head, body)
        stream.unlooked += 1
        if stream.unlooked >= _LOOK_EVERY or size > _SMALL_BYTES:
            stream.look(size)

    def progress(self, header: bytes) -> None:
        self.stream.send(header + self.id_field)

    def canceled(self, header: bytes, response: WatchResponse) -> None:
        answer = WatchResponse(
            watch_id=self.watch_id,
            canceled=True,
            compact_revision=response.compact_revision,
            cancel_reason=response.cancel_reason,
        )
        if not self.is_created:
            answer.created = True
            answer.watch_id = response.watch_id
            self.stream.refused(self)
        self.stream.send(header + answer.SerializeToString())
