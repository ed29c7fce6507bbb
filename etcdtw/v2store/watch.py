"""Watchers of the tree and who hears of which event."""

from __future__ import annotations

from collections.abc import Callable

from etcdtw.v2store.event import Event
from etcdtw.v2store.history import EventHistory


class Watcher:
    """One watch: ``deliver`` is called with each event, at once and in order; a watch without
    ``stream`` ends with its first event.

    ``start_index`` is the tree's index when the watch began (the ``X-Etcd-Index`` header).
    ``deliver`` must not call into the tree.
    """

    __slots__ = ("_hub", "deliver", "path", "recursive", "since_index", "start_index", "stream")

    def __init__(
        self,
        hub: WatcherHub,
        path: str,
        recursive: bool,
        stream: bool,
        since_index: int,
        start_index: int,
        deliver: Callable[[Event], None],
    ) -> None:
        self._hub = hub
        self.path = path
        self.recursive = recursive
        self.stream = stream
        self.since_index = since_index
        self.start_index = start_index
        self.deliver = deliver

    def cancel(self) -> None:
        """Deliver nothing more. Harmless when the watch is over."""
        self._hub.drop(self)


class WatcherHub:
    """The watchers by path, and the history that new ones may start from."""

    __slots__ = ("_by_path", "count", "history", "requests")

    def __init__(self) -> None:
        self.history = EventHistory()
        self.count = self.requests = 0
        # Inner dicts are ordered sets: watchers hear in the order they came.
        self._by_path: dict[str, dict[Watcher, None]] = {}

    def watch(
        self,
        path: str,
        recursive: bool,
        stream: bool,
        since_index: int,
        store_index: int,
        deliver: Callable[[Event], None],
    ) -> Watcher:
        """Begin a watch; an event that the history has already is delivered before this returns,
        and is then the only one. Raises V2Error when ``since_index`` is too old."""
        self.requests += 1
        watcher = Watcher(self, path, recursive, stream, since_index, store_index, deliver)
        event = self.history.scan(path, recursive, since_index)
        if event is not None:
            deliver(event)
            return watcher
        self._by_path.setdefault(path, {})[watcher] = None
        self.count += 1
        return watcher

    def drop(self, watcher: Watcher) -> None:
        """Forget a watcher; an unknown one is fine."""
        watchers = self._by_path.get(watcher.path)
        if watchers is not None and watcher in watchers:
            del watchers[watcher]
            self.count -= 1
            if not watchers:
                del self._by_path[watcher.path]

    def notify(self, event: Event) -> None:
        """Keep an event and tell the watchers of its node and of all directories above."""
        self.history.add(event)
        if not self._by_path:
            return
        key = event.node.key
        self._notify_path(event, "/", deleted=False)
        cut = key.find("/", 1)
        while cut > 0:
            self._notify_path(event, key[:cut], deleted=False)
            cut = key.find("/", cut + 1)
        if len(key) > 1:
            self._notify_path(event, key, deleted=False)

    def notify_deleted(self, event: Event, path: str) -> None:
        """Tell the watchers of a node that ``event`` removed together with its directory."""
        if self._by_path:
            self._notify_path(event, path, deleted=True)

    def _notify_path(self, event: Event, path: str, *, deleted: bool) -> None:
        watchers = self._by_path.get(path)
        if watchers is None:
            return
        at_node = event.node.key == path
        if not at_node and _is_hidden(path, event.node.key):
            return
        for watcher in list(watchers):
            wanted = watcher.recursive or at_node or deleted
            if wanted and event.index >= watcher.since_index:
                if not watcher.stream:
                    self.drop(watcher)
                watcher.deliver(event)


def _is_hidden(watched: str, key: str) -> bool:
    """Whether a part of ``key`` below ``watched`` begins with an underscore."""
    if len(watched) > len(key):
        return False  # the event removed a directory above the watched node
    return "/_" in "/" + key[len(watched) :]
