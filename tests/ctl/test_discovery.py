"""``etcdtw ctl discovery``: what is asked of a service, and what is made of its answers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.ctl.commands import run
from etcdtw.app.ctl.tokens import make_token, reset_token
from etcdtw.peer.calling import Answered

SERVICE = "http://10.0.1.2:8087"
URL = f"{SERVICE}/6c007a14875d53d9bf0ef5a6fc0257c8"


class Canned:
    """Answers whatever it is asked with the same."""

    def __init__(self, status: int, body: bytes, **headers: bytes) -> None:
        named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        self._answered = Answered(status, named, body)
        self.asked: list[tuple[bytes, str, Mapping[bytes, bytes]]] = []

    def call(
        self, method: bytes, url: str, headers: Mapping[bytes, bytes], body: bytes, seconds: float
    ) -> Deferred[Answered]:
        self.asked.append((method, url, headers))
        return succeed(self._answered)


class Away:
    asked = ()

    def call(self, *asked: Any) -> Deferred[Answered]:
        return fail(ConnectionRefusedError())


class TokenTests(SynchronousTestCase):
    def result(self, work: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(work))

    def refusal(self, work: Any) -> str:
        return str(self.failureResultOf(Deferred.fromCoroutine(work), ValueError).value)

    def test_made(self) -> None:
        """P30: a URL with its owner's secret, which services of others do not give."""
        calls = Canned(200, URL.encode(), x_etcdtw_owner=b"secret")
        self.assertEqual(self.result(make_token(calls, f"{SERVICE}/", 5)), (URL, "secret"))
        self.assertEqual(calls.asked, [(b"GET", f"{SERVICE}/new?size=5", {})])
        self.assertEqual(self.result(make_token(Canned(200, URL.encode()), SERVICE, 3)), (URL, ""))

    def test_not_made(self) -> None:
        """What is no service, no URL or no size is told in a sentence."""
        for calls, service, size, words in (
            (Canned(200, b"<html> </html>"), SERVICE, 3, "it is no discovery service"),
            (Canned(503, b"the service is starting\n"), SERVICE, 3, "503: the service is starting"),
            (Canned(404, b""), SERVICE, 3, "answered 404"),
            (Canned(200, b""), SERVICE, 0, "a cluster of 0 members"),
            (Canned(200, b""), "10.0.1.2:8087", 3, "no http or https URL"),
            (Canned(200, b""), "http://me:pw@10.0.1.2", 3, "a user name"),
            (Away(), SERVICE, 3, "Connection was refused"),
        ):
            self.assertIn(words, self.refusal(make_token(calls, service, size)))

    def test_reset(self) -> None:
        """P30: the secret is in a header, where no log of requests shows it."""
        for force, query in ((False, "reset=true"), (True, "reset=true&force=true")):
            calls = Canned(200, b"2 registrations are gone\n")
            said = self.result(reset_token(calls, f"{URL}/", "secret", force))
            self.assertEqual(said, "2 registrations are gone")
            headers = {b"authorization": b"Bearer secret"}
            self.assertEqual(calls.asked, [(b"DELETE", f"{URL}?{query}", headers)])

    def test_not_reset(self) -> None:
        """P30: the service's sentence is passed on; a plain etcd is told from a service, and not
        shown the secret where its URL tells."""
        own_etcd = "http://10.0.1.2:2379/v2/keys/discovery/token"
        etcd_error = b'{"errorCode":102,"message":"Not a file","cause":"/x","index":3}'
        for calls, url, secret, words in (
            (Canned(403, b"this is not the secret\n"), URL, "x", "403: this is not the secret"),
            (Canned(403, etcd_error), URL, "x", "knows no resets"),
            (Canned(200, b""), own_etcd, "x", "whoever may write there deletes"),
            (Canned(200, b""), URL, "", "no owner's secret"),
            (Canned(200, b""), URL, "a\r\nb", "no owner's secret"),
            (Canned(200, b""), f"{URL}?x", "x", "no http or https URL"),
        ):
            self.assertIn(words, self.refusal(reset_token(calls, url, secret, False)))
            if calls.asked:
                self.assertEqual(url, URL)


class CommandTests(SynchronousTestCase):
    def run_words(self, *words: str) -> tuple[int, str]:
        said = StringIO()
        with redirect_stderr(said):
            return run(["discovery", *words]), said.getvalue()

    def test_owner_file(self) -> None:
        """A file that is there is not written over, and nobody is asked; one that cannot be read
        is told."""
        path = Path(self.mktemp())
        path.write_text("another's")
        code, said = self.run_words("new", "--owner-file", str(path))
        self.assertEqual((code, path.read_text()), (1, "another's"))
        self.assertIn("file exists", said)
        code, said = self.run_words("reset", URL, "--owner-file", str(path) + ".none")
        self.assertEqual((code, "no such file" in said), (1, True))

    def test_words(self) -> None:
        """A reset needs a secret, in one way."""
        for words in (("reset", URL), ("reset", URL, "--owner=x", "--owner-file=y"), ()):
            with self.assertRaises(SystemExit) as caught:
                self.run_words(*words)
            self.assertEqual(caught.exception.code, 2)
