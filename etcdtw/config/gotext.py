"""Numbers, truth values, durations and quotes in the text forms of Go, which etcd's flags use.

Parsers raise ``ValueError`` with the words that etcd prints.
"""

from __future__ import annotations

import json
import re

PARSE_ERROR = "parse error"
OUT_OF_RANGE = "value out of range"

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_INTEGER = re.compile(
    r"(?P<sign>[+-]?)(?:0[xX](?P<hex>(?:_?[0-9a-fA-F])+)|0[bB](?P<bin>(?:_?[01])+)"
    r"|0[oO]?(?P<oct>(?:_?[0-7])+)|(?P<dec>0|[1-9](?:_?[0-9])*))\Z"
)
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION_PART = re.compile(r"([0-9]*)(\.[0-9]*)?([^0-9.]*)")
_INT64_MAX = (1 << 63) - 1


def quote(text: str) -> str:
    """The text in double quotes, as Go's ``%q`` prints it."""
    return json.dumps(text, ensure_ascii=False)


def parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(PARSE_ERROR)


def parse_integer(text: str, low: int, high: int) -> int:
    """A whole number in Go's literal forms (decimal, 0x, 0b, 0o or leading 0, underscores)."""
    found = _INTEGER.match(text)
    if found is None or (low >= 0 and found["sign"]):
        raise ValueError(PARSE_ERROR)
    for group, base in (("hex", 16), ("bin", 2), ("oct", 8), ("dec", 10)):
        digits = found[group]
        if digits is not None:
            value = int(digits.lstrip("_"), base)
            break
    else:
        raise AssertionError("a matched integer has digits")
    if found["sign"] == "-":
        value = -value
    if not low <= value <= high:
        raise ValueError(OUT_OF_RANGE)
    return value


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration such as ``1h30m`` or ``-1.5s``; a bare ``0`` needs no unit."""
    sign, rest = 1, text
    if rest[:1] in ("+", "-"):
        sign, rest = (-1 if rest[0] == "-" else 1), rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f"time: invalid duration {quote(text)}")
    total = 0
    while rest:
        found = _DURATION_PART.match(rest)
        assert found is not None, "every part of the pattern is optional"
        whole, fraction, unit = found[1], found[2] or "", found[3]
        if not whole and fraction in ("", "."):
            raise ValueError(f"time: invalid duration {quote(text)}")
        if not unit:
            raise ValueError(f"time: missing unit in duration {quote(text)}")
        if unit not in _NANOSECONDS:
            raise ValueError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        scale = _NANOSECONDS[unit]
        digits = fraction[1:]
        total += int(whole or "0") * scale
        total += int(digits or "0") * scale // 10 ** len(digits)
        rest = rest[found.end() :]
    if total > _INT64_MAX:
        raise ValueError(f"time: invalid duration {quote(text)}")
    return sign * total
