"""Answers of serializable ranges, kept until something in them changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from etcdtw.mvcc.watch_index import AudienceIndex
from etcdtw.mvcc.watch_index import Interest as Span
from etcdtw.proxy.grpc.upstream import Identity

ENTRIES_MAX = 2048
"""etcd's number."""

Question = tuple[Identity, bytes]
"""Who asks, and the encoded request: answers are for the same question of the same people only."""


class Entry:
    """One answer."""

    __slots__ = ("answer", "is_kept", "on_dropped", "question", "revision", "span")

    def __init__(self, question: Question, span: Span, revision: int, answer: bytes) -> None:
        """``revision`` is the one that was asked for (0: the latest), which never changes."""
        self.question = question
        self.span = span
        self.revision = revision
        self.answer = answer
        self.is_kept = True
        self.on_dropped: Callable[[], None] = lambda: None


class RangeCache:
    """The least recently used answer leaves first."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._entries: OrderedDict[Question, Entry] = OrderedDict()
        self._spans: AudienceIndex[Entry] = AudienceIndex()
        self.hits = self.misses = 0
        self.written_revision = 0
        """The last revision that a write through this proxy is known to have made."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, question: Question) -> bytes | None:
        entry = self._entries.get(question)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(question)
        return entry.answer

    def add(self, entry: Entry, store_revision: int) -> bool:
        """Keep an answer that was true at this revision; False if a later write through the proxy
        may have changed it."""
        if not entry.revision and store_revision < self.written_revision:
            return False
        former = self._entries.get(entry.question)
        if former is not None:
            self.drop(former)
        self._entries[entry.question] = entry
        if not entry.revision:
            self._spans.add(entry.span, entry)
        if len(self._entries) > self._entries_max:
            self.drop(next(iter(self._entries.values())))
        return True

    def drop(self, entry: Entry) -> None:
        """It is not true any more, or not wanted."""
        if entry.is_kept:
            entry.is_kept = False
            del self._entries[entry.question]
            if not entry.revision:
                self._spans.remove(entry.span, entry)
            entry.on_dropped()

    def written(self, key: bytes, end: bytes, revision: int = 0) -> None:
        """Something was, or may have been, written or deleted here (``end`` as on the wire)."""
        self.written_revision = max(self.written_revision, revision)
        if not self._entries:
            return
        if not end:
            for each in self._spans.match(key):
                self.drop(each)
            return
        span = span_of(key, end)
        for each in [each for each in self._entries.values() if not each.revision]:
            if _overlap(each.span, span):
                self.drop(each)

    def compacted(self, revision: int) -> None:
        """What was asked for at older revisions is not there any more."""
        for each in [each for each in self._entries.values() if 0 < each.revision < revision]:
            self.drop(each)

    def clear(self) -> None:
        for each in list(self._entries.values()):
            self.drop(each)


def span_of(key: bytes, end: bytes) -> Span:
    """A range of the wire: no end is one key, a zero byte is no end."""
    if not end:
        return Span(key)
    return Span(key, b"" if end == b"\0" else end)


def is_empty(key: bytes, end: bytes) -> bool:
    """Whether no key can be in such a range."""
    return end not in (b"", b"\0") and end <= key


def _overlap(one: Span, other: Span) -> bool:
    return _begins_before_end(one, other) and _begins_before_end(other, one)


def _begins_before_end(one: Span, other: Span) -> bool:
    if other.end is None:
        return one.key <= other.key
    return other.end == b"" or one.key < other.end
