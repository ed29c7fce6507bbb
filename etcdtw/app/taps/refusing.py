"""How a start is refused under ``twistd``: by a sentence, and with an exit code."""

from __future__ import annotations

from typing import Any

from etcdtw.app.fatal import EXIT_CODE, leave_with
from etcdtw.app.main import refuse
from etcdtw.app.refusals import problems_of, sentence


def is_daemon(options: Any) -> bool:
    """Whether ``twistd`` forks, by the options of one of its plugins."""
    return not (getattr(options, "parent", None) or {}).get("nodaemon", True)


def refuse_member(error: BaseException, reactor: Any, daemon: bool) -> None:
    """Tell on stderr, as etcd does, why a member does not start; see :func:`end_start`."""
    problems = problems_of(error)
    end_start(sentence(problems), reactor, daemon, refuse(problems))


def end_start(reason: str, reactor: Any, daemon: bool, exit_code: int = EXIT_CODE) -> None:
    """End a start from within ``startService``.

    In the foreground the reactor is stopped as soon as it runs: an exception shows a traceback,
    and SystemExit leaves twistd's pid file behind.
    """
    if daemon:
        # The first 100 bytes reach the terminal; the parent then exits with 1.
        raise RuntimeError(reason) from None
    leave_with(exit_code)
    reactor.callWhenRunning(reactor.stop)
