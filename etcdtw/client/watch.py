"""Watches that survive the loss of connections and members without a gap or a repeat."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.message import DecodeError
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall

from etcdtw.client.channel import RETRY_SECONDS_MIN, Channel
from etcdtw.client.ranges import Key, first_key_of, range_end_of, to_bytes
from etcdtw.errors import Code, EtcdError, StatusError, WatchCanceled
from etcdtw.pb.kv_pb2 import Event
from etcdtw.pb.rpc_pb2 import (
    WatchCancelRequest,
    WatchCreateRequest,
    WatchProgressRequest,
    WatchRequest,
    WatchResponse,
)
from etcdtw.rpc.outgoing import OutgoingConnection, StreamOutgoing

QUEUE_EVENTS_MAX = 10_000
"""A watch whose owner has not taken so many events is cancelled on the server for a while."""

_PATH = "/etcdserverpb.Watch/Watch"
_FINAL = frozenset(
    {Code.UNIMPLEMENTED, Code.PERMISSION_DENIED, Code.UNAUTHENTICATED, Code.INVALID_ARGUMENT}
)


class WatchCompacted(EtcdError):
    """Events that the watch still lacked were compacted away; ``compact_revision`` is the first
    revision that can be watched from."""

    code = Code.OUT_OF_RANGE

    def __init__(self, compact_revision: int) -> None:
        super().__init__(f"required revision has been compacted ({compact_revision})")
        self.compact_revision = compact_revision


class Watch(AsyncIterator[Event]):
    """Events of some keys, in order, each once. Iterate over it, or ask for ``next_events``.

    ``next_revision`` is the first revision of which it has not got the events (0: not known yet);
    a watch that begins there later goes on where this one stopped.
    """

    def __init__(self, stream: WatchStreams, request: WatchCreateRequest) -> None:
        self.request = request
        self.next_revision = request.start_revision
        self._streams = stream
        self._events: deque[Event] = deque()
        self._waiting: Deferred[list[Event]] | None = None
        self._created: list[Deferred[None]] = []
        self._fragments: list[Event] = []
        self._error: EtcdError | None = None
        self.is_created = False
        self.watch_id: int | None = None
        self.parked = False

    # --- for its owner ---------------------------------------------------------------------------

    def next_events(self) -> Deferred[list[Event]]:
        """The events that have come, at least one; the error that ended the watch, once all
        events were taken. One at a time may wait."""
        if self._events:
            events = list(self._events)
            self._events.clear()
            self._streams.drained(self)
            return succeed(events)
        if self._error is not None:
            return fail(self._error)
        assert self._waiting is None, "somebody waits for the events of this watch already"
        self._waiting = Deferred(self._not_waiting)
        return self._waiting

    def when_created(self) -> Deferred[None]:
        """Fires when a server has confirmed the watch: events from then on are not missed."""
        if self._error is not None:
            return fail(self._error)
        if self.is_created:
            return succeed(None)
        created: Deferred[None] = Deferred()
        self._created.append(created)
        return created

    async def __anext__(self) -> Event:
        if not self._events:
            self._events.extend(await self.next_events())
        event = self._events.popleft()
        if not self._events:
            self._streams.drained(self)
        return event

    def cancel(self) -> None:
        """End it; who waits for events gets WatchCanceled."""
        self._streams.remove(self)
        self.ended(WatchCanceled())

    def _not_waiting(self, _: Deferred[list[Event]]) -> None:
        self._waiting = None

    # --- for the stream --------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        return self._error is not None

    @property
    def queued(self) -> int:
        """Events not taken yet."""
        return len(self._events)

    def created(self, revision: int) -> None:
        if not self.next_revision:
            self.next_revision = revision + 1
        self.is_created = True
        created, self._created = self._created, []
        for each in created:
            each.callback(None)

    def received(self, response: WatchResponse) -> None:
        self._fragments += response.events
        if response.fragment:
            return
        events, self._fragments = self._fragments, []
        if not events:
            self.next_revision = max(self.next_revision, response.header.revision + 1)
            return
        new = [each for each in events if each.kv.mod_revision >= self.next_revision]
        if not new:
            return
        self.next_revision = new[-1].kv.mod_revision + 1
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(new)
        else:
            self._events.extend(new)

    def interrupted(self) -> None:
        """The stream is gone; what came of an incomplete response is asked for again."""
        self._fragments = []
        self.watch_id = None

    def ended(self, error: EtcdError) -> None:
        if self._error is not None:
            return
        self._error = error
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(error)
        created, self._created = self._created, []
        for each in created:
            each.errback(error)


class WatchStreams:
    """All watches of a client on one stream, which is opened again whenever it ends."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._watches: dict[Watch, None] = {}
        self._by_id: dict[int, Watch] = {}
        self._creating: deque[Watch] = deque()
        self._stream: StreamOutgoing | None = None
        self._connection: OutgoingConnection | None = None
        self._opening = False
        self._reopening: IDelayedCall | None = None

    def add(
        self,
        key: Key,
        *,
        prefix: bool = False,
        start_revision: int = 0,
        **options: Any,
    ) -> Watch:
        if prefix:
            options["range_end"] = range_end_of(key, prefix=True)
        request = WatchCreateRequest(
            key=first_key_of(key) if prefix else to_bytes(key),
            start_revision=start_revision,
            fragment=True,
            **options,
        )
        watch = Watch(self, request)
        self._watches[watch] = None
        if self._stream is not None:
            self._create(watch)
        else:
            self._open()
        return watch

    def remove(self, watch: Watch) -> None:
        """Its owner does not want it any more."""
        self._watches.pop(watch, None)
        self._cancel_on_server(watch)
        if not self._watches and self._stream is not None:
            stream, self._stream = self._stream, None
            stream.cancel()
            self._interrupted()

    def ask_progress(self) -> None:
        """Have the server say how far the watches are."""
        if self._stream is not None:
            request = WatchRequest(progress_request=WatchProgressRequest())
            self._stream.send(request.SerializeToString())

    def drained(self, watch: Watch) -> None:
        """Its owner has taken all events: a parked watch goes on."""
        if watch.parked:
            watch.parked = False
            if self._stream is not None:
                self._create(watch)
            else:
                self._open()

    def close(self) -> None:
        watches, self._watches = self._watches, {}
        if self._reopening is not None:
            self._reopening.cancel()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()
        for each in watches:
            each.ended(WatchCanceled())

    # --- the stream ------------------------------------------------------------------------------

    def _open(self) -> None:
        if not self._opening:
            self._opening = True
            self._channel.wait(self._connected)

    def _connected(self, connection: OutgoingConnection | EtcdError) -> None:
        self._opening = False
        if isinstance(connection, EtcdError):
            if connection.code == Code.UNAVAILABLE:
                self._end_all(connection)  # the client is closed
            else:
                self._open_later()
            return
        if not self._watches:
            return
        self._connection = connection
        self._stream = connection.stream(_PATH, self._channel.metadata, self)
        for watch in self._watches:
            if not watch.parked:
                self._create(watch)

    def _open_later(self) -> None:
        self._opening = True

        def open_now() -> None:
            self._reopening = None
            self._opening = False
            if self._watches and self._stream is None:
                self._open()

        self._reopening = self._channel.clock.callLater(RETRY_SECONDS_MIN, open_now)

    def _create(self, watch: Watch) -> None:
        assert self._stream is not None, "a watch is created on a stream"
        request = WatchCreateRequest()
        request.CopyFrom(watch.request)
        request.start_revision = watch.next_revision
        self._creating.append(watch)
        self._stream.send(WatchRequest(create_request=request).SerializeToString())

    def _cancel_on_server(self, watch: Watch) -> None:
        watch_id = watch.watch_id
        if watch_id is not None and self._stream is not None:
            watch.watch_id = None
            del self._by_id[watch_id]
            request = WatchRequest(cancel_request=WatchCancelRequest(watch_id=watch_id))
            self._stream.send(request.SerializeToString())

    def message_received(self, body: bytes) -> None:
        if self._stream is None:
            return  # we ended it
        try:
            response = WatchResponse.FromString(body)
        except DecodeError:
            self._give_up("the server sent no WatchResponse")
            return
        if response.created:
            self._created(response)
            return
        watch = self._by_id.get(response.watch_id)
        if watch is None:
            return  # cancelled meanwhile
        if response.canceled:
            del self._by_id[response.watch_id]
            watch.watch_id = None
            if response.compact_revision:
                self._end(watch, WatchCompacted(response.compact_revision))
            else:
                self._end(watch, StatusError(Code.CANCELED, response.cancel_reason))
            return
        watch.received(response)
        if watch.queued > QUEUE_EVENTS_MAX:
            watch.parked = True
            self._cancel_on_server(watch)
            watch.interrupted()

    def _created(self, response: WatchResponse) -> None:
        if not self._creating:
            self._give_up("the server confirmed a watch that nobody asked for")
            return
        watch = self._creating.popleft()
        if response.canceled:
            self._end(watch, StatusError(Code.INVALID_ARGUMENT, response.cancel_reason))
            return
        watch.watch_id = response.watch_id
        self._by_id[response.watch_id] = watch
        if watch not in self._watches or watch.parked:
            self._cancel_on_server(watch)
        else:
            watch.created(response.header.revision)

    def stream_ended(self, error: EtcdError | None, answered: bool) -> None:
        if self._stream is None:
            return  # we ended it
        self._stream = None
        self._interrupted()
        if answered and error is not None and error.code in _FINAL:
            self._end_all(error)
            return
        if answered and self._connection is not None:
            self._channel.leave(self._connection)
        self._open_later()

    def _give_up(self, reason: str) -> None:
        """This server talks nonsense: try elsewhere, or again."""
        stream = self._stream
        assert stream is not None, "something came on a stream"
        stream.cancel()
        self.stream_ended(StatusError(Code.INTERNAL, reason), answered=True)

    def _interrupted(self) -> None:
        self._creating.clear()
        self._by_id.clear()
        for watch in self._watches:
            watch.interrupted()

    def _end(self, watch: Watch, error: EtcdError) -> None:
        self._watches.pop(watch, None)
        watch.ended(error)

    def _end_all(self, error: EtcdError) -> None:
        for watch in list(self._watches):
            self._end(watch, error)
