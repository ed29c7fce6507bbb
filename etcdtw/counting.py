"""Distributions that rooms keep and metrics show."""

from __future__ import annotations

from bisect import bisect_left


def doubling(first: float, count: int) -> tuple[float, ...]:
    """Bounds that double: ``count`` of them, from ``first`` on."""
    return tuple(first * 2**each for each in range(count))


class Histogram:
    """How often values fell between bounds. ``counts`` has one more than ``bounds``: what is above
    the last; a value at a bound is below it."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


class PeerCounts:
    """What passed between this member and another one, since this process knows it."""

    __slots__ = (
        "active",
        "disconnects",
        "received_bytes",
        "round_trip_seconds",
        "send_failures",
        "sent_bytes",
    )

    def __init__(self) -> None:
        self.active = False
        self.disconnects = 0
        self.sent_bytes = 0
        self.received_bytes = 0
        self.send_failures = 0
        self.round_trip_seconds = Histogram(ROUND_TRIP_BOUNDS)


class TLSCounts:
    """What became of one side's TLS since this process runs it."""

    __slots__ = ("expires", "failed_loads", "loads", "rejected")

    def __init__(self) -> None:
        self.loads = 0
        """How often changed files were taken over."""
        self.failed_loads = 0
        """How often they could not be used."""
        self.rejected = 0
        """Callers who were not let in."""
        self.expires = 0.0
        """Unix time in seconds when the certificate shown to callers ends; 0 without one."""


ROUND_TRIP_BOUNDS = doubling(0.0001, 16)
COMMIT_BOUNDS = doubling(0.001, 14)
DEFRAGMENT_BOUNDS = doubling(0.1, 13)
