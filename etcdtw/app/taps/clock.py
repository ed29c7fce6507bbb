"""The clock of a reactor that ``twistd`` has chosen."""

from __future__ import annotations

from time import monotonic
from typing import Any

from twisted.internet.base import ReactorBase


def forget_time_of_day(reactor: Any) -> None:
    """Let a reactor go by a clock that nobody sets, as ``--reactor=etcdtw`` does and for the same
    reason; not one that has timers already, which would never come then."""
    if isinstance(reactor, ReactorBase) and not reactor.getDelayedCalls():
        reactor.seconds = monotonic
