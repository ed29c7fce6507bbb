"""Where the log goes: ``--log-outputs`` and its companions on ``twisted.logger``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Protocol

from twisted.logger import ILogObserver

from etcdtw.observe.journal import JOURNAL, JournalStream
from etcdtw.observe.levels import Verbosity
from etcdtw.observe.lines import FORMS, LineObserver
from etcdtw.observe.rotation import RotatingFile, Rotation

STANDARD = ("default", "stderr", "stdout", JOURNAL)
"""Targets that are no files."""
HIDDEN = "***"
"""In the place of a secret."""


class LineStream(Protocol):
    """Somewhere to write text."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


def log_observers(
    outputs: Sequence[str],
    verbosity: Verbosity,
    logger: str = "zap",
    rotation: Rotation | None = None,
    secret: str = "",
) -> list[ILogObserver]:
    """One observer per target: ``stderr`` (also ``default``), ``stdout``, ``systemd/journal``, or a
    file to append to.

    ``logger`` is the form of the lines; the ``secret`` is in none of them. An output that cannot
    be opened is an ``OSError`` or a ``ConfigError``.
    """
    return [
        LineObserver(_LineWriter(open_output(each, rotation), secret), verbosity, FORMS[logger])
        for each in outputs
    ]


def open_output(target: str, rotation: Rotation | None = None) -> LineStream:
    """The stream behind one word of ``--log-outputs``.

    The process's own streams are meant, not what ``twistd`` puts in their place: its stand-ins
    turn every line into another event of the log.
    """
    if target == JOURNAL:
        return JournalStream()
    standard = sys.__stdout__ if target == "stdout" else sys.__stderr__
    if target in STANDARD and standard is not None:
        if isinstance(standard, TextIOWrapper):
            # JSON is UTF-8 whatever the locale says, and what is no text must not cost a line.
            standard.reconfigure(encoding="utf-8", errors="backslashreplace")
        return standard
    if target in STANDARD:
        target = os.devnull
    elif rotation is not None:
        return RotatingFile(target, rotation)
    return open(target, "a", encoding="utf-8", errors="replace", buffering=1)


def plain(text: str) -> str:
    """A text as a log format: its braces are no fields."""
    return text.replace("{", "{{").replace("}", "}}")


class _LineWriter:
    """Writes whole lines and flushes them; a reader that went away, or a disk without space, is
    no reason to stop."""

    def __init__(self, stream: LineStream, secret: str) -> None:
        self._stream = stream
        # As it is, and as JSON has it.
        self._secrets = {secret, json.dumps(secret)[1:-1]} - {""}

    def __call__(self, line: str) -> None:
        for secret in self._secrets:
            line = line.replace(secret, HIDDEN)
        try:
            self._stream.write(line)
            self._stream.flush()
        except OSError:
            pass
