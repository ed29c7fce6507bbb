"""Equal watches of many clients on few watches at the cluster.

Every watch gets exactly what it would get alone: the ledger of each watch at the cluster says up to
which revision it has delivered, and a client's watch joins one only if nothing it wants has passed.
A watch that begins "now" has to be told by the cluster what now is, so it is always created there,
then moves over to one that is there already. One such creation is under way at a time; who comes
meanwhile waits for the next, for the answer to the first may be older than his wish.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from etcdtw.pb.rpc_pb2 import (
    WatchCancelRequest,
    WatchProgressRequest,
    WatchRequest,
    WatchResponse,
)
from etcdtw.proxy.grpc.broadcast import Broadcast, Interest, Watcher
from etcdtw.proxy.grpc.delivery import Delivery, header_of
from etcdtw.proxy.grpc.namespace import Namespace

ALL_WATCHES = -1
_PROGRESS = WatchRequest(progress_request=WatchProgressRequest()).SerializeToString()
WENT_BACK = "etcdserver: mvcc: the cluster's revision went back"

Send = Callable[[bytes], None]


class WatchCounts:
    """For metrics. ``watchers`` is how many watches do without one of their own at the cluster,
    ``events`` how many responses of the cluster were not needed for that."""

    def __init__(self) -> None:
        self.watchers = 0
        self.events = 0


class _Group:
    """The broadcasts of one interest."""

    __slots__ = ("broadcasts", "probe", "waiting")

    def __init__(self) -> None:
        self.broadcasts: list[Broadcast] = []
        self.probe: Broadcast | None = None
        """The one that is to find out what revision is now."""
        self.waiting: dict[Watcher, None] = {}
        """Those who came after it was sent."""


class WatchCoalescer:
    """All watches of clients who may see the same, on one stream to the cluster at a time.

    Without IO: ``opened`` brings the stream's ``send``, ``received`` what comes, ``lost`` says that
    it is gone. ``on_progress`` gets the header of an answer to a progress request, ``on_doubt`` a
    revision that the cluster does not seem to know any more.
    """

    def __init__(
        self, namespace: Namespace | None = None, counts: WatchCounts | None = None
    ) -> None:
        self._namespace = namespace
        self._counts = counts or WatchCounts()
        self._groups: dict[Interest, _Group] = {}
        self._by_id: dict[int, Broadcast] = {}
        self._creating: deque[Broadcast] = deque()
        self._send: Send | None = None
        self.progress_wanted = False
        """Whether somebody waits for the cluster to say how far it is; not every member answers."""
        self.header = header_of(WatchResponse())
        """The last one that the cluster sent with its revision, encoded."""
        self.on_progress: Callable[[bytes], None] = lambda header: None
        self.on_doubt: Callable[[int], None] = lambda revision: None
        self.on_delivered: Callable[[], None] = lambda: None

    # --- clients ---------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether no stream is needed."""
        return not self._groups and not self.progress_wanted

    def add(self, watcher: Watcher, start: int) -> None:
        """Begin with this revision, or now if it is 0; one below that is the cluster's to judge."""
        group = self._groups.get(watcher.interest)
        if group is None:
            group = self._groups[watcher.interest] = _Group()
        if not start:
            self._add_now(group, watcher)
            return
        for each in group.broadcasts:
            if each.takes(start):
                self._attach(each, watcher, start)
                return
        self._begin(group, watcher, start)

    def remove(self, watcher: Watcher) -> int:
        """It is not wanted any more; the first revision that it has not got (0: it was not created
        yet). Nothing happens to one that is over."""
        group = self._groups.get(watcher.interest)
        if group is None:
            return 0
        broadcast = watcher.broadcast
        if broadcast is None:
            group.waiting.pop(watcher, None)
            self._forget_if_empty(watcher.interest, group)
            return 0
        if broadcast.size > 1:
            self._counts.watchers -= 1
        lacks = broadcast.detach(watcher)
        if not broadcast.size:
            self._drop(group, broadcast)
        return lacks

    def ask_progress(self) -> None:
        """Have the cluster say how far all watches are."""
        self.progress_wanted = True
        if self._send is not None:
            self._send(_PROGRESS)

    def went_back(self, revision: int) -> None:
        """The cluster is not the one that the watches knew, but of this older revision: who watches
        has to look at everything anew."""
        response = WatchResponse(
            canceled=True, compact_revision=revision + 1, cancel_reason=WENT_BACK
        )
        for group in list(self._groups.values()):
            for broadcast in list(group.broadcasts):
                if broadcast.next_revision > revision + 1:
                    self._end(group, broadcast, response)

    def _add_now(self, group: _Group, watcher: Watcher) -> None:
        if group.probe is None:
            group.probe = self._begin(group, watcher, 0)
        elif group.probe.is_asked:
            group.waiting[watcher] = None
        else:
            self._attach(group.probe, watcher, 0)

    def _begin(self, group: _Group, watcher: Watcher, start: int) -> Broadcast:
        broadcast = Broadcast(watcher.interest, start)
        group.broadcasts.append(broadcast)
        broadcast.attach(watcher, start)
        self._ask(broadcast)
        return broadcast

    def _attach(self, broadcast: Broadcast, watcher: Watcher, start: int) -> None:
        broadcast.attach(watcher, start)
        self._counts.watchers += 1
        if broadcast.is_started and not watcher.is_created:
            watcher.is_created = True
            watcher.created(self.header)

    def _ask(self, broadcast: Broadcast) -> None:
        if self._send is not None:
            broadcast.is_asked = True
            self._creating.append(broadcast)
            self._send(broadcast.create_request())

    def _drop(self, group: _Group, broadcast: Broadcast) -> None:
        """Nobody listens any more. One whose creation is not answered yet is cancelled then."""
        if broadcast in group.broadcasts:
            group.broadcasts.remove(broadcast)
        watch_id = broadcast.watch_id
        if watch_id is not None:
            broadcast.watch_id = None
            del self._by_id[watch_id]
            if self._send is not None:
                request = WatchRequest(cancel_request=WatchCancelRequest(watch_id=watch_id))
                self._send(request.SerializeToString())
        if group.probe is broadcast:
            self._probe_is_over(group)
        self._forget_if_empty(broadcast.interest, group)

    def _probe_is_over(self, group: _Group) -> None:
        """Those who came after it was sent get their own."""
        group.probe = None
        waiting, group.waiting = list(group.waiting), {}
        if waiting:
            group.probe = self._begin(group, waiting[0], 0)
            for watcher in waiting[1:]:
                self._attach(group.probe, watcher, 0)

    def _forget_if_empty(self, interest: Interest, group: _Group) -> None:
        if not group.broadcasts and not group.waiting:
            self._groups.pop(interest, None)

    # --- the stream ------------------------------------------------------------------------------

    def opened(self, send: Send) -> None:
        self._send = send
        for group in self._groups.values():
            for broadcast in group.broadcasts:
                self._ask(broadcast)
        if self.progress_wanted:
            send(_PROGRESS)

    def lost(self) -> None:
        self._send = None
        self._by_id.clear()
        self._creating.clear()
        for group in self._groups.values():
            for broadcast in group.broadcasts:
                broadcast.interrupted()
        self.on_delivered()

    def received(self, body: bytes) -> None:
        response = WatchResponse.FromString(body)
        header = header_of(response)
        if response.header.revision:  # not in the answer that says what is compacted
            self.header = header
        if response.created:
            if self._creating:
                self._created(self._creating.popleft(), response)
        elif response.watch_id == ALL_WATCHES:
            self.progress_wanted = False
            self.on_progress(header)
        else:
            broadcast = self._by_id.get(response.watch_id)
            if broadcast is not None:  # else it was cancelled meanwhile
                self._told(broadcast, response)
        self.on_delivered()

    def _created(self, broadcast: Broadcast, response: WatchResponse) -> None:
        group = self._groups.get(broadcast.interest)
        if response.canceled:
            if group is not None and broadcast in group.broadcasts:
                self._end(group, broadcast, response)
            return
        broadcast.watch_id = response.watch_id
        self._by_id[response.watch_id] = broadcast
        if group is None or broadcast not in group.broadcasts:
            self._drop(group or _Group(), broadcast)
            return
        revision = response.header.revision
        broadcast.created_revision = revision
        if broadcast.is_started and broadcast.next_revision > revision + 1:
            self.on_doubt(broadcast.next_revision - 1)
        if not broadcast.next_revision:
            broadcast.next_revision = revision + 1
        broadcast.is_started = True
        for watcher in broadcast.watchers:
            if not watcher.is_created:
                watcher.is_created = True
                watcher.created(self.header)
        if group.probe is broadcast:
            self._probe_is_over(group)
        self._merge(group, broadcast)

    def _told(self, broadcast: Broadcast, response: WatchResponse) -> None:
        group = self._groups[broadcast.interest]
        if response.canceled:
            del self._by_id[response.watch_id]
            broadcast.watch_id = None
            self._end(group, broadcast, response)
            return
        if response.fragment or broadcast.fragments:
            broadcast.fragments += response.events
            if response.fragment:
                return
            del response.events[:]
            response.events.extend(broadcast.fragments)
            broadcast.fragments = []
        if response.events:
            if self._namespace is not None:
                self._namespace.watched(response)
            self._counts.events += broadcast.size - 1
            broadcast.deliver(Delivery(response))
        else:
            broadcast.progress(self.header, response.header.revision)
        if len(group.broadcasts) > 1:
            self._merge(group, broadcast)

    def _merge(self, group: _Group, broadcast: Broadcast) -> None:
        """Let another one take over, if it is not ahead: what it repeats is not passed on."""
        for other in group.broadcasts:
            is_behind = other.next_revision <= broadcast.next_revision
            if other is not broadcast and other.is_live and is_behind:
                self._move(broadcast, other)
                self._drop(group, broadcast)
                return

    def _move(self, broadcast: Broadcast, other: Broadcast) -> None:
        self._counts.watchers += 1
        for watcher in broadcast.watchers:
            other.attach(watcher, broadcast.detach(watcher))

    def _end(self, group: _Group, broadcast: Broadcast, response: WatchResponse) -> None:
        """The cluster ends it, and with it those of its watches that the reason concerns."""
        compacted = response.compact_revision
        header = header_of(response) if response.HasField("header") else self.header
        others: list[tuple[Watcher, int]] = []
        for watcher in broadcast.watchers:
            if broadcast.size > 1:
                self._counts.watchers -= 1
            is_ahead = watcher in broadcast.ahead
            lacks = broadcast.detach(watcher)
            if is_ahead and compacted and lacks >= compacted:
                others.append((watcher, lacks))  # what it lacks is still there, or yet to come
            else:
                watcher.canceled(header, response)
        self._drop(group, broadcast)
        for watcher, lacks in others:
            self.add(watcher, lacks)
