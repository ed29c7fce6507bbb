"""Who is told what: watchers that want the same changes, and the events they are about to get."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from etcdtw.mvcc.changes import Change
from etcdtw.mvcc.watch_events import EventBatch, encode_event
from etcdtw.mvcc.watch_index import AudienceIndex, Interest

if TYPE_CHECKING:
    from etcdtw.mvcc.watch import Watcher


class Audience:
    """Watchers with the same interest, and the events that they are about to get."""

    __slots__ = ("events", "interest", "revisions", "watchers")

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self.watchers: dict[Watcher, None] = {}
        self.events: list[bytes] = []
        self.revisions: list[int] = []  # of each event

    def take_events(self) -> list[bytes]:
        events, self.events = self.events, []
        self.revisions.clear()
        return events

    def batch(self, first: int, last: int) -> EventBatch | None:
        """The events from revision ``first`` on, as a batch that covers all up to ``last``."""
        events = self.events[bisect_left(self.revisions, first) :]
        return EventBatch(last, events) if events else None


def audiences_of(watchers: Iterable[Watcher]) -> list[Audience]:
    audiences: dict[Interest, Audience] = {}
    for watcher in watchers:
        audience = audiences.get(watcher.interest)
        if audience is None:
            audience = audiences[watcher.interest] = Audience(watcher.interest)
        audience.watchers[watcher] = None
    return list(audiences.values())


def collect(
    index: AudienceIndex[Audience],
    revision: int,
    changes: Sequence[Change],
    touched: dict[Audience, None],
) -> tuple[int, int]:
    """Give the changes to every audience that wants them, and note these in ``touched``;
    returns the number of events given and their bytes."""
    matches = size = 0
    for change in changes:
        plain = full = b""
        is_delete = change.is_delete
        for audience in index.match(change.key):
            interest = audience.interest
            if interest.no_delete if is_delete else interest.no_put:
                continue
            if interest.prev_kv:
                event = full = full or encode_event(change, True)
            else:
                event = plain = plain or encode_event(change, False)
            audience.events.append(event)
            audience.revisions.append(revision)
            touched[audience] = None
            matches += 1
            size += len(event)
    return matches, size
