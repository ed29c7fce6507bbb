"""Who may call from a browser: host names against DNS rebinding, origins for CORS."""

from __future__ import annotations

import json
from collections.abc import Collection

from twisted.logger import Logger

from etcdtw.api.http.requests import HttpRequest, plain_error

_ALL = "*"
_HEADERS = (
    (b"access-control-allow-headers", b"accept, content-type, authorization"),
    (b"access-control-allow-methods", b"POST, GET, OPTIONS, PUT, DELETE"),
)
_UNKNOWN_HOST = """\

etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist {host}

This requirement has been added to help prevent "DNS Rebinding" attacks (CVE-2018-5702).
"""

log = Logger(namespace="etcdtw.http")


class Access:
    """The rules of ``--cors`` and ``--host-whitelist``; ``*`` among the words allows all."""

    def __init__(self, origins: Collection[str], hosts: Collection[str]) -> None:
        self._origins = frozenset(origins)
        self._hosts = frozenset(hosts)

    def refusal(self, request: HttpRequest) -> bytes | None:
        """Set the headers that browsers look at. A body if that is the whole answer."""
        if _ALL not in self._hosts and not request.isSecure():
            host = host_name(request.getHeader(b"host") or b"")
            if host not in self._hosts:
                log.warn("rejected request: Host header was unrecognized", host=host)
                text = _UNKNOWN_HOST.format(host=json.dumps(host, ensure_ascii=False))
                return plain_error(request, 421, text)
        origin = b"*" if _ALL in self._origins else request.getHeader(b"origin")
        if origin is not None and (origin == b"*" or origin.decode("latin-1") in self._origins):
            for name, value in _HEADERS:
                request.setHeader(name, value)
            request.setHeader(b"access-control-allow-origin", origin)
        if request.method == b"OPTIONS":
            request.setHeader(b"content-length", b"0")
            return b""
        return None


def host_name(header: bytes) -> str:
    """The host of a ``Host`` header, without port and brackets."""
    host = header.decode("latin-1")
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host
