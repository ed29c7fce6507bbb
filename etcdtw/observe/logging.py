"""Where the log goes: ``--log-outputs`` and ``--log-level`` on ``twisted.logger``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from twisted.logger import ILogObserver

from etcdtw.observe.logging_json import JsonLineObserver

STANDARD = ("default", "stderr", "stdout")


def log_observers(outputs: Sequence[str], level: str) -> list[ILogObserver]:
    """One observer per target: ``stderr`` (also ``default``), ``stdout``, or a file to append to.

    An output that cannot be opened is an ``OSError``.
    """
    return [JsonLineObserver(_LineWriter(open_output(each)), level) for each in outputs]


def open_output(target: str) -> TextIO:
    """The stream behind one word of ``--log-outputs``.

    The process's own streams are meant, not what ``twistd`` puts in their place: its stand-ins
    turn every line into another event of the log.
    """
    standard = sys.__stdout__ if target == "stdout" else sys.__stderr__
    if target in STANDARD and standard is not None:
        return standard
    return open(os.devnull if target in STANDARD else target, "a", encoding="utf-8", buffering=1)


def plain(text: str) -> str:
    """A text as a log format: its braces are no fields."""
    return text.replace("{", "{{").replace("}", "}}")


class _LineWriter:
    """Writes whole lines and flushes them; a reader that went away is no reason to stop."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, line: str) -> None:
        try:
            self._stream.write(line)
            self._stream.flush()
        except BrokenPipeError:
            pass
