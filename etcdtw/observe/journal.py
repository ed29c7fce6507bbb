"""The journal of systemd as a target of the log (``--log-outputs systemd/journal``)."""

from __future__ import annotations

import socket

from etcdtw.errors import ConfigError

JOURNAL = "systemd/journal"
SOCKET_PATH = "/run/systemd/journal/socket"
_PRIORITIES = {"debug": 7, "info": 6, "warn": 4, "error": 3, "fatal": 2}
_LEVEL = '{"level":"'


class JournalStream:
    """Sends each line as one entry, by the journal's own protocol."""

    def __init__(self, path: str = "") -> None:
        """ConfigError, in etcd's words, where there is no journal."""
        path = path or SOCKET_PATH
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(
                "log-outputs",
                path,
                f"can't find journal (dial unixgram {path}: connect: {reason})",
            ) from None

    def write(self, text: str) -> None:
        message = text.removesuffix("\n").encode("utf-8", "replace")
        level = text[len(_LEVEL) :].partition('"')[0] if text.startswith(_LEVEL) else "info"
        # With its length before it a message may have several lines.
        self._socket.send(
            b"PRIORITY=%d\nSYSLOG_IDENTIFIER=etcdtw\nMESSAGE\n" % _PRIORITIES.get(level, 6)
            + len(message).to_bytes(8, "little")
            + message
            + b"\n"
        )

    def flush(self) -> None:
        """Nothing is kept back."""
