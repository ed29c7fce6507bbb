"""Reading the saved form of the tree: the data of a Raft snapshot, in etcd's JSON."""

from __future__ import annotations

import json
from typing import Any

from etcdtw.v2store.event import Event
from etcdtw.v2store.expiry import ExpiryHeap
from etcdtw.v2store.history import CAPACITY, EventHistory
from etcdtw.v2store.node import Node, NodeView
from etcdtw.v2store.stats import JSON_KEYS, Stats
from etcdtw.v2store.times import PERMANENT, parse_time
from etcdtw.v2store.tree import V2Store


def recover(store: V2Store, data: bytes) -> None:
    """Replace the content of ``store`` by a saved one; watchers stay.

    Accepts any key order and missing parts of the history. Raises ValueError, with the store as
    it was, when ``data`` is not a saved store.
    """
    try:
        saved = json.loads(data)
        expiry = ExpiryHeap()
        root = _load_tree(saved["Root"], expiry)
        history = _load_history(saved.get("WatcherHub") or {})
        counts = saved.get("Stats") or {}
        stats = Stats(**{name: int(counts.get(key, 0)) for name, key in JSON_KEYS.items()})
        index = int(saved["CurrentIndex"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a saved v2 store: {error!r}") from error
    store.root = root
    store.expiry = expiry
    store.hub.history = history
    store.stats = stats
    store.index = index


def _load_tree(saved: dict[str, Any], expiry: ExpiryHeap) -> Node:
    root = _load_node(saved, None)
    stack = [(root, saved)]
    while stack:
        node, fields = stack.pop()
        if node.expiration != PERMANENT:
            expiry.set(node.path, node.expiration)
        if node.children is None:
            continue
        for name, child_fields in fields["Children"].items():
            child = _load_node(child_fields, node)
            node.children[name] = child
            stack.append((child, child_fields))
    if root.children is None:
        raise ValueError("the root is not a directory")
    return root


def _load_node(saved: dict[str, Any], parent: Node | None) -> Node:
    node = Node(
        saved["Path"],
        int(saved["CreatedIndex"]),
        parent,
        parse_time(saved["ExpireTime"]),
        value=saved.get("Value", ""),
        is_dir=saved.get("Children") is not None,
    )
    node.modified = int(saved["ModifiedIndex"])
    return node


def _load_history(hub: dict[str, Any]) -> EventHistory:
    saved = hub.get("EventHistory") or {}
    queue = saved.get("Queue") or {}
    history = EventHistory(int(queue.get("Capacity") or CAPACITY))
    slots = queue.get("Events") or []
    if not slots:
        return history
    if len(slots) != history.capacity:
        raise ValueError(f"{len(slots)} event slots for a capacity of {history.capacity}")
    history.events = [None if each is None else _load_event(each) for each in slots]
    history.size = int(queue["Size"])
    history.front = int(queue["Front"])
    history.back = int(queue["Back"])
    history.start_index = int(saved["StartIndex"])
    history.last_index = int(saved["LastIndex"])
    return history


def _load_event(saved: dict[str, Any]) -> Event:
    previous = saved.get("prevNode")
    return Event(
        saved["action"],
        _load_view(saved["node"]),
        None if previous is None else _load_view(previous),
        bool(saved.get("refresh", False)),
    )


def _load_view(saved: dict[str, Any]) -> NodeView:
    expiration = saved.get("expiration")
    return NodeView(
        saved.get("key", ""),
        saved.get("value"),
        bool(saved.get("dir", False)),
        PERMANENT if expiration is None else parse_time(expiration),
        int(saved.get("ttl", 0)),
        None,
        int(saved.get("modifiedIndex", 0)),
        int(saved.get("createdIndex", 0)),
    )
