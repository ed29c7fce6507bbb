"""Points in time as whole nanoseconds since the Unix epoch, and their RFC 3339 text."""

from __future__ import annotations

import re
from datetime import date

PERMANENT = 0
"""The expiration of a node that never expires."""

# A creation with an expiration before this is taken as permanent.
YEAR_2000 = 946_684_800 * 10**9

_ZERO_TIME = "0001-01-01T00:00:00Z"
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_SECOND = 10**9
_DAY = 86_400
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))"
)


def format_time(nanoseconds: int) -> str:
    """RFC 3339 in UTC, with as many digits after the point as needed; 0 is Go's zero time."""
    if nanoseconds == PERMANENT:
        return _ZERO_TIME
    seconds, fraction = divmod(nanoseconds, _SECOND)
    days, rest = divmod(seconds, _DAY)
    day = date.fromordinal(_EPOCH_DAY + days)
    text = f"{day.isoformat()}T{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    if fraction:
        text += f".{fraction:09}".rstrip("0")
    return text + "Z"


def parse_time(text: str) -> int:
    """The reverse of ``format_time``; any zone offset is accepted.

    Raises ValueError when ``text`` is not an RFC 3339 time.
    """
    if text == _ZERO_TIME:
        return PERMANENT
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    year, month, day, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
    if year < 2:
        return PERMANENT  # Go's zero time, written in some other zone
    days = date(year, month, day).toordinal() - _EPOCH_DAY
    seconds = days * _DAY + hour * 3600 + minute * 60 + second
    if match[8]:
        offset = int(match[9]) * 3600 + int(match[10]) * 60
        seconds += offset if match[8] == "-" else -offset
    return seconds * _SECOND + int((match[7] or "0").ljust(9, "0"))


def seconds_left(expiration: int, now: int) -> int:
    """Whole seconds from ``now`` to ``expiration``, rounded up; negative ones are rounded
    towards zero, as etcd's arithmetic does."""
    return -((now - expiration) // _SECOND)
