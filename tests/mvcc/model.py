"""A store that is easy to believe: every version of every key in a list."""

from __future__ import annotations

from dataclasses import dataclass, field

from etcdtw.errors import Compacted, FutureRevision
from etcdtw.mvcc.keyvalue import KV


def in_range(key: bytes, start: bytes, end: bytes) -> bool:
    if not end:
        return key == start
    return key >= start and (end == b"\0" or key < end)


@dataclass
class ModelStore:
    """Versions as (main revision, KV or None for a deletion), by key, oldest first."""

    revision: int = 1
    compacted: int = -1
    versions: dict[bytes, list[tuple[int, KV | None]]] = field(default_factory=dict)
    changes: list[tuple[int, bytes, KV | None]] = field(default_factory=list)

    def get(self, key: bytes, revision: int) -> KV | None:
        found = [kv for main, kv in self.versions.get(key, []) if main <= revision]
        return found[-1] if found else None

    def range(self, start: bytes, end: bytes, revision: int = 0) -> list[KV]:
        if revision > self.revision:
            raise FutureRevision
        revision = revision if revision > 0 else self.revision
        if revision < self.compacted:
            raise Compacted
        return self.live(start, end, revision)

    def live(self, start: bytes, end: bytes, revision: int) -> list[KV]:
        pairs = (self.get(key, revision) for key in sorted(self.versions))
        return [kv for kv in pairs if kv is not None and in_range(kv.key, start, end)]

    def put(self, main: int, key: bytes, value: bytes, lease: int) -> None:
        before = self.get(key, main)
        create, version = (before.create_revision, before.version) if before else (main, 0)
        self._add(main, key, KV(key, create, main, version + 1, value, lease))

    def delete_range(self, main: int, start: bytes, end: bytes) -> list[bytes]:
        keys = [kv.key for kv in self.live(start, end, main)]
        for key in keys:
            self._add(main, key, None)
        return keys

    def _add(self, main: int, key: bytes, kv: KV | None) -> None:
        self.versions.setdefault(key, []).append((main, kv))
        self.changes.append((main, key, kv))

    def compact(self, revision: int) -> None:
        if revision <= self.compacted:
            raise Compacted
        if revision > self.revision:
            raise FutureRevision
        self.compacted = revision

    def records(self) -> list[tuple[int, bytes, KV | None]]:
        """The changes that a finished compaction leaves, in order."""
        left = []
        for main, key, kv in self.changes:
            kept = kv is not None and self.get(key, self.compacted) is kv
            if main > self.compacted or kept:
                left.append((main, key, kv))
        return left
