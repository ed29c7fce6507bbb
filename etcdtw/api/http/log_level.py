"""``PUT /config/local/log``: the level of the log, as etcd until 3.4 let it be changed."""

from __future__ import annotations

import json
from collections.abc import Callable

from etcdtw.api.http.requests import HttpRequest, answer, json_in, plain_error


class LogLevelPage:
    """Takes ``{"Level": "DEBUG"}``; GET tells the level."""

    def __init__(self, get_level: Callable[[], str], set_level: Callable[[str], None]) -> None:
        """``set_level`` raises ValueError for a word that is no level."""
        self._get_level = get_level
        self._set_level = set_level

    def render(self, request: HttpRequest, path: bytes) -> bytes:
        if request.method == b"GET":
            body = json.dumps({"Level": self._get_level().upper()}).encode()
            return answer(request, 200, body, b"application/json")
        if request.method != b"PUT":
            request.setHeader(b"allow", b"GET, PUT")
            return plain_error(request, 405, "Method Not Allowed")
        try:
            wanted = json_in(request)
            self._set_level(str(wanted["Level"]))
        except (ValueError, KeyError, TypeError) as error:
            return plain_error(request, 400, f'not of the form {{"Level":"DEBUG"}}: {error}')
        request.setResponseCode(204)
        return b""
