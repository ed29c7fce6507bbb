"""The Watch service: many watches on one stream, each with its id."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from etcdtw.api.v3.streaming import HeaderSource, decode_streamed, requires_leader
from etcdtw.errors import Code, EtcdError, NoLeader, StatusError
from etcdtw.mvcc.watch import Place, Watcher, WatchHub
from etcdtw.mvcc.watch_events import EventBatch
from etcdtw.mvcc.watch_index import Interest
from etcdtw.pb.rpc_pb2 import WatchCreateRequest, WatchRequest, WatchResponse
from etcdtw.rpc import Router, StreamCall

EMPTY_RANGE = "mvcc: watcher range is empty"
DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"
# A progress answer to a request concerns all watches of the stream.
ALL_WATCHES = -1
_FRAGMENT = b"\x38\x01"
# Asking whether a stream is writable costs much of a small delivery: it is not done each time.
REQUESTS_PER_TURN = 300
BACKLOG_MAX = 100_000
BACKLOG_BYTES_MAX = 64 * 1024 * 1024
LOOK_EVERY_RESPONSES = 16
SMALL_BODY_BYTES = 4096
TOGETHER_MAX = 64
"""Responses in one piece: with small bodies it is not above what a turn may leave unsent."""


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """``response_bytes_max`` is where a response to a fragmenting watch is cut;
    ``blocked_*_max``: what a stream takes while its client does not read, before its watches
    have to wait; ``sync_budget``: changes and deliveries per turn of catching up;
    ``no_leader_seconds``: how long streams that require a leader go on without one."""

    progress_seconds: float = 600.0
    response_bytes_max: int = 1_572_864 + 524_288
    blocked_responses_max: int = 128
    blocked_bytes_max: int = 4 << 20
    sync_budget: int = 2000
    no_leader_seconds: float = 3.0


class Dice(Protocol):
    def random(self) -> float:
        """0 <= x < 1."""


class WatchService:
    """``etcdserverpb.Watch``, and the driver that lets watchers catch up.

    ``may_watch`` says why the caller must not see these keys, None if he may. ``has_leader``
    and ``leader_changed`` serve clients that sent ``hasleader: true``.
    """

    def __init__(
        self,
        hub: WatchHub,
        header: HeaderSource,
        clock: IReactorTime,
        dice: Dice,
        settings: WatchSettings | None = None,
        *,
        may_watch: Callable[[StreamCall, Interest], EtcdError | None] = lambda call, keys: None,
        has_leader: Callable[[], bool] = lambda: True,
    ) -> None:
        self.hub = hub
        self.header = header
        self.clock = clock
        self.settings = settings or WatchSettings()
        self.may_watch = may_watch
        self.streams: dict[WatchStream, None] = {}
        self.progress_wanted: dict[WatchStream, None] = {}
        self._dice = dice
        self._has_leader = has_leader
        self._syncing: IDelayedCall | None = None
        self._leaderless: IDelayedCall | None = None
        hub.on_work = self.sync_soon

    @property
    def stream_count(self) -> int:
        return len(self.streams)

    def register(self, router: Router) -> None:
        router.add_stream("/etcdserverpb.Watch/Watch", self.watch, lasting=True)

    def watch(self, call: StreamCall) -> None:
        if requires_leader(call) and not self._has_leader():
            call.finish(NoLeader())
            return
        self.streams[WatchStream(self, call)] = None

    def leader_changed(self, leader: int) -> None:
        """There is this leader now, 0: none."""
        if self._leaderless is not None:
            self._leaderless.cancel()
            self._leaderless = None
        if not leader:
            delay = self.settings.no_leader_seconds
            self._leaderless = self.clock.callLater(delay, self._end_without_leader)

    def _end_without_leader(self) -> None:
        self._leaderless = None
        for stream in [each for each in self.streams if requires_leader(each.call)]:
            stream.end(NoLeader())

    def take_over(self, earlier: WatchService) -> None:
        """Go on with the streams of an earlier life of the member, which has paused: their
        watches read this one's store from where they were."""
        hub = earlier.hub
        hub.restore(self.hub.store)
        hub.on_work = self.sync_soon
        self.hub = hub
        self.streams, self.progress_wanted = earlier.streams, earlier.progress_wanted
        for stream in self.streams:
            stream.service = self
        self.sync_soon()
        self.leader_changed(0)

    def stop(self) -> None:
        """End every watch; the streams' connections are closed by whoever owns them."""
        for stream in list(self.streams):
            stream.release()
        self.pause()

    def pause(self) -> None:
        """Do nothing by itself any more."""
        for timer in (self._syncing, self._leaderless):
            if timer is not None:
                timer.cancel()
        self._syncing = self._leaderless = None

    def sync_soon(self) -> None:
        if self._syncing is None:
            self._syncing = self.clock.callLater(0, self._sync)

    def progress_delay(self) -> float:
        """Seconds to the next notification, a little different each time so that streams which
        began together do not stay together."""
        return self.settings.progress_seconds * (1 + self._dice.random() / 10)

    def _sync(self) -> None:
        self._syncing = None
        if self.hub.sync_some(self.settings.sync_budget):
            self.sync_soon()
        for stream in list(self.progress_wanted):
            stream.answer_progress()


