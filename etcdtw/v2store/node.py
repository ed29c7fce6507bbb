"""Nodes of the v2 tree and the form in which requests and watchers see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from etcdtw.v2store.gojson import quote
from etcdtw.v2store.times import PERMANENT, format_time, seconds_left


class Node:
    """A file (``children`` is None) or a directory of the tree.

    ``created`` and ``modified`` are indexes of the tree; ``expiration`` is in nanoseconds since
    the Unix epoch, 0 for a permanent node.
    """

    __slots__ = ("children", "created", "expiration", "modified", "parent", "path", "value")

    def __init__(
        self,
        path: str,
        index: int,
        parent: Node | None,
        expiration: int = PERMANENT,
        *,
        value: str = "",
        is_dir: bool = False,
    ) -> None:
        self.path = path
        self.created = index
        self.modified = index
        self.parent = parent
        self.expiration = expiration
        self.value = value
        self.children: dict[str, Node] | None = {} if is_dir else None

    @property
    def name(self) -> str:
        """The last element of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_dir(self) -> bool:
        return self.children is not None

    def below(self) -> Iterator[Node]:
        """Every node under this one, children before their directory."""
        # An explicit stack: the depth of a tree is its clients' choice.
        order: list[Node] = []
        stack = list((self.children or {}).values())
        while stack:
            node = stack.pop()
            order.append(node)
            if node.children:
                stack.extend(node.children.values())
        return reversed(order)

    def view(self, now: int) -> NodeView:
        """This node alone, as events carry it."""
        view = NodeView(self.path, modified=self.modified, created=self.created)
        if self.is_dir:
            view.is_dir = True
        else:
            view.value = self.value
        view.expire_at(self.expiration, now)
        return view

    def listing(self, recursive: bool, is_sorted: bool, now: int) -> list[NodeView]:
        """Views of the children that are not hidden, one level or all of them."""
        top: list[NodeView] = []
        stack = [(self, top)]
        while stack:
            node, views = stack.pop()
            children = node.children or {}
            for name in sorted(children) if is_sorted else children:
                if name.startswith("_"):
                    continue
                child = children[name]
                view = child.view(now)
                views.append(view)
                if recursive and child.children is not None:
                    view.nodes = []
                    stack.append((child, view.nodes))
        return top


@dataclass(slots=True)
class NodeView:
    """A node as answers and events show it; fields in the order of etcd's JSON.

    ``value`` None is no value at all; ``expiration`` 0 is none; ``ttl`` is in whole seconds.
    """

    key: str
    value: str | None = None
    is_dir: bool = False
    expiration: int = PERMANENT
    ttl: int = 0
    nodes: list[NodeView] | None = None
    modified: int = 0
    created: int = 0

    def expire_at(self, expiration: int, now: int) -> None:
        """Show when the node expires, and how long that is from ``now``."""
        self.expiration = expiration
        self.ttl = 0 if expiration == PERMANENT else seconds_left(expiration, now)

    def json(self, cut: int = 0) -> str:
        """One JSON object; empty and zero fields are left out. The first ``cut`` characters of
        every key are."""
        parts = []
        key = self.key[cut:]
        if key:
            parts.append(f'"key":{quote(key)}')
        if self.value is not None:
            parts.append(f'"value":{quote(self.value)}')
        if self.is_dir:
            parts.append('"dir":true')
        if self.expiration != PERMANENT:
            parts.append(f'"expiration":"{format_time(self.expiration)}"')
        if self.ttl:
            parts.append(f'"ttl":{self.ttl}')
        if self.nodes:
            parts.append(f'"nodes":[{",".join([each.json(cut) for each in self.nodes])}]')
        if self.modified:
            parts.append(f'"modifiedIndex":{self.modified}')
        if self.created:
            parts.append(f'"createdIndex":{self.created}')
        return "{" + ",".join(parts) + "}"
