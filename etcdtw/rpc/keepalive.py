"""Which pings of a client are too many (grpc-go's enforcement policy)."""

from __future__ import annotations

STRIKES_MAX = 2
TIMER_GRAIN_SECONDS = 0.001
"""Less than this is no time left: sums of seconds are not exact, and a timer set to the rest might
never get past its due time."""
_WITHOUT_STREAMS_SECONDS = 7200.0  # least time between pings while no call is open


class PingStrikes:
    """Counts pings that come too soon; what the server sends in between forgives them."""

    def __init__(self, min_time: float) -> None:
        self._min_time = min_time
        self._last: float | None = None
        self._strikes = 0

    def too_many(self, now: float, open_streams: int, sent_content: bool) -> bool:
        """Whether this ping is one too many. ``sent_content``: headers or data were sent since
        the last one."""
        last = self._last
        self._last = now
        if sent_content:
            self._strikes = 0
            return False
        least = self._min_time if open_streams else _WITHOUT_STREAMS_SECONDS
        if last is not None and now - last < least:
            self._strikes += 1
        return self._strikes > STRIKES_MAX
