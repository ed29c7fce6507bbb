"""The pages of a discovery service, over the keys of a member (the public service's paths).

A token is made for both protocols: its size is among the v2 keys, which these pages serve, and
among the v3 keys, which the member itself serves to those who come with ``--discovery-token``.

Whoever asks for a token gets a secret as well, in a header, and may reset the token with it:
``DELETE /<token>?reset`` with the secret as a bearer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from etcdtw.api.discovery.barrier import Barrier
from etcdtw.api.discovery.owners import OWNER_HEADER, SECRET_BYTES, hash_of, secret_in
from etcdtw.api.discovery.places import REGISTRY, v2_directory, v2_size, v3_owner, v3_size
from etcdtw.api.discovery.reset import Refused, TokenReset
from etcdtw.api.http.requests import HttpRequest, answer, plain_error
from etcdtw.api.v2.forms import form_of
from etcdtw.api.v2.keys import KEYS_PREFIX, Keys
from etcdtw.api.v2.parsing import KeyRequest
from etcdtw.client import Client
from etcdtw.client.txn import put
from etcdtw.errors import EtcdError
from etcdtw.ids import parse_decimal
from etcdtw.v2store import Event, V2Error

DEFAULT_SIZE = 3
SIZE_MAX = 1 << 31
TOKEN_BYTES = 16

T = TypeVar("T")

log = Logger(namespace="etcdtw.discovery")

TEXT = b"text/plain; charset=utf-8"
_TOKEN = re.compile(rb"/([0-9a-f]{32,40})(/.*)?")
_READS = (b"GET", b"HEAD")
_OFF = ("0", "false")
_HOME = """\
A discovery service for etcd clusters.

    curl {url}/new?size=3

gives a new URL. Start every member of the new cluster with it: etcd --discovery <URL> …

When that has failed half-way, with the secret that came with the URL in the header X-Etcdtw-Owner

    curl -X DELETE -H 'Authorization: Bearer <secret>' '<URL>?reset'

