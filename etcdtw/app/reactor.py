"""Twisted's epoll reactor with two savings that short requests feel.

* A request that follows the last answer within some tens of microseconds finds the reactor still
  looking, not asleep: waking a sleeping process costs more than serving it. The reactor looks on
  only while that keeps happening, so an idle member sleeps. (Go's scheduler does the same.)
* Sockets are served without a log context each. Nothing here logs per socket, and the context
  costs as much as reading from one.

The console command installs it where epoll exists; under ``twistd`` it is ``--reactor=etcdtw``.
"""

from __future__ import annotations

import errno
from time import monotonic

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

LOOK_SECONDS = 100e-6
"""How long to look for the next request before going to sleep."""


class EagerEPollReactor(EPollReactor):
    """See the module."""

    _eager = False

    def __init__(self, look_seconds: float = LOOK_SECONDS) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._look_seconds = look_seconds

    def doPoll(self, timeout: float | None) -> None:
        """Serve what is ready within ``timeout`` seconds (None: whenever that is)."""
        poll = self._poller.poll
        selectables = self._selectables
        try:
            events = poll(0, len(selectables))
            if not events and timeout != 0:
                begin = monotonic()
                if self._eager:
                    while not events and monotonic() - begin < self._look_seconds:
                        events = poll(0, len(selectables))
                if not events:
                    events = poll(-1 if timeout is None else timeout, len(selectables))
                self._eager = monotonic() - begin < self._look_seconds
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        for descriptor, event in events:
            selectable = selectables.get(descriptor)
            if selectable is not None:
                self._doReadOrWrite(selectable, descriptor, event)  # type: ignore[no-untyped-call]

    doIteration = doPoll


def install(look_seconds: float = LOOK_SECONDS) -> None:
    """Make it the process's reactor; before anything imports ``twisted.internet.reactor``.

    A process that only passes bytes on does not look for more: who answers them needs the core.
    """
    installReactor(EagerEPollReactor(look_seconds))
