"""Writing out the tree of one moment, in etcd's JSON and in steps, while it goes on changing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from etcdtw.v2store.gojson import quote
from etcdtw.v2store.node import Node
from etcdtw.v2store.times import PERMANENT, format_time
from etcdtw.v2store.tree import V2Store

STEP_NODES = 500
_VERSION = 2
_NEVER = format_time(PERMANENT)


class Saving:
    """The store as of its making, byte for byte as etcd writes it.

    The tree says which node is about to change, and what that node was is kept until the end; so a
    change costs a copy of one node, the first time, and a directory's children with it.
    """

    def __init__(self, store: V2Store) -> None:
        self._kept: dict[Node, tuple[str, Mapping[str, Node] | None]] = {}
        self._store = store
        self._parts = ['{"Root":']
        history = store.hub.history
        self._events = list(history.events)
        self._end = (
            f'"Size":{history.size},"Front":{history.front},"Back":{history.back},'
            f'"Capacity":{history.capacity}}},'
            f'"StartIndex":{history.start_index},"LastIndex":{history.last_index}}}}},'
            f'"CurrentIndex":{store.index},"Stats":{store.stats.json()},"CurrentVersion":{_VERSION}}}'
        )
        self._work = self._dump()
        store.savings.append(self)

    def keep(self, node: Node) -> None:
        """For the tree: this node is about to change."""
        if node not in self._kept:
            children = None if node.children is None else dict(node.children)
            self._kept[node] = (_attributes(node), children)

    def step(self, nodes_max: int = STEP_NODES) -> bool:
        """Write out so many nodes or events; True when that was all."""
        if len(list(islice(self._work, nodes_max))) == nodes_max:
            return False
        if self in self._store.savings:
            self._store.savings.remove(self)
            self._kept.clear()
        return True

    def result(self) -> bytes:
        """All of it, once it is done."""
        return "".join(self._parts).encode()

    def _dump(self) -> Iterator[None]:
        yield from self._dump_tree(self._store.root)
        parts = self._parts
        parts.append(',"WatcherHub":{"EventHistory":{"Queue":{"Events":[')
        separator = ""
        for event in self._events:
            parts.append(separator + ("null" if event is None else event.json()))
            separator = ","
            yield
        parts.append("]," + self._end)

    def _dump_tree(self, root: Node) -> Iterator[None]:
        """The JSON of a directory and everything below it; children sorted by name."""
        parts = self._parts
        attributes, children = self._as_it_was(root)
        parts.append(f'{{"Path":"/",{attributes}')
        # Open directories: their nodes, what is left of their names, and their path as JSON.
        stack = [(root, iter(sorted(children or ())), "")]
        separator = "{"
        if not children:
            parts.append(separator)
        while stack:
            directory, names, directory_path = stack[-1]
            for name in names:
                yield
                # Looked up anew each time: the directory may have changed since, and been kept.
                siblings = self._as_it_was(directory)[1]
                assert siblings is not None, "an open directory is one"
                node = siblings[name]
                attributes, children = self._as_it_was(node)
                name_json = quote(name)[1:-1]
                path = f"{directory_path}/{name_json}"
                head = f'{separator}"{name_json}":{{"Path":"{path}",{attributes}'
                if children:
                    parts.append(head)
                    stack.append((node, iter(sorted(children)), path))
                    separator = "{"
                    break
                parts.append(head + ("null}" if children is None else "{}}"))
                separator = ","
            else:
                parts.append("}}")
                separator = ","
                stack.pop()

    def _as_it_was(self, node: Node) -> tuple[str, Mapping[str, Node] | None]:
        """Attributes as JSON, and children, at the time of the saving."""
        kept = self._kept.get(node)
        return (_attributes(node), node.children) if kept is None else kept


def save(store: V2Store) -> bytes:
    """The whole store at once."""
    saving = Saving(store)
    while not saving.step():
        pass
    return saving.result()


def _attributes(node: Node) -> str:
    expires = _NEVER if node.expiration == PERMANENT else format_time(node.expiration)
    return (
        f'"CreatedIndex":{node.created},"ModifiedIndex":{node.modified},'
        f'"ExpireTime":"{expires}","Value":{quote(node.value)},"Children":'
    )
