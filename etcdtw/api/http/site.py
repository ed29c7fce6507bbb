"""Which resource answers which path, as Go's ``ServeMux`` decides it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from functools import lru_cache
from html import escape
from time import time
from urllib.parse import quote, unquote_to_bytes

from twisted.web.http import datetimeToString

from etcdtw.api.http.access import Access
from etcdtw.api.http.requests import HttpRequest, Resource, answer, plain_error

_PLAIN = "/$&+,:;=@"
"""What Go leaves as it is in a path, besides letters, digits and ``-_.~``."""

_NO_PATH = re.compile(rb"%(?![0-9a-fA-F]{2})|[\x00-\x20\x7f]")

_OLD_PREFIXES = re.compile(rb"/v3(?:beta|alpha)/")
"""Of the JSON gateway: etcd 3.3 began with them, and clients of that time still ask for them."""


PATHS_MAX = 1000
"""Paths as they were asked for, remembered with what they lead to."""


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    found: bytes = datetimeToString(second)
    return found


class Site:
    """``pages`` answer exactly their paths (``/health/`` is not ``/health``), ``trees`` all that
    begins with theirs (which end in a slash). Without ``access`` there are no rules for browsers.
    """

    def __init__(
        self,
        pages: Mapping[bytes, Resource],
        trees: Mapping[bytes, Resource] | None = None,
        access: Access | None = None,
    ) -> None:
        self._pages = pages
        self._trees = tuple((trees or {}).items())
        self._access = access
        self._found: dict[bytes, tuple[Resource, bytes]] = {}

    def serve(self, request: HttpRequest) -> None:
        """Answer, now or when the resource is ready to."""
        request.setHeader(b"date", _date(int(time())))
        body = self._answer(request)
        if body is not None:
            request.write(body)
            request.finish()

    def _answer(self, request: HttpRequest) -> bytes | None:
        if self._access is not None:
            refusal = self._access.refusal(request)
            if refusal is not None:
                return refusal
        found = self._found.get(request.path)
        if found is None:
            found_now = self._find(request)
            if isinstance(found_now, bytes):
                return found_now
            if len(self._found) >= PATHS_MAX:
                self._found.clear()
            found = self._found[request.path] = found_now
        resource, path = found
        return resource.render(request, path)

    def _find(self, request: HttpRequest) -> tuple[Resource, bytes] | bytes:
        """The resource with the path that it gets, or the body of a refusal."""
        if _NO_PATH.search(request.path):
            return answer(request, 400, b"400 Bad Request", b"text/plain; charset=utf-8")
        path = unquote_to_bytes(request.path)
        old = _OLD_PREFIXES.match(path)
        if old is not None:
            path = b"/v3/" + path[old.end() :]
        clean = self._clean(path)
        if clean != path:
            return _moved(request, clean)
        page = self._pages.get(path)
        if page is None:
            page = next((tree for prefix, tree in self._trees if path.startswith(prefix)), None)
        if page is None:
            return plain_error(request, 404, "404 page not found")
        return page, path

    def _clean(self, path: bytes) -> bytes:
        """The path without empty and dotted parts; a tree's name alone gets its slash, unless it is
        a page as well."""
        if not path.startswith(b"/"):
            return path
        clean = b"/" + posixpath.normpath(path).lstrip(b"/")
        named = clean + b"/"
        ends_open = path.endswith(b"/") and clean != b"/"
        is_tree = clean not in self._pages and any(named == prefix for prefix, _ in self._trees)
        return named if ends_open or is_tree else clean


def _moved(request: HttpRequest, path: bytes) -> bytes:
    _, mark, query = request.uri.partition(b"?")
    location = quote(path, safe=_PLAIN).encode() + (mark + query if query else b"")
    request.setHeader(b"location", location)
    if request.method not in (b"GET", b"HEAD"):
        request.setResponseCode(301)
        request.setHeader(b"content-length", b"0")
        return b""
    shown = escape(location.decode("latin-1")).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
    text = f'<a href="{shown}">Moved Permanently</a>.\n\n'
    return answer(request, 301, text.encode("latin-1"), b"text/html; charset=utf-8")
