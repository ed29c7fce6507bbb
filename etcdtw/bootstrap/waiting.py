"""Asking again until there is an answer or the time is up."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from etcdtw.bootstrap.interfaces import BootstrapSettings, TimeView

GIVE_UP_SECONDS = 30.0
"""Without ``--bootstrap-timeout``."""
PAUSE_SECONDS = 1.0
TELL_SECONDS = 10.0
"""Who waits for the same thing says so again after so long."""

log = Logger(namespace="etcdtw.bootstrap")


def give_up_seconds(settings: BootstrapSettings) -> float:
    """How long a provider asks again."""
    return settings.timeout_seconds or GIVE_UP_SECONDS


def after(reactor: TimeView, seconds: float) -> Deferred[None]:
    """Fires when so many seconds are over; cancelled, it leaves no call behind."""
    waiting: Deferred[None] = Deferred(lambda _: call.cancel())
    call = reactor.callLater(seconds, waiting.callback, None)
    return waiting


def a_turn(reactor: TimeView) -> Deferred[None]:
    """Fires when the reactor has gone round, which one before the start never does."""
    return after(reactor, 0)


class Patience:
    """The time that one provider has, and the pauses between its questions: a second, or from a
    second on twice as long each time, up to ``pause_seconds_max``."""

    def __init__(
        self,
        reactor: TimeView,
        settings: BootstrapSettings,
        pause_seconds_max: float = PAUSE_SECONDS,
    ) -> None:
        self._reactor = reactor
        self._deadline = reactor.seconds() + give_up_seconds(settings)
        self._pause = PAUSE_SECONDS
        self._pause_max = pause_seconds_max
        self._told = ("", 0.0)

    def left(self) -> float:
        """Seconds until the time is up."""
        return self._deadline - self._reactor.seconds()

    async def pause(self, reason: str) -> bool:
        """Wait before asking again because of ``reason``; False, at once, when the time is up."""
        seconds = self._pause
        if seconds > self.left():
            return False
        self._tell(reason)
        self._pause = min(2 * seconds, self._pause_max)
        await after(self._reactor, seconds)
        return True

    def _tell(self, reason: str) -> None:
        now = self._reactor.seconds()
        if reason == self._told[0] and now < self._told[1] + TELL_SECONDS:
            return
        self._told = (reason, now)
        log.warn(
            "the cluster is not known yet, asking again: {reason}",
            reason=reason,
            seconds_left=round(self.left()),
        )
