"""Watch events as bytes: each change is encoded once and shared by everyone who watches it."""

from __future__ import annotations

from collections.abc import Sequence

from etcdtw.mvcc.changes import Change
from etcdtw.varint import varint

# Tags (field number, wire type) of mvccpb.Event and of etcdserverpb.WatchResponse.events.
_TYPE_DELETE = b"\x08\x01"
_KV = b"\x12"
_PREV_KV = b"\x1a"
_EVENTS = b"\x5a"


def encode_event(change: Change, with_prev: bool) -> bytes:
    """The change as one tagged ``events`` entry of a WatchResponse."""
    kv = change.kv
    event = _KV + varint(len(kv)) + kv
    if change.is_delete:
        event = _TYPE_DELETE + event
    if with_prev and change.prev is not None and not change.create:
        event += _PREV_KV + varint(len(change.prev)) + change.prev
    return _EVENTS + varint(len(event)) + event


class EventBatch:
    """Events of one or more whole revisions, shared by all watchers that receive them.

    ``revision`` is the last revision that the batch covers. ``events`` are tagged entries in
    order and ``body`` is all of them in one piece. ``header`` belongs to the receiver: whatever
    it wants to put before the body for all its watchers, kept here to be made only once.
    """

    __slots__ = ("body", "events", "header", "revision")

    def __init__(self, revision: int, events: Sequence[bytes]) -> None:
        self.revision = revision
        self.events = events
        self.body = events[0] if len(events) == 1 else b"".join(events)
        self.header: bytes | None = None