class WatchStream:
    """One stream and its watches; the subscriber that the hub asks whether it is ready."""

    def __init__(self, service: WatchService, call: StreamCall) -> None:
        self.call = call
        self.service = service
        self.ready = True
        self.response_bytes_max = service.settings.response_bytes_max
        self.unlooked = 0  # responses since the last look whether the client keeps up
        self._settings = service.settings
        self._watches: dict[int, StreamWatcher] = {}
        self._next_id = 0
        self._blocked_responses = 0
        self._blocked_bytes = 0
        self._blocked_requests = 0
        self._notifying: IDelayedCall | None = None
        self._handled = 0  # requests in this turn
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._released = False
        self._next_turn: IDelayedCall | None = None
        call.on_message = self._message
        call.on_cancel = self.release
        call.on_writable = self._writable
        # A client that has no more to ask may still want to hear.
        call.on_half_close = lambda: None

    def end(self, error: EtcdError | None) -> None:
        self.release()
        self.call.finish(error)

    def release(self) -> None:
        """Nobody listens any more."""
        for watch in self._watches.values():
            self.service.hub.cancel(watch)
        self._watches.clear()
        self.service.streams.pop(self, None)
        self.service.progress_wanted.pop(self, None)
        self._released = True
        self._backlog.clear()
        for timer in (self._notifying, self._next_turn):
            if timer is not None:
                timer.cancel()
        self._notifying = self._next_turn = None

    # --- requests -----------------------------------------------------------------------------

    def _message(self, body: bytes) -> None:
        """Many requests may come in one read; others get their turn in between. Who does not take
        his answers gets no more of them."""
        if self._released:
            return
        if self._may_handle() and not self._backlog:
            self._take(body)
            return
        self._backlog.append(body)
        self._backlog_bytes += len(body)
        if len(self._backlog) > BACKLOG_MAX or self._backlog_bytes > BACKLOG_BYTES_MAX:
            self.end(StatusError(Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests"))

    def _may_handle(self) -> bool:
        return max(self._handled, self._blocked_requests) < REQUESTS_PER_TURN

    def _take(self, body: bytes) -> None:
        if self._handled == 0:
            self._next_turn = self.service.clock.callLater(0, self._go_on)
        self._handled += 1
        self._blocked_requests += not self.ready
        self._handle(body)

    def _go_on(self) -> None:
        self._next_turn = None
        self._handled = 0
        while self._backlog and self._may_handle():
            body = self._backlog.popleft()
            self._backlog_bytes -= len(body)
            self._take(body)

    def _handle(self, body: bytes) -> None:
        try:
            request = decode_streamed(WatchRequest, body)
        except EtcdError as error:
            self.end(error)
            return
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            self._create(request.create_request)
        elif kind == "cancel_request":
            self._cancel(request.cancel_request.watch_id)
        elif kind == "progress_request":
            self.service.progress_wanted[self] = None
            self.answer_progress()

    def _create(self, request: WatchCreateRequest) -> None:
        interest = _interest(request)
        denied = self.service.may_watch(self.call, interest)
        if denied is not None:
            reason = f"rpc error: code = {_go_name(denied)} desc = {denied}"
            self._answer(WatchResponse(created=True, canceled=True, cancel_reason=reason))
            return
        refused = self._refusal(interest, request.watch_id)
        if refused is not None:
            self._answer(
                WatchResponse(watch_id=-1, created=True, canceled=True, cancel_reason=refused)
            )
            return
        watch_id = request.watch_id or self._free_id()
        watch = self._watches[watch_id] = StreamWatcher(interest, self, watch_id, request)
        self._answer(WatchResponse(watch_id=watch_id, created=True))
        self.service.hub.add(watch, request.start_revision)
        if request.progress_notify and self._notifying is None:
            self._notify_later()

    def _refusal(self, interest: Interest, watch_id: int) -> str | None:
        if interest.end and interest.end <= interest.key:
            return EMPTY_RANGE
        return DUPLICATE_ID if watch_id and watch_id in self._watches else None

    def _free_id(self) -> int:
        while self._next_id in self._watches:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def _cancel(self, watch_id: int) -> None:
        watch = self._watches.pop(watch_id, None)
        if watch is None:
            return
        self.service.hub.cancel(watch)
        self._answer(WatchResponse(watch_id=watch_id, canceled=True))
        if self in self.service.progress_wanted:
            self.service.sync_soon()

    # --- progress -----------------------------------------------------------------------------

    def answer_progress(self) -> None:
        """Answer a progress request as soon as no watch of the stream lacks older events."""
        if all(each.is_up_to_date for each in self._watches.values()):
            self.service.progress_wanted.pop(self, None)
            self._answer(WatchResponse(watch_id=ALL_WATCHES))

    def _notify_later(self) -> None:
        delay = self.service.progress_delay()
        self._notifying = self.service.clock.callLater(delay, self._notify)

    def _notify(self) -> None:
        self._notifying = None
        wanting = [each for each in self._watches.values() if each.progress_notify]
        for watch in wanting:
            if watch.quiet and watch.place is Place.SYNCED and self.ready:
                self._send(self._header() + watch.id_field)
            watch.quiet = True
        if wanting:
            self._notify_later()

    # --- answers ------------------------------------------------------------------------------

    def header_of(self, batch: EventBatch) -> bytes:
        header = batch.header
        if header is None:
            header = batch.header = self.service.header.encode(batch.revision)
        return header

    def look(self, body_bytes: int) -> None:
        """See whether the client keeps up; ``body_bytes`` is the size of the last response."""
        unlooked, self.unlooked = self.unlooked, 0
        if self.call.writable:
            return
        self._blocked_responses += unlooked
        self._blocked_bytes += body_bytes
        self.ready = (
            self._blocked_responses < self._settings.blocked_responses_max
            and self._blocked_bytes < self._settings.blocked_bytes_max
        )

    def send_fragments(self, head: bytes, batch: EventBatch) -> None:
        room = self.response_bytes_max - len(head) - len(_FRAGMENT)
        part: list[bytes] = []
        size = 0
        for event in batch.events:
            if part and size + len(event) >= room:
                self._send(head + _FRAGMENT, b"".join(part))
                part = []
                size = 0
            part.append(event)
            size += len(event)
        self._send(head, b"".join(part))

    def watch_compacted(self, watch_id: int, revision: int) -> None:
        # Without a revision in the header, as etcd sends it. The id stays taken until the client
        # cancels it.
        answer = WatchResponse(watch_id=watch_id, canceled=True, compact_revision=revision)
        self._send(self.service.header.encode(0) + answer.SerializeToString())

    def _answer(self, response: WatchResponse) -> None:
        self._send(self._header() + response.SerializeToString())

    def _header(self) -> bytes:
        service = self.service
        return service.header.encode(service.hub.revision)

    def _send(self, head: bytes, body: bytes = b"") -> None:
        self.call.send_shared(head, body)
        self.unlooked += 1
        self.look(len(head) + len(body))

    def _writable(self) -> None:
        self._blocked_responses = self._blocked_bytes = self._blocked_requests = 0
        if not self.ready:
            self.ready = True
            self.service.hub.resume(self)
        if self._backlog and self._next_turn is None:
            self._go_on()


class StreamWatcher(Watcher):
    """One watch of a stream. ``quiet``: no event was sent since the last progress round."""

    __slots__ = ("fragment", "id_field", "progress_notify", "quiet", "stream", "watch_id")

    def __init__(
        self, interest: Interest, stream: WatchStream, watch_id: int, request: WatchCreateRequest
    ) -> None:
        super().__init__(interest, stream)
        self.stream = stream
        self.watch_id = watch_id
        self.id_field = WatchResponse(watch_id=watch_id).SerializeToString()
        self.fragment = request.fragment
        self.progress_notify = request.progress_notify
        self.quiet = True

    @property
    def is_up_to_date(self) -> bool:
        """Whether it got everything so far, or will never get anything more."""
        return self.place is Place.SYNCED or self.place is Place.CLOSED

    def deliver(self, batch: EventBatch) -> None:
        self.quiet = False
        stream = self.stream
        head = (batch.header or stream.header_of(batch)) + self.id_field
        body = batch.body
        size = len(body)
        if self.fragment and size > stream.response_bytes_max:
            stream.send_fragments(head, batch)
            return
        stream.call.send_shared(head, body)
        stream.unlooked += 1
        if stream.unlooked >= LOOK_EVERY_RESPONSES or size > SMALL_BODY_BYTES:
            stream.look(size)

    def deliver_together(self, watchers: Sequence[Watcher], batch: EventBatch) -> int:
        """As many responses as one look allows, in one piece."""
        stream = self.stream
        body = batch.body
        size = len(body)
        if size > SMALL_BODY_BYTES or stream.call.is_local:
            return 0
        header = batch.header or stream.header_of(batch)
        heads: list[bytes] = []
        for watcher in cast("Sequence[StreamWatcher]", watchers[:TOGETHER_MAX]):
            watcher.quiet = False
            heads.append(header + watcher.id_field)
        stream.call.send_each(heads, body)
        stream.unlooked += len(heads)
        stream.look(size)
        return len(heads)

    def compacted(self, revision: int) -> None:
        self.stream.watch_compacted(self.watch_id, revision)


def _interest(request: WatchCreateRequest) -> Interest:
    # On the wire an empty key means the first one, an end of one zero byte means no end.
    end: bytes | None = request.range_end or None
    if end == b"\x00":
        end = b""
    filters = request.filters
    return Interest(
        request.key or b"\x00",
        end,
        no_put=WatchCreateRequest.NOPUT in filters,
        no_delete=WatchCreateRequest.NODELETE in filters,
        prev_kv=request.prev_kv,
    )


def _go_name(error: EtcdError) -> str:
    """The status code as grpc-go prints it: ``PermissionDenied``."""
    return error.code.name.title().replace("_", "")
