"""Whether a process is a member or a v2 proxy; light, for every start asks."""

from __future__ import annotations

import os

from etcdtw.app.settings import MemberSettings


def proxy_dir(settings: MemberSettings) -> str:
    """Where a proxy keeps what it knows."""
    return os.path.join(settings.data_dir, "proxy")


def is_proxy(settings: MemberSettings) -> bool:
    """Whether this is to be a proxy: it is asked for, or was one before and is no member."""
    if os.path.isdir(os.path.join(settings.data_dir, "member")):
        return settings.proxy != "off"
    return settings.proxy != "off" or os.path.isdir(proxy_dir(settings))
