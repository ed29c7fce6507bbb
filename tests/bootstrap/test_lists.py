"""Lists of members: their forms, their faults, and files that come late."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.bootstrap.factories import BUILT_IN, choose_factory
from etcdtw.bootstrap.interfaces import BootstrapSettings, ClusterPlan
from etcdtw.bootstrap.lists import LIST_BYTES_MAX, parse_members
from etcdtw.bootstrap.naming import links, rooted
from etcdtw.bootstrap.refusal import BootstrapError, BootstrapUnavailable
from etcdtw.bootstrap.static import StaticProvider
from etcdtw.bootstrap.waiting import GIVE_UP_SECONDS
from etcdtw.testing.bootstrap_conformance import BootstrapConformance
from tests.bootstrap.test_static import IC3, NamedHosts, settings_of

LINES = IC3.replace(",", "\n")


class FormTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """Lines, commas, comments, spaces and JSON are the same list."""
        wanted = settings_of("infra0", IC3).initial_cluster
        for text in (
            IC3,
            LINES,
            f"# ours\r\n\r\n  {LINES}  # and that is all\n",
            IC3.replace("=", " = ").replace(",", " , ") + ",\n",
            "\ufeff" + LINES,
            '{"infra0": "http://10.0.1.10:2380", "infra2": ["http://10.0.1.12:2380"],\n'
            ' "infra1": "http://10.0.1.11:2380"}',
        ):
            self.assertEqual(parse_members(text.encode(), "list"), wanted, text)

    def test_several_urls(self) -> None:
        """A repeated name has several URLs, in either form."""
        wanted = (("a", ("http://a:1", "https://[::1]:2")),)
        for text in (
            "a=https://[::1]:2\na=http://a:1",
            '{"a": ["https://[::1]:2", "http://a:1"]}',
        ):
            self.assertEqual(parse_members(text.encode(), "list"), wanted)

    def test_faults(self) -> None:
        """What is none is refused with its line and the reason, in the words of the flags."""
        for text, reason in (
            ("a=http://a:1\nb\n", "list:2: 'b' is not name=URL"),
            ("=http://a:1", "list:1: a URL without a name"),
            ("a=http://a:1,b=ftp://b:1", "list:1: URL scheme must be http, https, unix, or unixs"),
            ("\n\na=http://a", """list:3: URL address does not have the form "host:port": """),
            ("a=http://:x", "list:1: "),
            ("a=http://a:99999", "list:1: 'http://a:99999': Port out of range"),
            ("a=http://a:1/", "list:1: URL must not contain a path: 'http://a:1/'"),
            ("<html>\nnot found</html>", "list:1: '<html>' is not name=URL"),
            ("a" * 500, "…' is not name=URL"),
            ('{"a": ["http://a:1"\n', "list:2: is no JSON: "),
            ('{"a": 3}', "list: member 'a': '3' is no URL"),
            ('{"a": "http://a"}', "list: member 'a': URL address does not"),
        ):
            error = self.assertRaises(BootstrapError, parse_members, text.encode(), "list")
            self.assertIn(reason, error.reason)
            self.assertLess(len(error.reason), 300)
        error = self.assertRaises(BootstrapError, parse_members, b"a=http://a:1\n\xff", "list")
        self.assertEqual(error.reason, "list:2: is no UTF-8 text")

    def test_empty(self) -> None:
        """A list of nobody is none yet."""
        for text in (b"", b"\n# nobody\n", b"{}", b","):
            self.assertRaises(BootstrapUnavailable, parse_members, text, "list")


class NamingTests(SynchronousTestCase):
    def test_names(self) -> None:
        """A URL is a name and its argument; a chain is several."""
        base = settings_of("infra0", IC3)

        def named(text: str) -> list[tuple[str, str]]:
            name, _, argument = rooted(text, "/here").partition(":")
            found = links(replace(base, provider=name, provider_argument=argument))
            return [(each.provider, each.provider_argument) for each in found]

        self.assertEqual(named("https://h:1/x,y"), [("https", "//h:1/x,y")])
        self.assertEqual(named("file:members"), [("file", "/here/members")])
        self.assertEqual(named("file:///etc/members"), [("file", "/etc/members")])
        self.assertEqual(named("exec:./find --all"), [("exec", "/here/find --all")])
        self.assertEqual(named("exec:find ./x"), [("exec", "find ./x")])
        self.assertEqual(
            named("chain: last-known-good, file:m,dns-srv"),
            [("last-known-good", ""), ("file", "/here/m"), ("dns-srv", "")],
        )
        self.assertEqual(named(""), [("", "")])


class FileCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = NamedHosts()
        self.path = Path(os.path.abspath(self.mktemp()))

    def begin(self, name: str = "infra0", **others: Any) -> Deferred[ClusterPlan]:
        settings = BootstrapSettings(
            name=name,
            peer_urls=others.pop("peer_urls", (f"http://10.0.1.1{name[-1]}:2380",)),
            provider="file",
            provider_argument=str(self.path),
            **others,
        )
        return choose_factory(settings, BUILT_IN).provider(self.reactor).plan(settings)

    def pump(self, seconds: int) -> None:
        self.reactor.clock.pump([1.0] * seconds)

    def planned(self, begun: Deferred[ClusterPlan]) -> ClusterPlan:
        self.reactor.clock.advance(0)
        return self.successResultOf(begun)

    def refusal(self, begun: Deferred[ClusterPlan]) -> BootstrapError:
        error = self.failureResultOf(begun, BootstrapError).value
        assert isinstance(error, BootstrapError)
        return error


class FileTests(FileCase):
    def test_same_as_static(self) -> None:
        """OV6: the plan is that of a static list, ids and all."""
        self.path.write_text(LINES)
        static = StaticProvider(self.reactor).plan(settings_of("infra0", IC3))
        self.assertEqual(self.planned(self.begin()), self.successResultOf(static))

    def test_late(self) -> None:
        """P4: a file may come later, and become complete later still."""
        begun = self.begin(expected_size=3)
        self.pump(3)
        self.path.write_text(LINES.partition("\n")[0])
        self.pump(3)
        self.path.write_text("half a li")
        self.pump(3)
        self.assertNoResult(begun)
        self.path.write_text(LINES)
        self.pump(2)
        self.assertEqual(len(self.planned(begun).members), 3)
        self.assertEqual(self.reactor.clock.getDelayedCalls(), [])

    def test_never(self) -> None:
        """A file that never comes is told after half a minute, or the time that was given; nothing
        is known then, so that another provider may be asked."""
        for seconds, given in ((GIVE_UP_SECONDS, 0.0), (5, 5.0)):
            begun = self.begin(timeout_seconds=given)
            self.pump(int(seconds) - 1)
            self.assertNoResult(begun)
            self.pump(2)
            error = self.refusal(begun)
            self.assertIsInstance(error, BootstrapUnavailable)
            self.assertEqual(error.reason, f"open {self.path}: no such file or directory")

    def test_garbage(self) -> None:
        """A list that cannot be read contradicts: line and reason are told."""
        self.path.write_text("infra0=http://10.0.1.10:2380\ninfra1\n")
        begun = self.begin()
        self.pump(31)
        error = self.refusal(begun)
        self.assertNotIsInstance(error, BootstrapUnavailable)
        self.assertEqual(error.reason, f"{self.path}:2: 'infra1' is not name=URL")

    def test_not_listed(self) -> None:
        """P3: whoever is not in it is refused in etcd's words, with what was compared, the nearest
        name, and where the list is."""
        self.path.write_text(LINES)
        begun = self.begin("infra-1", peer_urls=("http://10.0.1.99:2380",))
        self.pump(31)
        error = self.refusal(begun)
        self.assertEqual(error.sentence, "etcd: infra-1 not listed in the initial cluster config")
        for text in (IC3, "http://10.0.1.99:2380", "use --name infra1", f"that of {self.path}"):
            self.assertIn(text, error.hint)

    def test_other_url(self) -> None:
        """P3: an own URL that is another one is refused at once, naming both."""
        self.path.write_text(LINES)
        error = self.refusal(self.begin(peer_urls=("http://10.0.1.99:2380",)))
        self.assertIn("infra0 has different advertised URLs in the cluster", error.sentence)
        self.assertIn("advertised: http://10.0.1.99:2380; listed for 'infra0': ", error.hint)
        self.assertIn("use --initial-advertise-peer-urls http://10.0.1.10:2380", error.hint)

    def test_too_many(self) -> None:
        """More members than expected are as wrong as fewer."""
        self.path.write_text(LINES)
        begun = self.begin(expected_size=2)
        self.pump(31)
        self.assertEqual(self.refusal(begun).reason, "3 of 2 expected members are listed")

    def test_no_file(self) -> None:
        """A directory, a pipe, a huge file and no path at all are told."""
        self.path.mkdir()
        begun = self.begin()
        self.pump(31)
        self.assertIn("is no regular file", self.refusal(begun).reason)
        self.path.rmdir()
        os.mkfifo(self.path)
        begun = self.begin()
        self.pump(31)
        self.assertIn("is no regular file", self.refusal(begun).reason)
        os.remove(self.path)
        self.path.write_bytes(b"#" * (LIST_BYTES_MAX + 1))
        begun = self.begin()
        self.pump(31)
        self.assertIn("is larger than 1048576 bytes", self.refusal(begun).reason)
        settings = BootstrapSettings(name="a", peer_urls=("http://a:1",), provider="file")
        begun = choose_factory(settings, BUILT_IN).provider(self.reactor).plan(settings)
        self.assertEqual(self.refusal(begun).reason, "file has no path: file:PATH")


class FileConformanceTests(BootstrapConformance, SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(os.path.abspath(self.mktemp()))
        self.path.write_text(LINES)

    def make_factory(self) -> Any:
        return next(each for each in BUILT_IN if each.name == "file")

    def make_settings(self) -> BootstrapSettings:
        return BootstrapSettings(
            name="infra0",
            peer_urls=("http://10.0.1.10:2380",),
            provider="file",
            provider_argument=str(self.path),
        )
