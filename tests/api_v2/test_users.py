"""Who callers of the v2 API are, and what they send about users and roles."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.site import Site
from etcdtw.api.v2.auth import AuthPage
from etcdtw.api.v2.members import MembersPage
from etcdtw.api.v2.parsing import KeyRequest
from etcdtw.api.v2.users import Users
from etcdtw.v2store import V2Error, V2Store


class PlainPasswords:
    """The hash of a password is the password."""

    def hash(self, password: str) -> Deferred[str]:
        return succeed(password)

    def check(self, password: str, hashed: str) -> Deferred[bool]:
        return succeed(password == hashed)


class UsersCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = V2Store(lambda: 0)
        self.users = Users(self.store, self.write, PlainPasswords())

    def write(self, asked: KeyRequest, done: Any) -> None:
        try:
            done(self.store.set(asked.path, asked.value, is_dir=asked.is_dir))
        except V2Error as error:
            done(error)

    def is_root(self, name: str, password: str) -> bool:
        header = b"Basic " + b64encode(f"{name}:{password}".encode())
        return self.successResultOf(Deferred.fromCoroutine(self.users.is_root(header)))


class CallerTests(UsersCase):
    def test_root(self) -> None:
        """Somebody is who is among the users, and not who has written himself somewhere else."""
        record = json.dumps({"user": "root", "password": "x", "roles": ["root"]})
        self.store.set("/2/enabled", "true")
        self.store.set("/2/users/root", record)
        self.store.set("/1/mine", record)
        self.assertTrue(self.is_root("root", "x"))
        for name in ("../../1/mine", "/../../1/mine", "root/../../../1/mine", "..", ".", ""):
            self.assertFalse(self.is_root(name, "x"), name)


class BodyTests(UsersCase):
    def ask(self, method: str, path: str, body: str, kind: str = "application/json") -> str:
        """Status and body of the answer."""
        nobody = cast(Any, None)
        members = MembersPage(nobody, nobody, 1, lambda: 1, self.parse_urls, self.users)
        site = Site({b"/v2/members": members}, {b"/v2/auth/": AuthPage(self.users, 1)})
        channel = HttpFactory(site, Clock()).buildProtocol(None)
        transport = StringTransport()
        channel.makeConnection(transport)
        channel.dataReceived(
            f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        head, _, answered = transport.value().decode().partition("\r\n\r\n")
        return f"{head.split()[1]} {answered}"

    def parse_urls(self, texts: list[str]) -> tuple[str, ...]:
        raise ValueError(f"URLs: {texts}")

    def test_nonsense(self) -> None:
        """What is not of its type is no JSON to etcd; nothing is as good as an empty map."""
        invalid = '400 {"message":"Invalid JSON in request body."}'
        for path, body in (
            ("users/a", "{"), ("users/a", "[1]"), ("users/a", '{"user":1}'),
            ("users/a", "[" * 100_000),
            ("users/a", '{"user":"a","grant":"x"}'), ("users/a", '{"user":"a","password":1}'),
            ("roles/a", '{"role":"a","permissions":1}'),
            ("roles/a", '{"role":"a","permissions":{"kv":[]}}'),
            ("roles/a", '{"role":"a","grant":{"kv":{"read":"x"}}}'),
        ):  # fmt: skip
            self.assertEqual(self.ask("PUT", f"/v2/auth/{path}", body), invalid, body)
        self.assertIn("does not match", self.ask("PUT", "/v2/auth/users/a", "null"))
        self.assertEqual(
            self.ask("PUT", "/v2/auth/users/a/b", "{}"), '400 {"message":"Invalid path"}'
        )

    def test_kind_of_body(self) -> None:
        """The type of a body may have parameters."""
        for kind in ("application/json", "application/json; charset=utf-8"):
            answered = self.ask("POST", "/v2/members", '{"peerURLs":["x"]}', kind)
            self.assertEqual(answered, """400 {"message":"URLs: ['x']"}""")
        deep = self.ask("POST", "/v2/members", "[" * 100_000)
        self.assertEqual(deep, '400 {"message":"unexpected end of JSON input"}')
        self.assertIn("415 ", self.ask("POST", "/v2/members", "{}", "text/json; charset=utf-8"))
