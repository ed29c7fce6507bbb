"""Parameters of a request, from its query and its body, as Go reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote_to_bytes

from etcdtw.v2store import V2Code, V2Error

_FORM = b"application/x-www-form-urlencoded"
_NO_ESCAPE = re.compile(rb"%(?![0-9a-fA-F]{2})")
_ESCAPE_BYTES = 3

Form = Mapping[str, Sequence[str]]


def form_of(method: bytes, content_type: bytes, query: bytes, body: bytes) -> Form:
    """The parameters of the body, if it is a form, before those of the query. V2Error for what is
    not encoded as it should be."""
    found: dict[str, list[str]] = {}
    if method in (b"PUT", b"POST") and content_type.partition(b";")[0].strip().lower() == _FORM:
        _add_fields(found, body)
    if query:
        _add_fields(found, query)
    return found


def _add_fields(found: dict[str, list[str]], text: bytes) -> None:
    if b";" in text:
        raise V2Error(V2Code.INVALID_FORM, "invalid semicolon separator in query")
    for pair in text.split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            found.setdefault(_unescaped(name), []).append(_unescaped(value))


def _unescaped(text: bytes) -> str:
    if b"%" in text:
        wrong = _NO_ESCAPE.search(text)
        if wrong is not None:
            shown = text[wrong.start() :][:_ESCAPE_BYTES].decode("utf-8", "replace")
            raise V2Error(V2Code.INVALID_FORM, f'invalid URL escape "{shown}"')
        text = unquote_to_bytes(text.replace(b"+", b" "))
    elif b"+" in text:
        text = text.replace(b"+", b" ")
    return text.decode("utf-8", "replace")
