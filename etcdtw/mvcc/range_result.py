"""What a range found."""

from __future__ import annotations

from etcdtw.mvcc.keyvalue import unchunk


class RangeResult:
    """``chunks``: pairs in key order, tagged as RangeResponse holds them; ``count``: keys in the
    whole range, whatever the limit; ``revision``: the store's current one."""

    __slots__ = ("chunks", "count", "revision")

    def __init__(self, chunks: list[bytes], count: int, revision: int) -> None:
        self.chunks = chunks
        self.count = count
        self.revision = revision

    @property
    def pairs(self) -> list[bytes]:
        """The stored KeyValue records."""
        return [unchunk(chunk) for chunk in self.chunks]
