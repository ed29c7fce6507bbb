"""One watch at the cluster, and the clients' watches that live on it."""

from __future__ import annotations

from typing import NamedTuple

from etcdtw.pb.kv_pb2 import Event
from etcdtw.pb.rpc_pb2 import WatchCreateRequest, WatchRequest, WatchResponse
from etcdtw.proxy.grpc.delivery import Delivery


class Interest(NamedTuple):
    """What equal watches have in common, as on the wire."""

    key: bytes
    end: bytes
    filters: tuple[WatchCreateRequest.FilterType, ...]
    prev_kv: bool


class Watcher:
    """A client's watch. Who keeps it is told by these calls, none of which may come back."""

    __slots__ = ("broadcast", "interest", "is_created")

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self.broadcast: Broadcast | None = None
        self.is_created = False

    wants_progress = False

    def created(self, header: bytes) -> None:
        """It is watching; ``header`` is the encoded one of the answer, here and below."""

    def deliver(self, delivery: Delivery, body: bytes) -> None:
        """Events, ``body`` encoded."""

    def progress(self, header: bytes) -> None:
        """All events up to the header's revision were delivered."""

    def interrupted(self) -> None:
        """The cluster cannot be heard for now."""

    def canceled(self, header: bytes, response: WatchResponse) -> None:
        """It is over, for the reasons in the cluster's response."""


class Broadcast:
    """The ledger of one watch at the cluster.

    ``next_revision`` is the first revision of which it has not delivered the events (0: it begins
    with whatever revision its creation is answered with). ``level`` are watchers that lack the same
    events, ``ahead`` those that have had some of them already, with the first revision that each of
    them lacks.
    """

    __slots__ = (
        "ahead",
        "created_revision",
        "fragments",
        "interest",
        "is_asked",
        "is_started",
        "level",
        "next_revision",
        "watch_id",
    )

    def __init__(self, interest: Interest, next_revision: int) -> None:
        self.interest = interest
        self.next_revision = next_revision
        self.level: dict[Watcher, None] = {}
        self.ahead: dict[Watcher, int] = {}
        self.watch_id: int | None = None
        self.is_asked = False  # on the stream that there is now
        self.is_started = False  # once at least
        self.created_revision = -1
        self.fragments: list[Event] = []

    @property
    def is_live(self) -> bool:
        """Whether it has caught up with what there was when it was created on this stream."""
        return self.watch_id is not None and self.next_revision > self.created_revision

    @property
    def size(self) -> int:
        return len(self.level) + len(self.ahead)

    @property
    def watchers(self) -> list[Watcher]:
        return [*self.level, *self.ahead]

    def takes(self, start: int) -> bool:
        """Whether a watch that begins at this revision would get all it wants here, and no later
        than on its own."""
        if not self.next_revision:
            return False
        return start == self.next_revision or (self.is_live and start > self.next_revision)

    def attach(self, watcher: Watcher, next_revision: int) -> None:
        watcher.broadcast = self
        if next_revision > self.next_revision and self.next_revision:
            self.ahead[watcher] = next_revision
        else:
            self.level[watcher] = None

    def detach(self, watcher: Watcher) -> int:
        """Take it out; the first revision that it lacks."""
        watcher.broadcast = None
        if watcher in self.level:
            del self.level[watcher]
            return self.next_revision
        return self.ahead.pop(watcher)

    def create_request(self) -> bytes:
        interest = self.interest
        request = WatchCreateRequest(
            key=interest.key,
            range_end=interest.end,
            start_revision=self.next_revision,
            filters=interest.filters,
            prev_kv=interest.prev_kv,
            progress_notify=True,
            fragment=True,
        )
        return WatchRequest(create_request=request).SerializeToString()

    def interrupted(self) -> None:
        """The stream is gone; what came of an incomplete response is asked for again."""
        self.watch_id = None
        self.is_asked = False
        self.fragments = []
        for watcher in self.watchers:
            watcher.interrupted()

    def deliver(self, delivery: Delivery) -> None:
        """Pass events on: to each watcher those that it lacks."""
        body = delivery.body_from(self.next_revision)
        if body:
            for watcher in self.level:
                watcher.deliver(delivery, body)
        after = delivery.last + 1
        for watcher, lacks in list(self.ahead.items()):
            later = delivery.body_from(lacks)
            if later:
                watcher.deliver(delivery, later)
            if lacks <= after:
                del self.ahead[watcher]
                self.level[watcher] = None
        self.next_revision = max(self.next_revision, after)

    def progress(self, header: bytes, revision: int) -> None:
        """There are no more events up to this revision."""
        self.next_revision = max(self.next_revision, revision + 1)
        for watcher, lacks in list(self.ahead.items()):
            if lacks <= self.next_revision:
                del self.ahead[watcher]
                self.level[watcher] = None
        for watcher in self.level:
            if watcher.wants_progress:
                watcher.progress(header)
