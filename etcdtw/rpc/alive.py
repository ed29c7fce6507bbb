"""Callers that vanish without a word: a machine that lost its power, a firewall that forgot."""

from __future__ import annotations

import socket

PROBE_SECONDS = 30
"""Of silence until the other end is asked whether it is there, and between questions; etcd's."""


def detect_vanishing(connection: socket.socket) -> None:
    """Have the system end a TCP connection whose other end does not answer any more: who waits for
    an event sends nothing, and would be waited for without end. What a listening socket accepts
    inherits it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, PROBE_SECONDS)
