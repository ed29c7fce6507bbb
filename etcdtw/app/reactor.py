"""Twisted's epoll reactor with a clock that nobody sets, and three savings that short requests
feel.

Twisted goes by the time of day: set back by an hour, it would let a member's ticks, and with them
heartbeats and leases, wait for that long; set forward, it would end all leases of an hour.

* A request that follows the last answer within some tens of microseconds finds the reactor still
  looking, not asleep: waking a sleeping process costs more than serving it. The reactor looks on
  only while that keeps happening, so an idle member sleeps. (Go's scheduler does the same.)
* Sockets are served without a log context each. Nothing here logs per socket, and the context
  costs as much as reading from one.
* ``callLater(0)`` passes the heap of timers by: what is due at once has no place among them to
  find, and a replica asks for one such call a turn.

The console command installs it where epoll exists; under ``twistd`` it is ``--reactor=etcdtw``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from select import EPOLLIN
from time import monotonic
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.main import installReactor
from twisted.logger import Logger

LOOK_SECONDS = 100e-6
"""How long to look for the next request before going to sleep."""

log = Logger(namespace="etcdtw.reactor")


class _CallAtOnce(DelayedCall):
    """A call that is due already. Nobody has to find it again if it is cancelled, or moved."""

    cancelled = called = 0
    delayed_time = 0.0
    seconds = staticmethod(monotonic)
    canceller: Callable[[DelayedCall], None] = staticmethod(lambda call: None)
    resetter: Callable[[DelayedCall], None] = canceller

    def __init__(  # not by the base's, for speed
        self, func: Callable[..., Any], args: Sequence[object], kw: dict[str, object]
    ) -> None:
        self.func = func
        self.args = args
        self.kw = kw
        self.time = monotonic()


class EagerEPollReactor(EPollReactor):
    """See the module."""

    seconds = staticmethod(monotonic)
    _eager = False

    def __init__(self, look_seconds: float = LOOK_SECONDS) -> None:
        self._at_once: list[_CallAtOnce] = []
        super().__init__()  # type: ignore[no-untyped-call]
        self._look_seconds = look_seconds

    def doPoll(self, timeout: float | None) -> None:
        """Serve what is ready within ``timeout`` seconds (None: whenever that is), and make the
        calls that are due at once."""
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
            if selectable is None:
                continue
            if event == EPOLLIN and selectable.fileno() != -1:
                try:
                    why = selectable.doRead()
                except BaseException as error:
                    log.failure("while reading from {selectable}", selectable=selectable)
                    why = error
                if why:
                    self._disconnectSelectable(selectable, why, True)  # type: ignore[no-untyped-call]
            else:
                self._doReadOrWrite(selectable, descriptor, event)  # type: ignore[no-untyped-call]
        if self._at_once:
            self._call_at_once()

    doIteration = doPoll

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kw: object
    ) -> DelayedCall:
        """See ``IReactorTime.callLater``."""
        if delay:
            return super().callLater(delay, callable, *args, **kw)
        call = _CallAtOnce(callable, args, kw)
        self._at_once.append(call)
        return call

    def timeout(self) -> float | None:
        """How long the reactor may sleep."""
        return 0 if self._at_once else super().timeout()

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """See ``IReactorTime.getDelayedCalls``."""
        return [*super().getDelayedCalls(), *(each for each in self._at_once if each.active())]

    def _call_at_once(self) -> None:
        calls, self._at_once = self._at_once, []
        for call in calls:
            if call.cancelled:
                continue
            if call.delayed_time:
                call.canceller = self._cancelCallLater
                call.resetter = self._moveCallLaterSooner
                self._newTimedCalls.append(call)
                continue
            call.called = 1
            try:
                call.func(*call.args, **call.kw)
            except BaseException:
                log.failure("while handling a call that was due at once")


def install(look_seconds: float = LOOK_SECONDS) -> None:
    """Make it the process's reactor; before anything imports ``twisted.internet.reactor``.

    A process that only passes bytes on does not look for more: who answers them needs the core.
    """
    installReactor(EagerEPollReactor(look_seconds))
