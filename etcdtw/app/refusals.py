"""How a refused start is told: log lines for machines, and the sentence as the last line."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.error import CannotListenError

from etcdtw.bootstrap.refusal import BootstrapError
from etcdtw.config.help import USAGE
from etcdtw.config.problems import ConfigProblems, Stage
from etcdtw.errors import ConfigError, StorageError
from etcdtw.observe.lines import json_line

START_ERRORS = (ConfigError, ConfigProblems, StorageError, OSError, CannotListenError)
"""What may keep a member from starting without being a bug."""


def problems_of(error: BaseException) -> ConfigProblems:
    """A start error as refusal, in etcd's words where the system gives the reason."""
    if isinstance(error, ConfigProblems):
        return error
    if not isinstance(error, ConfigError):
        error = ConfigError("", "start", start_error_text(error))
    return ConfigProblems(Stage.START, [error])


def start_error_text(error: BaseException) -> str:
    """``listen tcp 127.0.0.1:26001: bind: address already in use`` and the like."""
    if isinstance(error, CannotListenError):
        reason = _system_reason(error.socketError)
        if isinstance(error.port, int):
            host = f"[{error.interface}]" if ":" in error.interface else error.interface
            return f"listen tcp {host}:{error.port}: bind: {reason}"
        return f"listen unix {error.port}: bind: {reason}"
    if isinstance(error, OSError):
        where = f"open {error.filename}: " if error.filename else ""
        return where + _system_reason(error)
    return str(error) or type(error).__name__


def _system_reason(error: object) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]


def tell(refused: ConfigProblems, write: Callable[[str], object], unix_seconds: float) -> None:
    """Write everything that is wrong; the last line is the sentence of the first problem.

    etcd stops at its first problem, so scripts that read the last line find what they know.
    """
    if refused.stage is Stage.ARGUMENTS:
        write(USAGE + "\n")
        for problem in reversed(refused.problems):
            write(f"{problem.hint}\n{problem}\n" if problem.hint else f"{problem}\n")
        return
    for problem in refused.problems:
        for level, message in _messages(refused.stage, problem is refused.problems[0]):
            write(json_line(level, unix_seconds, message, _fields(problem)) + "\n")
    write(f"{sentence(refused)}\n")


def sentence(refused: ConfigProblems) -> str:
    """One line that says why."""
    first = refused.problems[0]
    return first.sentence if isinstance(first, BootstrapError) else first.reason


def _messages(stage: Stage, first: bool) -> list[tuple[str, str]]:
    if stage is Stage.VERIFY:
        return [("warn", "failed to verify flags")]
    # etcd calls every failed start a failed discovery; log readers know it by these words.
    failed = [("warn", "failed to start etcd")]
    return [*failed, ("fatal", "discovery failed")] if first else failed


def _fields(problem: ConfigError) -> dict[str, object]:
    fields: dict[str, object] = {"error": problem.reason}
    if problem.flag:
        fields |= {"flag": problem.flag, "source": problem.source}
    if isinstance(problem, BootstrapError):
        fields["code"] = problem.code
        if problem.hint:
            fields["hint"] = problem.hint
    return fields
