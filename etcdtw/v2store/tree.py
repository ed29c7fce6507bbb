"""The v2 tree: etcd's first data model, replicated by the log and still the home of membership.

Every successful write takes the next index; failed ones take none. All members apply the same
writes in the same order and so hold the same tree; only ``Stats`` (reads are local) and the
``ttl`` shown in old events may differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from etcdtw.v2store import event as actions
from etcdtw.v2store.errors import V2Code, V2Error
from etcdtw.v2store.event import Event
from etcdtw.v2store.expiry import ExpiryHeap
from etcdtw.v2store.node import Node, NodeView
from etcdtw.v2store.stats import Stats
from etcdtw.v2store.times import PERMANENT, YEAR_2000
from etcdtw.v2store.watch import Watcher, WatcherHub

CLUSTER_ROOT = "/0"
KEYS_ROOT = "/1"


class Keeper(Protocol):
    """Keeps what a node was."""

    def keep(self, node: Node) -> None: ...


class V2Store:
    """The tree with its index, history, watchers and counters.

    ``now`` tells the time in nanoseconds since the Unix epoch; it is only used for the ``ttl`` in
    what is shown, never to decide anything: nodes expire by ``expire_until`` alone.
    All methods take paths inside the tree (``/1/...`` for clients' keys) and raise V2Error.
    Expirations are in nanoseconds since the Unix epoch, 0 for none. ``refresh`` keeps the value,
    and no watcher hears of it.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self.index = 0
        self.stats = Stats()
        self.hub = WatcherHub()
        self.root = Node("/", 0, None, is_dir=True)
        self.expiry = ExpiryHeap()
        self.savings: list[Keeper] = []
        """Those who write out an earlier state, and want to see a node before it changes."""
        self._read_only = frozenset(("/", CLUSTER_ROOT, KEYS_ROOT))
        for path in (CLUSTER_ROOT, KEYS_ROOT):
            assert self.root.children is not None, "the root is a directory"
            self.root.children[path[1:]] = Node(path, 0, self.root, is_dir=True)

    def has_ttl_keys(self) -> bool:
        """Whether anything may expire, so that SYNC entries are worth proposing."""
        return len(self.expiry) > 0

    def holds_keys(self) -> bool:
        """Whether there is anything besides what members write of themselves."""
        found = (self.root.children or {}).values()
        return any(each.children for each in found if each.path != CLUSTER_ROOT)

    # --- reads ---------------------------------------------------------------------------------

    def get(self, path: str, recursive: bool = False, is_sorted: bool = False) -> Event:
        """A file, or a directory with its children (all levels if ``recursive``)."""
        try:
            node = self._find(path)
        except V2Error:
            self.stats.gets_fail += 1
            raise
        self.stats.gets_success += 1
        view = NodeView(path, modified=node.modified, created=node.created)
        self._fill(view, node, recursive, is_sorted)
        return Event(actions.GET, view, store_index=self.index)

    def peek(self, path: str) -> str | None:
        """A file's value, None if there is none; nobody has asked for it, so it is not counted."""
        node: Node | None = self.root
        for name in path.split("/")[1:]:
            node = node.children.get(name) if node is not None and node.children else None
        return None if node is None else node.value

    def watch(
        self,
        path: str,
        recursive: bool,
        stream: bool,
        since_index: int,
        deliver: Callable[[Event], None],
    ) -> Watcher:
        """Deliver the first event (all events if ``stream``) at ``path`` from ``since_index`` on;
        0 means from now on. One that has happened already is delivered before this returns."""
        try:
            return self.hub.watch(
                clean_path(path),
                recursive,
                stream,
                since_index or self.index + 1,
                self.index,
                deliver,
            )
        except V2Error as error:
            error.index = self.index
            raise

    def stats_json(self) -> str:
        """The body of ``/v2/stats/store``."""
        self.stats.watchers = self.hub.count
        return self.stats.json()

    # --- writes --------------------------------------------------------------------------------

    def create(
        self,
        path: str,
        value: str = "",
        *,
        is_dir: bool = False,
        in_order: bool = False,
        expiration: int = PERMANENT,
    ) -> Event:
        """Make a node that must not exist; ``in_order`` makes one below ``path`` whose name is
        the index of its creation."""
        with self._counted("create"):
            event, _ = self._put(actions.CREATE, path, value, is_dir, in_order, expiration)
        self.hub.notify(event)
        return event

    def set(
        self,
        path: str,
        value: str = "",
        *,
        is_dir: bool = False,
        expiration: int = PERMANENT,
        refresh: bool = False,
    ) -> Event:
        """Make a node, in place of a file if one is there; a directory is not replaced."""
        with self._counted("sets"):
            previous = self._find_or_none(path)
            if refresh:
                value = (previous or self._find(path)).value
            event, replaced = self._put(actions.SET, path, value, is_dir, False, expiration)
        if replaced is not None:
            view = NodeView(path, modified=replaced.modified, created=replaced.created)
            self._fill(view, replaced, False, False)
            event.previous = view
        self._publish(event, refresh)
        return event

    def update(
        self, path: str, value: str, *, expiration: int = PERMANENT, refresh: bool = False
    ) -> Event:
        """Change value and expiration of an existing file, or the expiration of a directory,
        which keeps its modified index."""
        with self._counted("update", V2Code.ROOT_READ_ONLY, V2Code.NOT_FILE):
            path = self._writable(path)
            node = self._find(path)
            if node.is_dir and value:
                raise V2Error(V2Code.NOT_FILE, path, self.index)
            event = self._rewrite(actions.UPDATE, node, path, value, expiration, refresh)
        self._publish(event, refresh)
        return event

    def compare_and_swap(
        self,
        path: str,
        previous_value: str,
        previous_index: int,
        value: str,
        *,
        expiration: int = PERMANENT,
        refresh: bool = False,
    ) -> Event:
        """``update`` of a file whose value and modified index are as given; an empty value and
        index 0 match anything."""
        with self._counted("compare_and_swap", V2Code.ROOT_READ_ONLY):
            path = self._writable(path)
            node = self._compared(path, previous_value, previous_index)
            event = self._rewrite(actions.COMPARE_AND_SWAP, node, path, value, expiration, refresh)
        self._publish(event, refresh)
        return event

    def delete(self, path: str, *, is_dir: bool = False, recursive: bool = False) -> Event:
        """Remove a file; an empty directory if ``is_dir``; any directory if ``recursive``."""
        with self._counted("delete", V2Code.ROOT_READ_ONLY):
            path = self._writable(path)
            node = self._find(path)
            if node.children is not None:
                if not is_dir and not recursive:
                    raise V2Error(V2Code.NOT_FILE, path, self.index)
                if node.children and not recursive:
                    raise V2Error(V2Code.DIR_NOT_EMPTY, path, self.index)
            event = self._removal(actions.DELETE, node, path)
        self.hub.notify(event)
        return event

    def compare_and_delete(self, path: str, previous_value: str, previous_index: int) -> Event:
        """Remove a file whose value and modified index are as given."""
        with self._counted("compare_and_delete", V2Code.NOT_FILE, V2Code.TEST_FAILED):
            path = clean_path(path)
            node = self._compared(path, previous_value, previous_index)
            event = self._removal(actions.COMPARE_AND_DELETE, node, path)
        self.hub.notify(event)
        return event

    def expire_until(self, cutoff: int) -> list[Event]:
        """Remove every node that expires at or before ``cutoff``, the earliest first."""
        events = []
        while (path := self.expiry.pop_until(cutoff)) is not None:
            event = self._removal(actions.EXPIRE, self._find(path), path)
            self.stats.expire_count += 1
            self.hub.notify(event)
            events.append(event)
        return events

    # --- inside --------------------------------------------------------------------------------

    def _counted(self, name: str, *taken_for_success: V2Code) -> _Counting:
        """Count what happens inside as a success or a failure of ``name``.

        etcd counts some refusals as successes; ``taken_for_success`` names them.
        """
        return _Counting(self.stats, name, taken_for_success)

    def _writable(self, path: str) -> str:
        path = clean_path(path)
        if path in self._read_only:
            raise V2Error(V2Code.ROOT_READ_ONLY, "/", self.index)
        return path

    def _find(self, path: str) -> Node:
        node = self.root
        for name in clean_path(path).split("/")[1:]:
            if not name:
                break
            if node.children is None:
                raise V2Error(V2Code.NOT_DIR, node.path, self.index)
            child = node.children.get(name)
            if child is None:
                raise V2Error(V2Code.KEY_NOT_FOUND, _join(node.path, name), self.index)
            node = child
        return node

    def _find_or_none(self, path: str) -> Node | None:
        try:
            return self._find(path)
        except V2Error as error:
            if error.code is not V2Code.KEY_NOT_FOUND:
                raise
            return None

    def _compared(self, path: str, previous_value: str, previous_index: int) -> Node:
        node = self._find(path)
        if node.is_dir:
            raise V2Error(V2Code.NOT_FILE, path, self.index)
        causes = []
        if previous_value and previous_value != node.value:
            causes.append(f"[{previous_value} != {node.value}]")
        if previous_index and previous_index != node.modified:
            causes.append(f"[{previous_index} != {node.modified}]")
        if causes:
            raise V2Error(V2Code.TEST_FAILED, " ".join(causes), self.index)
        return node

    def _make_parents(self, path: str) -> Node:
        """The directory that ``path`` is in; missing ones are made with the next index."""
        node = self.root
        for name in path.split("/")[1:-1]:
            children = node.children
            assert children is not None, "walked into a file"
            child = children.get(name)
            if child is None:
                child = Node(_join(node.path, name), self.index + 1, node, is_dir=True)
                self._changing(node)
                children[name] = child
            elif not child.is_dir:
                self.stats.sets_fail += 1  # counted here as well as by the caller, as etcd does
                raise V2Error(V2Code.NOT_DIR, child.path, self.index)
            node = child
        return node

    def _put(
        self, action: str, path: str, value: str, is_dir: bool, in_order: bool, expiration: int
    ) -> tuple[Event, Node | None]:
        """Make a node; returns its event and the file that it replaced."""
        index = self.index + 1
        if in_order:
            path = f"{path}/{index:020}"
        path = self._writable(path)
        if expiration < YEAR_2000:
            expiration = PERMANENT
        parent = self._make_parents(path)
        siblings = parent.children
        assert siblings is not None, "a parent is a directory"
        name = path.rpartition("/")[2]
        old = siblings.get(name)
        if old is not None:
            if action == actions.CREATE:
                raise V2Error(V2Code.NODE_EXIST, path, self.index)
            if old.is_dir:
                raise V2Error(V2Code.NOT_FILE, path, self.index)
            self._detach(old)
        node = Node(path, index, parent, expiration, value="" if is_dir else value, is_dir=is_dir)
        self._changing(parent)
        siblings[name] = node
        if expiration != PERMANENT:
            self.expiry.set(path, expiration)
        self.index = index
        return Event(action, node.view(self._now()), store_index=index), old

    def _rewrite(
        self, action: str, node: Node, path: str, value: str, expiration: int, refresh: bool
    ) -> Event:
        """Change a node in place. The event carries the new index even where a directory does
        not take it."""
        now = self._now()
        previous = node.view(now)
        self.index += 1
        view = NodeView(path, is_dir=node.is_dir, modified=self.index, created=node.created)
        self._changing(node)
        if not node.is_dir:
            if not refresh:
                node.value = value
            node.modified = self.index
            view.value = node.value
        node.expiration = expiration
        if expiration == PERMANENT:
            self.expiry.discard(path)
        else:
            self.expiry.set(path, expiration)
        view.expire_at(expiration, now)
        return Event(action, view, previous, store_index=self.index)

    def _removal(self, action: str, node: Node, path: str) -> Event:
        """Remove a node and all below it; watchers below hear of it before anybody else."""
        self.index += 1
        view = NodeView(path, is_dir=node.is_dir, modified=self.index, created=node.created)
        event = Event(action, view, node.view(self._now()), store_index=self.index)
        for each in node.below():
            self.expiry.discard(each.path)
            self.hub.notify_deleted(event, each.path)
        self._detach(node)
        self.hub.notify_deleted(event, path)
        return event

    def _detach(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None and parent.children is not None, "a fixed root was removed"
        self._changing(parent)
        del parent.children[node.name]
        self.expiry.discard(node.path)

    def _changing(self, node: Node) -> None:
        for each in self.savings:
            each.keep(node)

    def _publish(self, event: Event, refresh: bool) -> None:
        if refresh:
            event.refresh = True
            self.hub.history.add(event)
        else:
            self.hub.notify(event)

    def _fill(self, view: NodeView, node: Node, recursive: bool, is_sorted: bool) -> None:
        now = self._now()
        if node.is_dir:
            view.is_dir = True
            view.nodes = node.listing(recursive, is_sorted, now)
        else:
            view.value = node.value
        view.expire_at(node.expiration, now)


class _Counting:
    """A ``with`` block that counts how it ended. Every write is one, and a generator would cost
    more than what it counts."""

    __slots__ = ("_name", "_stats", "_taken_for_success")

    def __init__(self, stats: Stats, name: str, taken_for_success: tuple[V2Code, ...]) -> None:
        self._stats = stats
        self._name = name
        self._taken_for_success = taken_for_success

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            ending = "_success"
        elif isinstance(error, V2Error):
            ending = "_success" if error.code in self._taken_for_success else "_fail"
        else:
            return
        name = self._name + ending
        setattr(self._stats, name, getattr(self._stats, name) + 1)


def clean_path(path: str) -> str:
    """The shortest absolute path that means the same: no empty, ``.`` or ``..`` elements."""
    if path[:1] == "/" and path[-1] != "/" and "//" not in path and "/." not in path:
        return path
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            del names[-1:]
        elif name and name != ".":
            names.append(name)
    return "/" + "/".join(names)


def _join(directory: str, name: str) -> str:
    return f"/{name}" if directory == "/" else f"{directory}/{name}"
