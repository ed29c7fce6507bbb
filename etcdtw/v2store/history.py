"""The last events of the whole tree, for watches that start in the past."""

from __future__ import annotations

from etcdtw.v2store.errors import V2Code, V2Error
from etcdtw.v2store.event import DELETE, EXPIRE, Event

CAPACITY = 1000


class EventHistory:
    """A ring of events. Every index of the tree has exactly one event, so the event of an index
    is found by counting from ``start_index``.

    Slots, front and back are part of etcd's saved form.
    """

    __slots__ = ("back", "capacity", "events", "front", "last_index", "size", "start_index")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.events: list[Event | None] = [None] * capacity
        self.size = 0
        self.front = 0
        self.back = 0
        self.start_index = 0
        self.last_index = 0

    def add(self, event: Event) -> None:
        """Append an event; the oldest one falls out when the ring is full."""
        self.events[self.back] = event
        self.back = (self.back + 1) % self.capacity
        if self.size == self.capacity:
            self.front = (self.front + 1) % self.capacity
        else:
            self.size += 1
        self.last_index = event.index
        oldest = self.events[self.front]
        assert oldest is not None, "the front of a ring that holds events is empty"
        self.start_index = oldest.index

    def scan(self, path: str, recursive: bool, index: int) -> Event | None:
        """The first event at or after ``index`` that a watch of ``path`` wants, if there is one.

        Raises V2Error (401) when ``index`` is older than the ring.
        """
        if index < self.start_index:
            cause = f"the requested history has been cleared [{self.start_index}/{index}]"
            raise V2Error(V2Code.EVENT_INDEX_CLEARED, cause)
        below = path if path.endswith("/") else path + "/"
        for offset in range(index - self.start_index, self.size):
            event = self.events[(self.front + offset) % self.capacity]
            assert event is not None, "a hole between front and back of the ring"
            if event.refresh:
                continue
            key = event.node.key
            if key == path or (recursive and key.startswith(below)):
                return event
            # A removed directory takes what is watched below it along. etcd compares the bare
            # texts, so /dir also hits a watch of /dirty.
            previous = event.previous
            if (
                event.action in (DELETE, EXPIRE)
                and previous is not None
                and previous.is_dir
                and path.startswith(previous.key)
            ):
                return event
        return None
