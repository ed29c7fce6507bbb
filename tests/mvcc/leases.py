"""A lessor that only remembers which keys hang on which lease."""

from __future__ import annotations


class FakeLessor:
    def __init__(self) -> None:
        self.keys: dict[int, set[bytes]] = {}

    def grant(self, lease_id: int) -> None:
        self.keys[lease_id] = set()

    def revoke(self, lease_id: int) -> list[bytes]:
        """The keys that its owner must delete; the lease itself is gone at once."""
        return sorted(self.keys.pop(lease_id))

    def exists(self, lease_id: int) -> bool:
        return lease_id in self.keys

    def attach(self, lease_id: int, key: bytes) -> None:
        assert key not in self.keys[lease_id], f"{key!r} hangs on {lease_id} already"
        self.keys[lease_id].add(key)

    def detach(self, lease_id: int, key: bytes) -> None:
        if lease_id in self.keys:
            self.keys[lease_id].remove(key)
