"""JSON as Go's ``encoding/json`` writes it: no spaces, HTML-sensitive characters escaped.

etcd stores JSON in log entries, in the v2 tree and in its snapshots; members compare and keep
those bytes, so they have to be the same from every implementation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from json.encoder import encode_basestring

# What Python's encoder leaves alone or writes differently: HTML characters, the two line
# separators, backspace and form feed (Go before 1.22 has no short form), lone surrogates.
_DIFFERENT = re.compile("[<>&\u2028\u2029\b\f\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


def quote(text: str) -> str:
    """``text`` as a JSON string literal."""
    # Five searches for a character take a fifth of the time of one for a class of them.
    if text.isascii() and not (
        "<" in text or ">" in text or "&" in text or "\b" in text or "\f" in text
    ):
        return encode_basestring(text)
    if _DIFFERENT.search(text) is None:
        return encode_basestring(text)
    return '"' + "".join(map(_escape, text)) + '"'


def _escape(char: str) -> str:
    short = _SHORT.get(char)
    if short is not None:
        return short
    if char < " " or char in "<>&\u2028\u2029":
        return f"\\u{ord(char):04x}"
    if "\ud800" <= char <= "\udfff":
        return "\\ufffd"
    return char


def string_array(items: Iterable[str]) -> str:
    """A JSON array of strings."""
    return "[" + ",".join(map(quote, items)) + "]"
