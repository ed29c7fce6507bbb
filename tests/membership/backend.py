"""The least backend that the membership needs."""

from __future__ import annotations

from collections.abc import Iterator

from zope.interface import implementer

from etcdtw.mvcc.interfaces import IBackend


@implementer(IBackend)
class DictBackend:
    """Buckets in dictionaries; nothing is durable."""

    def __init__(self) -> None:
        self.content: dict[bytes, dict[bytes, bytes]] = {}
        self._index = (0, 0)

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        return self.content.get(bucket, {}).get(key)

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        self.content.setdefault(bucket, {})[key] = value

    def delete(self, bucket: bytes, key: bytes) -> None:
        self.content.get(bucket, {}).pop(key, None)

    def scan(self, bucket: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        items = sorted(self.content.get(bucket, {}).items())
        return iter([(k, v) for k, v in items if start <= k and (end is None or k < end)])

    def end_entry(self, index: int, term: int) -> None:
        self._index = (index, term)

    def consistent_index(self) -> tuple[int, int]:
        return self._index

    def durable_index(self) -> int:
        return 0

    def commit(self) -> None:
        pass

    def size(self) -> int:
        return 0

    def size_in_use(self) -> int:
        return 0

    def buckets(self) -> list[bytes]:
        return sorted(self.content)

    def close(self) -> None:
        pass
