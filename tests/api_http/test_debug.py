"""Looks into the process."""

from __future__ import annotations

import json
import time

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.http.debug import PROFILE_SECONDS, debug_pages
from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.log_level import LogLevelPage
from etcdtw.api.http.requests import Resource
from etcdtw.api.http.site import Site
from etcdtw.observe.levels import Verbosity
from etcdtw.rpc import Router
from etcdtw.rpc.local import LocalUnary
from etcdtw.rpc.router import Method
from tests.api_http.test_pages import Answer


class DebugTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.router = Router()
        self.router.add_unary("/a.B/C", lambda call, body: call.reply(b""))
        self.verbosity = Verbosity("info")
        self.connect(profiles=True)

    def connect(self, profiles: bool) -> None:
        pages: dict[bytes, Resource] = debug_pages(
            self.router, self.clock, profiles, ["etcdtw", "--name=a"]
        )
        pages[b"/config/local/log"] = LogLevelPage(
            lambda: self.verbosity.level, self.verbosity.set_level
        )
        self.channel = HttpFactory(Site(pages), self.clock).buildProtocol(None)
        self.transport = StringTransport()
        self.channel.makeConnection(self.transport)

    def ask(self, target: str, method: str = "GET", body: str = "") -> Answer:
        head = f"{method} {target} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n"
        self.channel.dataReceived((head + body).encode())
        stream = self.transport.value()
        self.transport.clear()
        return Answer(stream)

    def test_vars(self) -> None:
        """What the process uses, as JSON."""
        found = json.loads(self.ask("/debug/vars").body)
        self.assertGreater(found["maxrss_bytes"], 1 << 20)
        self.assertEqual(found["cmdline"], ["etcdtw", "--name=a"])

    def test_requests(self) -> None:
        """Calls by method, with those under way."""
        method = self.router.find("/a.B/C")
        assert isinstance(method, Method), "it is served"
        call = LocalUnary(method, {}, "here", lambda answer: None)
        call.start(b"", 10)
        last = self.ask("/debug/requests").body.decode().splitlines()[-1]
        self.assertEqual(last.split(), ["0", "1", "0", "/a.B/C"])

    def test_profiles(self) -> None:
        """Stacks, objects, the command line and a profile, by their index."""
        index = self.ask("/debug/pprof/").body.split()
        self.assertEqual(len(index), 4)
        self.assertIn(b"test_profiles", self.ask("/debug/pprof/goroutine").body)
        self.assertIn(b"function", self.ask("/debug/pprof/heap").body)
        self.assertEqual(self.ask("/debug/pprof/cmdline").body, b"etcdtw\0--name=a")

    def test_profile(self) -> None:
        """The reactor's thread is sampled for so long."""
        self.ask("/debug/pprof/profile?seconds=1")
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            pass
        self.assertEqual(self.transport.value(), b"")
        self.clock.advance(1)
        body = Answer(self.transport.value()).body.decode()
        stack, _, count = body.splitlines()[0].rpartition(" ")
        self.assertIn("test_profile", stack)
        self.assertGreater(int(count), 1)

    def test_strange_time(self) -> None:
        """What is no number of seconds is the usual number."""
        self.ask("/debug/pprof/profile?seconds=%B2")
        self.clock.advance(PROFILE_SECONDS)
        self.assertEqual(Answer(self.transport.value()).status, "HTTP/1.1 200 OK")

    def test_not_wanted(self) -> None:
        """Without the flag there are no profiles."""
        self.connect(profiles=False)
        self.assertEqual(self.ask("/debug/pprof/heap").status.split()[1], "404")

    def test_log_level(self) -> None:
        """The level can be asked for and changed; what is no level is refused."""
        self.assertEqual(json.loads(self.ask("/config/local/log").body), {"Level": "INFO"})
        changed = self.ask("/config/local/log", "PUT", '{"Level":"DEBUG"}')
        self.assertEqual((changed.status.split()[1], self.verbosity.level), ("204", "debug"))
        for body in ('{"Level":"LOUD"}', "{}", "x", "[]"):
            self.assertEqual(self.ask("/config/local/log", "PUT", body).status.split()[1], "400")
        self.assertEqual(self.ask("/config/local/log", "POST").status.split()[1], "405")
        self.assertEqual(self.verbosity.level, "debug")
