"""How a start is refused under ``twistd``: by a sentence, and with an exit code."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService, MultiService

from etcdtw.app.fatal import EXIT_CODE, Fatal, leave_with
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


def told_to_parent(service: Any, fatal: Fatal, daemon: bool) -> IService:
    """A service that calls ``fatal`` when it cannot start, so that a ``twistd`` that forks tells of
    it too if that happens at once."""
    return _ToldToParent(service, fatal) if daemon else service


class _ToldToParent(MultiService):
    def __init__(self, service: Any, fatal: Fatal) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        service.setServiceParent(self)
        self._fatal = fatal

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        if self._fatal.reason is not None:
            raise RuntimeError(self._fatal.reason)
