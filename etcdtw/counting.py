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


class HttpCounts:
    """Requests for v2 keys, by method: a GET through the log is a QGET."""

    __slots__ = ("failed", "received", "seconds")

    def __init__(self) -> None:
        self.received: dict[str, int] = {}
        self.failed: dict[tuple[str, int], int] = {}
        """By method and status."""
        self.seconds: dict[str, Histogram] = {}
        """How long those took that did not fail; watches are not among them."""

    def begun(self, method: str) -> None:
        self.received[method] = self.received.get(method, 0) + 1

    def done(self, method: str, seconds: float) -> None:
        found = self.seconds.get(method)
        if found is None:
            found = self.seconds[method] = Histogram(HTTP_BOUNDS)
        found.observe(seconds)

    def refused(self, method: str, status: int) -> None:
        self.failed[method, status] = self.failed.get((method, status), 0) + 1


class ReceivedCounts:
    """Databases that came from other members, since this process runs."""

    __slots__ = ("installing", "save_seconds", "sync_seconds")

    def __init__(self) -> None:
        self.installing = False
        self.save_seconds = Histogram(doubling(0.1, 10))
        """From the first byte until it is durable."""
        self.sync_seconds = Histogram(doubling(0.001, 14))


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


HTTP_BOUNDS = doubling(0.0005, 13)
ROUND_TRIP_BOUNDS = doubling(0.0001, 16)
COMMIT_BOUNDS = doubling(0.001, 14)
DEFRAGMENT_BOUNDS = doubling(0.1, 13)
