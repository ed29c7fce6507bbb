"""What an earlier start has left."""

from __future__ import annotations

import os

from etcdtw.app.settings import MemberSettings


def has_log(settings: MemberSettings) -> bool:
    """Whether the member was started before: a write-ahead log is there."""
    try:
        return any(name.endswith(".wal") for name in os.listdir(settings.wal_path))
    except (FileNotFoundError, NotADirectoryError):
        return False
