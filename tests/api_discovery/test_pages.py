"""The service's pages, while a token is being reset."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from etcdtw.api.discovery.owners import hash_of
from etcdtw.api.discovery.places import v3_owner
from etcdtw.api.discovery.service import DiscoveryPages
from etcdtw.api.http.requests import tell_finished
from etcdtw.api.v2.parsing import KeyRequest
from tests.api_discovery.tokens import SECRET, TOKEN, TokenCase, TreeKeys


class FakeRequest:
    """``status`` is None until there is an answer."""

    is_gone = False

    def __init__(self, method: str, uri: str, secret: str = "") -> None:
        self.method, self.uri = method.encode(), uri.encode()
        self.args: Any = parse_qs(self.uri.partition(b"?")[2])
        self.status: int | None = None
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self._secret = secret
        self._waiting: list[Deferred[None]] = []

    def getHeader(self, key: bytes) -> bytes | None:
        return b"Bearer " + self._secret.encode() if key == b"authorization" else None

    def isSecure(self) -> bool:
        return False

    def notifyFinish(self) -> Deferred[None]:
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def setHeader(self, name: bytes, value: bytes) -> None:
        self.headers[name] = value

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        self.status = code

    def write(self, data: bytes) -> None:
        self.body += data

    def finish(self) -> None:
        tell_finished(self._waiting, None)

    def lose(self) -> None:
        self.is_gone = True
        tell_finished(self._waiting, Failure(ConnectionDone()))


class SlowKeys(TreeKeys):
    """Writes wait for the test; requests for keys are noted as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.held: list[Callable[[], None]] | None = None

    def write(self, asked: KeyRequest, done: Callable[[object], None]) -> None:
        def go() -> None:
            super(SlowKeys, self).write(asked, done)

        if self.held is None:
            go()
        else:
            self.held.append(go)

    def release(self) -> None:
        held, self.held = self.held or [], None
        for each in held:
            each()

    def render(self, request: FakeRequest, path: bytes) -> bytes:
        self.asked.append(f"{request.method.decode()} {path.decode().rpartition('/')[2]}")
        request.setResponseCode(200)
        return b""


class PageTests(TokenCase):
    def setUp(self) -> None:
        super().setUp()
        self.keys = self.slow = SlowKeys()
        self.make()
        keys: Any = self.slow
        self.pages = DiscoveryPages(lambda: keys, self.client(), random.Random(1), 60)

    def ask(self, method: str, uri: str, secret: str = "") -> FakeRequest:
        request = FakeRequest(method, uri, secret)
        asked: Any = request
        body = self.pages.render(asked, request.uri.partition(b"?")[0])
        if body is not None:
            request.write(body)
            request.finish()
        return request

    def begin_reset(self) -> FakeRequest:
        """It has looked who the owner is, and looks now who has registered."""
        self.register_v2("a", "b")
        self.slow.held = []
        request = self.ask("DELETE", f"/{TOKEN}?reset", SECRET)
        self.run_for(1)
        self.assertEqual((request.status, len(self.slow.held)), (None, 1))
        return request

    def test_registrations_wait(self) -> None:
        """P30: nobody registers while a token is being reset, and nobody is refused for it; it is
        reset once at a time; everybody may look."""
        resetting = self.begin_reset()
        late = self.ask("PUT", f"/{TOKEN}/c?prevExist=false")
        gone = self.ask("PUT", f"/{TOKEN}/d?prevExist=false")
        gone.lose()
        self.ask("GET", f"/{TOKEN}")
        self.ask("PUT", f"/{TOKEN[:-1]}0/e")
        self.assertEqual(self.slow.asked, [f"GET {TOKEN}", "PUT e"])
        again = self.ask("DELETE", f"/{TOKEN}?reset=true", SECRET)
        self.run_for(1)
        self.assertEqual((again.status, late.status), (409, None))
        self.slow.release()
        self.run_for(1)
        self.assertEqual((resetting.status, late.status, gone.status), (200, 200, None))
        self.assertEqual(self.slow.asked[2:], ["PUT c"])
        self.assertIn(b"2 registrations are gone", resetting.body)
        self.assertEqual(self.left(), [])

    def test_client_goes(self) -> None:
        """P30: a reset whose client is gone is not left half done."""
        self.begin_reset().lose()
        self.slow.release()
        self.run_for(1)
        self.assertEqual(self.left(), [])

    def test_refusals(self) -> None:
        """P30: statuses, and what a browser or proxy makes of them; a service that cannot write is
        to be asked again."""
        missing = self.ask("DELETE", f"/{TOKEN}?reset")
        wrong = self.ask("DELETE", f"/{TOKEN}?reset&force", "wrong")
        self.run_for(1)
        self.assertEqual((missing.status, wrong.status), (401, 403))
        self.assertEqual(missing.headers[b"www-authenticate"], b"Bearer")
        self.slow.is_away = True
        away = self.ask("DELETE", f"/{TOKEN}?reset", SECRET)
        self.run_for(1)
        self.assertEqual((away.status, b"no leader; ask again" in away.body), (503, True))
        for uri in (f"/{TOKEN}?reset=false", f"/{TOKEN}", f"/{TOKEN}/a?reset", f"/{TOKEN}?;reset"):
            self.slow.asked.clear()
            self.ask("DELETE", uri, SECRET)
            self.assertEqual(len(self.slow.asked), 1, uri)

    def test_new(self) -> None:
        """P30: the secret comes in a header that nobody keeps, the body is the URL alone, and what
        is stored is a hash."""
        self.slow.store.set("/1/x", "")  # the tree is there
        made = self.ask("GET", "/new")
        self.run_for(1)
        self.assertEqual((made.status, made.headers[b"cache-control"]), (200, b"no-store"))
        url, secret = made.body.decode(), made.headers[b"x-etcdtw-owner"].decode()
        self.assertRegex(url, "^http://[^/]*/[0-9a-f]{32}$")
        self.assertRegex(secret, "^[0-9a-f]{48}$")
        kept = self.result(self.client().kv.get(v3_owner(url[-32:]))).kvs[0]
        self.assertEqual(kept.value.decode(), hash_of(secret))
        self.assertNotEqual(kept.lease, 0)

    def test_no_size(self) -> None:
        """What is no number of members is refused, however long it is."""
        for size in ("0", "-1", "x", str(1 << 31), "9" * 5000):
            self.assertEqual(self.ask("GET", f"/new?size={size}").status, 400)
