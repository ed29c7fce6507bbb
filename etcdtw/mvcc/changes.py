"""What one sub revision did to one key."""

from __future__ import annotations

from typing import NamedTuple

LARGE_CHANGES = 2000
"""A revision with more changes is not read in one go."""


class Change(NamedTuple):
    """``kv`` is the stored record; for a deletion a record of key and mod_revision, as events
    carry it. ``prev`` is the record before this revision: None if there was none, if it is
    compacted, or while the store's ``tells_prev`` is false for a deletion and for what history
    tells. ``create`` says that the key did not exist before."""

    key: bytes
    kv: bytes
    is_delete: bool
    prev: bytes | None
    create: bool


class LargeRevision(Exception):
    """``revision`` has so many changes that they are to be read in pieces."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"revision {revision} has more than {LARGE_CHANGES} changes")
        self.revision = revision
