"""The one way to die after the start: log why, stop the services, leave with exit code 1.

Stopping the reactor alone would look like success to whoever supervises the process.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

from twisted.logger import Logger

from etcdtw.observe.logging import plain

EXIT_CODE = 1
STOP_SECONDS = 10.0
"""How long services may take to stop before the process is ended under them."""


class StoppableReactor(Protocol):
    """What dying needs of a reactor."""

    def callWhenRunning(self, callable: Any, *args: object, **kw: object) -> Any: ...

    def callLater(self, delay: float, callable: Any, *args: object, **kw: object) -> Any: ...

    def stop(self) -> None: ...


class Fatal:
    """Called with a reason, it ends the process; only the first call counts."""

    log = Logger()

    def __init__(
        self,
        reactor: StoppableReactor,
        leave: Callable[[int], object] | None = None,
        leave_now: Callable[[int], object] = os._exit,
    ) -> None:
        """``leave`` arranges the exit code of an orderly end; ``leave_now`` ends at once."""
        self._reactor = reactor
        self._leave = leave_with if leave is None else leave
        self._leave_now = leave_now
        self.reason: str | None = None

    def __call__(self, reason: str, **fields: object) -> None:
        """Die. ``fields`` go into the log line, such as ``path`` and ``bytes``."""
        if self.reason is not None:
            return
        self.reason = reason
        self.log.critical(plain(reason), **fields)
        self._leave(EXIT_CODE)
        self._reactor.callLater(STOP_SECONDS, self._leave_now, EXIT_CODE)
        self._reactor.callWhenRunning(self._reactor.stop)


def leave_with(exit_code: int) -> None:
    """Make the process end with this code, whatever the code around the reactor returns."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)

    atexit.register(leave)
