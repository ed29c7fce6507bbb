"""The pages of a discovery service, over the keys of a member (the public service's paths).

A token is made for both protocols: its size is among the v2 keys, which these pages serve, and
among the v3 keys, which the member itself serves to those who come with ``--discovery-token``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from etcdtw.api.http.requests import HttpRequest, answer, plain_error
from etcdtw.api.v2.keys import KEYS_PREFIX, Keys
from etcdtw.api.v2.parsing import KEYS_ROOT, KeyRequest
from etcdtw.client import Client
from etcdtw.v2store import Event

REGISTRY = "/_etcd/registry"
DEFAULT_SIZE = 3
SIZE_MAX = 1 << 31
TOKEN_BYTES = 16

log = Logger(namespace="etcdtw.discovery")

TEXT = b"text/plain; charset=utf-8"
_TOKEN = re.compile(rb"/([0-9a-f]{32,40})(/.*)?")
_HOME = """\
A discovery service for etcd clusters.

    curl {url}/new?size=3

gives a new URL. Start every member of the new cluster with it: etcd --discovery <URL> …

From etcd 3.6 on its last part is a token of v3 discovery as well, at this service's client URL:
etcd --discovery-endpoints <client URL> --discovery-token <last part> …
"""


class Dice(Protocol):
    """A source of chance that nobody can guess."""

    def randbytes(self, n: int, /) -> bytes: ...


class DiscoveryPages:
    """All pages; serves as a tree at ``/``."""

    def __init__(
        self,
        keys: Callable[[], Keys | None],
        client: Client,
        dice: Dice,
        ttl_seconds: int,
        public_url: str = "",
    ) -> None:
        """``keys`` are those of the member's present life, None while it has none; ``client`` calls
        that member. A token lives for so many seconds; ``public_url`` begins the URLs that are
        given out, by default as the client has called."""
        self._keys = keys
        self._client = client
        self._dice = dice
        self._ttl_seconds = ttl_seconds
        self._public_url = public_url.rstrip("/")

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        keys = self._keys()
        if keys is None:
            return plain_error(request, 503, "the service is starting")
        if path == b"/new":
            return self._new(request, keys)
        if path == b"/health":
            return self._health(request, keys)
        if path == b"/robots.txt":
            return answer(request, 200, b"User-agent: *\nDisallow: /\n", TEXT)
        if path == b"/":
            return answer(request, 200, _HOME.format(url=self._base(request)).encode(), TEXT)
        found = _TOKEN.fullmatch(path)
        if found is None:
            return plain_error(request, 404, "404 page not found")
        return keys.render(request, KEYS_PREFIX + REGISTRY.encode() + path)

    def _new(self, request: HttpRequest, keys: Keys) -> bytes | None:
        if request.method not in (b"GET", b"PUT", b"POST"):
            request.setHeader(b"allow", b"GET,PUT,POST")
            return plain_error(request, 405, "Method Not Allowed")
        text = (request.args.get(b"size") or [b""])[0] or b"%d" % DEFAULT_SIZE
        if not text.isdigit() or not 0 < int(text) < SIZE_MAX:
            return plain_error(
                request, 400, f"size {text.decode('latin-1')!r} is no number of members"
            )
        token = self._dice.randbytes(TOKEN_BYTES).hex()
        size = str(int(text))

        def answered(ok: bool) -> bytes:
            if not ok:
                return plain_error(request, 500, "unable to generate token")
            return answer(request, 200, f"{self._base(request)}/{token}".encode(), TEXT)

        finish = _finishing(request, answered)

        def v2_made(ok: bool) -> None:
            if not ok:
                finish(False)
                return
            making = Deferred.fromCoroutine(self._make_v3_token(token, size))
            making.addCallbacks(
                lambda _: finish(True), lambda failure: self._failed(failure, finish)
            )

        self._make_token(keys, token, size, v2_made)
        return None

    async def _make_v3_token(self, token: str, size: str) -> None:
        """The size only: what members write lives as long as they let it, as in any etcd."""
        lease = await self._client.leases.grant(self._ttl_seconds) if self._ttl_seconds else None
        key = f"{REGISTRY}/{token}/_config/size"
        await self._client.kv.put(key, size, lease=lease.ID if lease else 0)

    @staticmethod
    def _failed(failure: Failure, finish: Callable[[bool], None]) -> None:
        log.warn("cannot make a token: {error}", error=failure.getErrorMessage())
        finish(False)

    def _make_token(self, keys: Keys, token: str, size: str, done: Callable[[bool], None]) -> None:
        directory = f"{KEYS_ROOT}{REGISTRY}/{token}"

        def directory_made(result: object) -> None:
            if not isinstance(result, Event):
                done(False)
                return
            named = KeyRequest(method="PUT", path=f"{directory}/_config/size", value=size)
            keys.write(named, lambda result: done(isinstance(result, Event)))

        keys.write(
            KeyRequest(
                method="PUT",
                path=directory,
                is_dir=True,
                prev_exist=False,
                ttl_seconds=self._ttl_seconds or None,
            ),
            directory_made,
        )

    def _health(self, request: HttpRequest, keys: Keys) -> bytes | None:
        """A token is made and deleted."""
        token = self._dice.randbytes(TOKEN_BYTES).hex()

        def answered(ok: bool) -> bytes:
            return answer(request, 200, b"OK", TEXT) if ok else plain_error(request, 500, "not OK")

        finish = _finishing(request, answered)

        def made(ok: bool) -> None:
            if not ok:
                finish(False)
                return
            gone = KeyRequest(
                method="DELETE", path=f"{KEYS_ROOT}{REGISTRY}/{token}", recursive=True, is_dir=True
            )
            keys.write(gone, lambda result: finish(isinstance(result, Event)))

        self._make_token(keys, token, "1", made)
        return None

    def _base(self, request: HttpRequest) -> str:
        if self._public_url:
            return self._public_url
        host = (request.getHeader(b"host") or b"localhost").decode("latin-1")
        return f"{'https' if request.isSecure() else 'http'}://{host}"


def _finishing(request: HttpRequest, answered: Callable[[bool], bytes]) -> Callable[[bool], None]:
    gone: list[object] = []
    request.notifyFinish().addErrback(gone.append)

    def finish(ok: bool) -> None:
        if not gone:
            request.write(answered(ok))
            request.finish()

    return finish
