"""Log lines: etcd's JSON, and the classic form that it had until 3.4."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from twisted.logger import ILogObserver, LogEvent, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from etcdtw.observe.levels import Verbosity, level_of, package_of

# What Twisted and its legacy log module put into every event beside the caller's own fields.
_NOT_FIELDS = frozenset({"time", "system", "format", "message", "isError", "why", "failure"})
_CLASSIC = {"debug": "D", "info": "I", "warn": "W", "error": "E", "fatal": "C"}


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


def classic_line(
    level: str,
    unix_seconds: float,
    message: str,
    fields: Mapping[str, object],
    caller: str = "",
) -> str:
    """One line without its end, such as ``2026-01-31 10:11:12.131415 I | room: message``. Fields
    follow the message; the time is the local one."""
    moment = datetime.fromtimestamp(unix_seconds).strftime("%Y-%m-%d %H:%M:%S.%f")
    details = ", ".join(f"{name}: {value}" for name, value in fields.items())
    text = f"{message} ({details})" if details else message
    return f"{moment} {_CLASSIC[level]} | {caller or 'etcdtw'}: {text}"


FORMS = {"zap": json_line, "capnslog": classic_line}
"""By the words of ``--logger``."""


@implementer(ILogObserver)
class LineObserver:
    """Writes events of ``twisted.logger`` as lines.

    ``write`` takes a whole line with its end. Keyword arguments of a log call become fields, with
    ``-`` for ``_``.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        verbosity: Verbosity,
        form: Callable[..., str] = json_line,
    ) -> None:
        self._write = write
        self._verbosity = verbosity
        self._form = form

    def __call__(self, event: LogEvent) -> None:
        level = level_of(event)
        if not self._verbosity.lets_pass(event, level):
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
        package = package_of(event)
        namespace = str(event.get("log_namespace", "")) if package is None else package
        moment = event.get("log_time", 0.0)
        caller = namespace.replace(".", "/")
        self._write(self._form(level, moment, formatEvent(event), fields, caller) + "\n")
