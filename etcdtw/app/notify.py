"""Telling a service supervisor that the member is ready (systemd's ``sd_notify`` protocol)."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from twisted.logger import Logger

_log = Logger()


def notify_ready(variables: MutableMapping[str, str] = os.environ) -> bool:
    """Send ``READY=1`` to ``NOTIFY_SOCKET``; ``False`` if there is none or nobody listens."""
    path = variables.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(address)
            sender.sendall(b"READY=1")
    except OSError as problem:
        _log.warn("failed to notify init daemon", error=str(problem))
        return False
    _log.info("successfully notified init daemon")
    return True
