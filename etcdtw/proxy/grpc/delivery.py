"""What came of an upstream watch, encoded once for everybody who gets it."""

from __future__ import annotations

from collections.abc import Iterator

from etcdtw.pb.rpc_pb2 import WatchResponse

FRAGMENT_FIELD = WatchResponse(fragment=True).SerializeToString()


def header_of(response: WatchResponse) -> bytes:
    """The response's header as the first field of another response."""
    return WatchResponse(header=response.header).SerializeToString()


class Delivery:
    """Events of whole revisions: ``first`` and ``last`` are their ends."""

    __slots__ = ("_events", "_later", "body", "first", "header", "last")

    def __init__(self, response: WatchResponse) -> None:
        """``response`` has events, and all of each revision."""
        events = response.events
        self.header = header_of(response)
        self.first: int = events[0].kv.mod_revision
        self.last: int = events[-1].kv.mod_revision
        self._events = events
        self.body = WatchResponse(events=events).SerializeToString()
        self._later: dict[int, bytes] = {}

    def body_from(self, revision: int) -> bytes:
        """The events from a revision on; empty if there are none."""
        if revision <= self.first:
            return self.body
        found = self._later.get(revision)
        if found is None:
            later = [each for each in self._events if each.kv.mod_revision >= revision]
            found = self._later[revision] = WatchResponse(events=later).SerializeToString()
        return found


def fragments(body: bytes, room: int) -> Iterator[bytes]:
    """Events in as many bodies as it takes to keep each below ``room`` bytes. One event that is
    larger stays whole."""
    part: list[bytes] = []
    size = 0
    for event in WatchResponse.FromString(body).events:
        encoded = WatchResponse(events=[event]).SerializeToString()
        if part and size + len(encoded) >= room:
            yield b"".join(part)
            part, size = [], 0
        part.append(encoded)
        size += len(encoded)
    yield b"".join(part)
