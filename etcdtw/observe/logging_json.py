"""Log lines as etcd writes them: one JSON object per line, ``level`` and ``ts`` first."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

LEVELS = ("debug", "info", "warn", "error", "fatal")
"""etcd's names, least severe first."""

_NAMES = {
    LogLevel.debug: "debug",
    LogLevel.info: "info",
    LogLevel.warn: "warn",
    LogLevel.error: "error",
    LogLevel.critical: "error",
}
# What Twisted and its legacy log module put into every event beside the caller's own fields.
_NOT_FIELDS = frozenset({"time", "system", "format", "message", "isError", "why", "failure"})
_OWN = "etcdtw"


def json_line(
    level: str,
    unix_seconds: float,
    message: str,
    fields: Mapping[str, object],
    caller: str = "",
) -> str:
    """One line without its end, such as ``{"level":"info","ts":"…","msg":"…"}``."""
    moment = datetime.fromtimestamp(unix_seconds, UTC)
    entry: dict[str, object] = {
        "level": level,
        "ts": moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z",
    }
    if caller:
        entry["caller"] = caller
    entry["msg"] = message
    entry.update(fields)
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":"), default=str)


def least_level(name: str) -> str:
    """The level of ours that a ``--log-level`` means; the empty one is ``info``."""
    name = name.lower() or "info"
    return "fatal" if name in ("panic", "dpanic") else name


@implementer(ILogObserver)
class JsonLineObserver:
    """Writes events of ``twisted.logger`` as lines.

    ``write`` takes a whole line with its end. Keyword arguments of a log call become fields, with
    ``-`` for ``_``. What Twisted itself tells at level info is shown at debug: it is about its
    own doings. Only our own critical events are ``fatal``, since they end the process.
    """

    def __init__(self, write: Callable[[str], object], level: str) -> None:
        self._write = write
        self._least = LEVELS.index(least_level(level))

    def __call__(self, event: LogEvent) -> None:
        level = _NAMES.get(event.get("log_level"), "info")
        namespace = str(event.get("log_namespace", ""))
        own = namespace == _OWN or namespace.startswith(_OWN + ".")
        if level == "info" and not own:
            level = "debug"
        if own and event.get("log_level") is LogLevel.critical:
            level = "fatal"
        if LEVELS.index(level) < self._least:
            return
        fields = {
            key.replace("_", "-"): value
            for key, value in event.items()
            if not key.startswith("log_") and key not in _NOT_FIELDS
        }
        failure = event.get("log_failure")
        if isinstance(failure, Failure):
            fields["error"] = f"{type(failure.value).__name__}: {failure.getErrorMessage()}"
            fields["stacktrace"] = failure.getTraceback()
        caller = namespace.removeprefix(_OWN + ".").replace(".", "/")
        moment = event.get("log_time", 0.0)
        self._write(json_line(level, moment, formatEvent(event), fields, caller) + "\n")
