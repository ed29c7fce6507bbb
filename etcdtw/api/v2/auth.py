"""``/v2/auth``: only whether it is on; users and roles of the v2 API are not in this build yet."""

from __future__ import annotations

import json

from etcdtw.api.http.requests import HttpRequest, answer
from etcdtw.api.v2.keys import JSON, Keys

AUTH_PREFIX = b"/v2/auth/"
_ABSENT = "users and roles of the v2 API are not in this build yet"


class AuthPage:
    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def render(self, request: HttpRequest, path: bytes) -> bytes:
        if request.method == b"GET" and path == AUTH_PREFIX + b"enable":
            text = json.dumps({"enabled": self._keys.auth_is_on()}, separators=(",", ":"))
            return answer(request, 200, text.encode() + b"\n", JSON)
        text = json.dumps({"message": _ABSENT}, separators=(",", ":"))
        return answer(request, 501, text.encode(), JSON)
