"""How much is logged, which may change while the process runs."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.logger import LogEvent, LogLevel

LEVELS = ("debug", "info", "warn", "error", "fatal")
"""etcd's names, least severe first."""

_OWN = "etcdtw"
_NAMES = {
    LogLevel.debug: "debug",
    LogLevel.info: "info",
    LogLevel.warn: "warn",
    LogLevel.error: "error",
    LogLevel.critical: "error",
}
_OLD_NAMES = {
    "critical": "fatal",
    "warning": "warn",
    "notice": "info",
    "trace": "debug",
    "panic": "fatal",
    "dpanic": "fatal",
    "c": "fatal",
    "e": "error",
    "w": "warn",
    "n": "info",
    "i": "info",
    "d": "debug",
    "t": "debug",
}


def least_level(name: str) -> str:
    """The level of ours that a ``--log-level`` means; the empty one is ``info``."""
    name = name.lower() or "info"
    return _OLD_NAMES.get(name, name)


def level_of(event: LogEvent) -> str:
    """An event's level. What Twisted itself tells at level info is debug: it is about its own
    doings. Only our own critical events are ``fatal``, since they end the process."""
    level = _NAMES.get(event.get("log_level"), "info")
    if package_of(event) is None:
        return "debug" if level == "info" else level
    return "fatal" if event.get("log_level") is LogLevel.critical else level


def package_of(event: LogEvent) -> str | None:
    """The room that an event comes from; None if it is not one of ours."""
    namespace = str(event.get("log_namespace", ""))
    if namespace == _OWN:
        return "etcdtw"
    return namespace[len(_OWN) + 1 :] if namespace.startswith(_OWN + ".") else None


class Verbosity:
    """What passes: everything from ``level`` on, or from a package's own level on.

    ``packages`` are those of ``--log-package-levels`` (etcd 3.4): ``etcdmain=CRITICAL`` or, for
    all, ``*=DEBUG``.
    """

    def __init__(self, level: str, packages: Mapping[str, str] | None = None) -> None:
        self.configure(level, packages or {})

    def configure(self, level: str, packages: Mapping[str, str]) -> None:
        """Begin again with these."""
        self._packages = {name: LEVELS.index(least_level(each)) for name, each in packages.items()}
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """ValueError for a word that is no level."""
        name = least_level(level)
        if name not in LEVELS:
            raise ValueError(f"unrecognized level: {level!r}")
        self.level = name
        self._least = self._packages.get("*", LEVELS.index(name))

    def lets_pass(self, event: LogEvent, level: str) -> bool:
        least = self._least
        if self._packages:
            room = (package_of(event) or "").partition(".")[0]
            least = self._packages.get(room, least)
        return LEVELS.index(level) >= least


def parse_package_levels(text: str) -> dict[str, str]:
    """``a=DEBUG,b=INFO``; ValueError for what is no such list."""
    found = {}
    for part in filter(None, text.split(",")):
        name, mark, level = part.partition("=")
        if not (mark and name) or least_level(level) not in LEVELS:
            raise ValueError(f"package levels are written name=LEVEL: {part!r}")
        found[name.strip()] = level.strip()
    return found