makes the URL good for one more try.

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
        self._barrier = Barrier()

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
        token, below = found[1].decode(), found[2]
        if request.method == b"DELETE" and _is_on(request, "reset") and below in (None, b"/"):
            self._reset(request, keys, token)
            return None
        if self._barrier.is_closed(token) and request.method not in _READS:
            self._barrier.when_open(token, lambda: self._render_late(request, path))
            return None
        return keys.render(request, KEYS_PREFIX + REGISTRY.encode() + path)

    def _render_late(self, request: HttpRequest, path: bytes) -> None:
        body = None if request.is_gone else self.render(request, path)
        if body is not None:
            request.write(body)
            request.finish()

    def _new(self, request: HttpRequest, keys: Keys) -> bytes | None:
        if request.method not in (b"GET", b"PUT", b"POST"):
            request.setHeader(b"allow", b"GET,PUT,POST")
            return plain_error(request, 405, "Method Not Allowed")
        text = (request.args.get(b"size") or [b""])[0] or b"%d" % DEFAULT_SIZE
        shown = text.decode("latin-1")
        number = parse_decimal(shown, SIZE_MAX - 1)
        if not number:
            return plain_error(request, 400, f"size {shown!r} is no number of members")
        token = self._dice.randbytes(TOKEN_BYTES).hex()
        secret = self._dice.randbytes(SECRET_BYTES).hex()
        size = str(number)

        def answered(ok: bool) -> bytes:
            if not ok:
                return plain_error(request, 500, "unable to generate token")
            request.setHeader(OWNER_HEADER, secret.encode())
            request.setHeader(b"cache-control", b"no-store")
            return answer(request, 200, f"{self._base(request)}/{token}".encode(), TEXT)

        finish = _finishing(request, answered)

        def v2_made(ok: bool) -> None:
            if not ok:
                finish(False)
                return
            making = Deferred.fromCoroutine(self._make_v3_token(token, size, hash_of(secret)))
            making.addCallbacks(
                lambda _: finish(True), lambda failure: self._failed(failure, finish)
            )

        self._make_token(keys, token, size, v2_made)
        return None

    async def _make_v3_token(self, token: str, size: str, owner_hash: str) -> None:
        """The size, and who owns both tokens: what members write lives as long as they let it, as
        in any etcd."""
        granted = await self._client.leases.grant(self._ttl_seconds) if self._ttl_seconds else None
        lease = granted.ID if granted else 0
        made = self._client.kv.txn().then(
            put(v3_size(token), size, lease=lease), put(v3_owner(token), owner_hash, lease=lease)
        )
        await made.commit()

    @staticmethod
    def _failed(failure: Failure, finish: Callable[[bool], None]) -> None:
        log.warn("cannot make a token: {error}", error=failure.getErrorMessage())
        finish(False)

    def _make_token(self, keys: Keys, token: str, size: str, done: Callable[[bool], None]) -> None:
        def directory_made(result: object) -> None:
            if not isinstance(result, Event):
                done(False)
                return
            named = KeyRequest(method="PUT", path=v2_size(token), value=size)
            keys.write(named, lambda result: done(isinstance(result, Event)))

        keys.write(
            KeyRequest(
                method="PUT",
                path=v2_directory(token),
                is_dir=True,
                prev_exist=False,
                ttl_seconds=self._ttl_seconds or None,
            ),
            directory_made,
        )

    def _reset(self, request: HttpRequest, keys: Keys, token: str) -> None:
        """It goes on when the client is gone, so that nothing stays half done."""

        def answered(found: tuple[int, str]) -> bytes:
            status, sentence = found
            if status == 401:
                request.setHeader(b"www-authenticate", b"Bearer")
            if status != 200:
                return plain_error(request, status, sentence)
            return answer(request, 200, f"{sentence}\n".encode(), TEXT)

        secret = secret_in(request.getHeader(b"authorization"))
        force = _is_on(request, "force")
        resetting = Deferred.fromCoroutine(self._reset_token(keys, token, secret, force))
        resetting.addErrback(self._reset_failed)
        resetting.addCallback(_finishing(request, answered))

    async def _reset_token(
        self, keys: Keys, token: str, secret: str, force: bool
    ) -> tuple[int, str]:
        resetting = TokenReset(token, keys, self._client)
        await resetting.check_owner(secret)
        if self._barrier.is_closed(token):
            raise Refused(409, "it is being reset at this moment")
        with self._barrier.closed(token):
            return 200, await resetting.clear(force)

    @staticmethod
    def _reset_failed(failure: Failure) -> tuple[int, str]:
        error = failure.value
        if isinstance(error, Refused):
            return error.status, str(error)
        if not failure.check(EtcdError, V2Error):
            log.failure("a reset failed", failure)
            return 500, "Internal Server Error"
        log.warn("cannot reset a token: {error}", error=str(error))
        return 503, f"{error}; ask again"

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
                method="DELETE", path=v2_directory(token), recursive=True, is_dir=True
            )
            keys.write(gone, lambda result: finish(isinstance(result, Event)))

        self._make_token(keys, token, "1", made)
        return None

    def _base(self, request: HttpRequest) -> str:
        if self._public_url:
            return self._public_url
        host = (request.getHeader(b"host") or b"localhost").decode("latin-1")
        return f"{'https' if request.isSecure() else 'http'}://{host}"


def _is_on(request: HttpRequest, name: str) -> bool:
    """Whether a parameter is given, be it without a value, and not as 0 or false."""
    try:  # Twisted's parameters have values
        form = form_of(request.method, b"", request.uri.partition(b"?")[2], b"")
    except V2Error:
        return False
    return name in form and form[name][0].lower() not in _OFF


def _finishing(request: HttpRequest, answered: Callable[[T], bytes]) -> Callable[[T], None]:
    gone: list[object] = []
    request.notifyFinish().addErrback(gone.append)

    def finish(result: T) -> None:
        if not gone:
            request.write(answered(result))
            request.finish()

    return finish
