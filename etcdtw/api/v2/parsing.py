"""Requests for keys: what their parameters say, checked in etcd's order and words."""

from __future__ import annotations

from typing import NamedTuple

from etcdtw.api.v2.forms import Form
from etcdtw.ids import parse_decimal
from etcdtw.v2store import V2Code, V2Error, clean_path

KEYS_ROOT = "/1"
"""Where clients' keys are in the tree."""

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_SWITCHES = ("recursive", "sorted", "wait", "dir", "quorum", "stream")
_UNQUOTED = frozenset(("prevExist", "refresh"))
"""In etcd's complaint."""


class KeyRequest(NamedTuple):
    """One request. ``path`` is the tree's; ``prev_exist`` and ``refresh`` are None if they are not
    given; ``ttl_seconds`` as well."""

    method: str
    path: str
    value: str = ""
    is_dir: bool = False
    prev_value: str = ""
    prev_index: int = 0
    prev_exist: bool | None = None
    wait: bool = False
    since: int = 0
    recursive: bool = False
    sorted: bool = False
    quorum: bool = False
    stream: bool = False
    refresh: bool | None = None
    ttl_seconds: int | None = None
    no_value: bool = False


def parse_keys(method: str, key: str, form: Form) -> KeyRequest:
    """The request for a key, which is the rest of the path behind ``/v2/keys``. V2Error."""
    path = clean_path(f"{KEYS_ROOT}/{key.lstrip('/')}")
    value = _first(form, "value")
    if len(form) == (1 if "value" in form else 0):
        return KeyRequest(method, path, value)  # as most are
    prev_index = _uint(form, "prevIndex", V2Code.INDEX_NOT_A_NUMBER)
    since = _uint(form, "waitIndex", V2Code.INDEX_NOT_A_NUMBER)
    recursive, is_sorted, wait, is_dir, quorum, stream = [
        _switch(form, name) or False for name in _SWITCHES
    ]
    if wait and method != "GET":
        raise V2Error(V2Code.INVALID_FIELD, '"wait" can only be used with GET requests')
    prev_value = _first(form, "prevValue")
    if "prevValue" in form and not prev_value:
        raise V2Error(V2Code.PREV_VALUE_REQUIRED, '"prevValue" cannot be empty')
    no_value = _switch(form, "noValueOnSuccess") or False
    ttl = None
    if _first(form, "ttl"):
        ttl = _uint(form, "ttl", V2Code.TTL_NOT_A_NUMBER)
    prev_exist, refresh = _switch(form, "prevExist"), _switch(form, "refresh")
    if refresh:
        if value:
            raise V2Error(V2Code.REFRESH_VALUE, "A value was provided on a refresh")
        if ttl is None:
            raise V2Error(V2Code.REFRESH_TTL_REQUIRED, "No TTL value set")
    return KeyRequest(
        method=method,
        path=path,
        value=value,
        is_dir=is_dir,
        prev_value=prev_value,
        prev_index=prev_index,
        prev_exist=prev_exist,
        wait=wait,
        since=since,
        recursive=recursive,
        sorted=is_sorted,
        quorum=quorum,
        stream=stream,
        refresh=refresh,
        ttl_seconds=ttl,
        no_value=no_value,
    )


def _first(form: Form, name: str) -> str:
    return form[name][0] if name in form else ""


def _uint(form: Form, name: str, code: V2Code) -> int:
    if name not in form:
        return 0
    number = parse_decimal(form[name][0])
    if number is None:
        raise V2Error(code, f'invalid value for "{name}"')
    return number


def _switch(form: Form, name: str) -> bool | None:
    """None where it is not given."""
    if name not in form:
        return None
    text = form[name][0]
    if text not in _TRUE and text not in _FALSE:
        shown = name if name in _UNQUOTED else f'"{name}"'
        raise V2Error(V2Code.INVALID_FIELD, f"invalid value for {shown}")
    return text in _TRUE
