"""A member's watch service in small, whose every step is somebody's to take."""

from __future__ import annotations

from collections import deque

from etcdtw.pb.kv_pb2 import Event, KeyValue
from etcdtw.pb.rpc_pb2 import ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse

CLUSTER_ID = 7


class Log:
    """What was written, revision by revision, from 2 on as in every etcd."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = 0
        self.events: list[Event] = []

    def write(self, *keys: bytes) -> None:
        """One revision that puts these keys."""
        self.revision += 1
        for key in keys:
            kv = KeyValue(key=key, value=b"v%d" % self.revision, mod_revision=self.revision)
            self.events.append(Event(kv=kv))

    def delete(self, key: bytes) -> None:
        self.revision += 1
        kv = KeyValue(key=key, mod_revision=self.revision)
        self.events.append(Event(type=Event.DELETE, kv=kv))

    def compact(self, revision: int) -> None:
        self.compacted = max(self.compacted, min(revision, self.revision))

    def wanted(self, request: WatchCreateRequest, first: int, last: int) -> list[Event]:
        """The events of a watch within these revisions."""
        return [
            each
            for each in self.events
            if first <= each.kv.mod_revision <= last and is_watched(request, each)
        ]


def is_watched(request: WatchCreateRequest, event: Event) -> bool:
    key, end = event.kv.key, request.range_end
    inside = request.key <= key < end if end else key == request.key
    kind = WatchCreateRequest.NODELETE if event.type == Event.DELETE else WatchCreateRequest.NOPUT
    return inside and kind not in request.filters


class _Watch:
    def __init__(self, request: WatchCreateRequest, next_revision: int) -> None:
        self.request = request
        self.next_revision = next_revision


class MemberStream:
    """One watch stream of a member: requests wait in ``requests``, responses in ``responses``."""

    def __init__(self, log: Log, batch: int) -> None:
        """``batch`` is how many revisions a watch is told of at once while it catches up."""
        self._log = log
        self._batch = batch
        self._watches: dict[int, _Watch] = {}
        self._next_id = 0
        self.requests: deque[bytes] = deque()
        self.responses: deque[bytes] = deque()

    def serve_one(self) -> None:
        """Take the first request that waits."""
        request = WatchRequest.FromString(self.requests.popleft())
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            self._create(request.create_request)
        elif kind == "cancel_request":
            watch_id = request.cancel_request.watch_id
            if self._watches.pop(watch_id, None) is not None:
                self._say(WatchResponse(watch_id=watch_id, canceled=True))
        elif all(each.next_revision > self._log.revision for each in self._watches.values()):
            self._say(WatchResponse(watch_id=-1))

    def _create(self, request: WatchCreateRequest) -> None:
        watch_id, self._next_id = self._next_id, self._next_id + 1
        start = request.start_revision or self._log.revision + 1
        self._watches[watch_id] = _Watch(request, start)
        self._say(WatchResponse(watch_id=watch_id, created=True))

    @property
    def behind(self) -> list[int]:
        """Watches that lack something."""
        return [n for n, w in self._watches.items() if w.next_revision <= self._log.revision]

    def tell(self, watch_id: int, in_parts: bool = False) -> None:
        """Send a watch some of what it lacks."""
        log, watch = self._log, self._watches[watch_id]
        if watch.next_revision < log.compacted:
            del self._watches[watch_id]
            self._say(
                WatchResponse(watch_id=watch_id, canceled=True, compact_revision=log.compacted)
            )
            return
        last = min(watch.next_revision + self._batch - 1, log.revision)
        events = log.wanted(watch.request, watch.next_revision, last)
        watch.next_revision = last + 1
        if not events:
            return
        if in_parts and watch.request.fragment:
            for event in events[:-1]:
                self._say(WatchResponse(watch_id=watch_id, events=[event], fragment=True))
            events = events[-1:]
        self._say(WatchResponse(watch_id=watch_id, events=events))

    def notify(self) -> None:
        """Progress of the watches that lack nothing."""
        for watch_id, watch in self._watches.items():
            if watch.next_revision > self._log.revision and watch.request.progress_notify:
                self._say(WatchResponse(watch_id=watch_id))

    def _say(self, response: WatchResponse) -> None:
        header = ResponseHeader(cluster_id=CLUSTER_ID, revision=self._log.revision)
        response.header.CopyFrom(header)
        self.responses.append(response.SerializeToString())
