"""Lists of members at URLs, with a server in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.bootstrap.factories import BootstrapFactory
from etcdtw.bootstrap.from_http import REDIRECTS_MAX, HttpSource
from etcdtw.bootstrap.interfaces import BootstrapSettings, ClusterPlan, ReactorView
from etcdtw.bootstrap.lists import ListProvider
from etcdtw.bootstrap.refusal import BootstrapError, BootstrapUnavailable
from etcdtw.peer.calling import Answered, TooLong
from etcdtw.testing.bootstrap_conformance import BootstrapConformance
from tests.bootstrap.test_static import IC3, NamedHosts

URL = "http://registry.test/members"
Page = Callable[[], Deferred[Answered]]


def page(body: str = "", status: int = 200, **headers: str) -> Page:
    found = {name.encode(): value.encode() for name, value in headers.items()}
    return lambda: succeed(Answered(status, found, body.encode()))


def refusing(error: Exception) -> Page:
    return lambda: fail(error)


class Server:
    """Pages by URL; of several for one URL each is shown once, the last one from then on."""

    def __init__(self, pages: Mapping[str, list[Page]]) -> None:
        self.pages = {url: list(each) for url, each in pages.items()}
        self.asked: list[tuple[str, float]] = []

    def call(
        self, method: bytes, url: str, headers: Mapping[bytes, bytes], body: bytes, seconds: float
    ) -> Deferred[Answered]:
        assert method == b"GET" and not body
        self.asked.append((url, seconds))
        shown = self.pages[url]
        return (shown.pop(0) if len(shown) > 1 else shown[0])()


class HttpTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = NamedHosts()

    def begin(self, pages: Mapping[str, list[Page]], url: str = URL) -> Deferred[ClusterPlan]:
        self.server = Server(pages)
        scheme, _, rest = url.partition(":")
        settings = BootstrapSettings(
            name="infra0",
            peer_urls=("http://10.0.1.10:2380",),
            provider=scheme,
            provider_argument=rest,
        )
        provider = ListProvider(
            self.reactor, lambda settings, reactor: HttpSource(settings, reactor, self.server)
        )
        return provider.plan(settings)

    def planned(self, pages: Mapping[str, list[Page]], url: str = URL) -> ClusterPlan:
        begun = self.begin(pages, url)
        self.reactor.clock.pump([0.5] * 80)
        return self.successResultOf(begun)

    def refusal(self, pages: Mapping[str, list[Page]], url: str = URL) -> BootstrapError:
        begun = self.begin(pages, url)
        self.reactor.clock.pump([0.5] * 80)
        error = self.failureResultOf(begun, BootstrapError).value
        assert isinstance(error, BootstrapError)
        return error

    def test_found(self) -> None:
        """The page is the list; nobody is asked before the reactor runs."""
        begun = self.begin({URL: [page(IC3)]})
        self.assertEqual(self.server.asked, [])
        self.reactor.clock.pump([0.0] * 3)
        self.assertEqual(len(self.successResultOf(begun).members), 3)

    def test_late(self) -> None:
        """P4: a server that is down, says that there is nothing, or is not done, is asked again,
        more and more seldom."""
        pages = [
            refusing(ConnectionRefusedError()),
            refusing(TimeoutError()),
            page("not here", 404),
            page("", 503),
            page("infra1=http://10.0.1.11:2380"),
            page(IC3),
        ]
        self.assertEqual(len(self.planned({URL: pages}).members), 3)
        self.assertEqual(len(self.server.asked), 6)

    def test_pauses(self) -> None:
        """Pauses grow to eight seconds; nobody waits for an answer beyond the end of the time."""
        error = self.refusal({URL: [page("", 503)]})
        self.assertIsInstance(error, BootstrapUnavailable)
        self.assertEqual(error.reason, f"{URL} answered 503")
        waits = [seconds for _, seconds in self.server.asked]
        self.assertEqual(waits[:-1], [10.0] * 5)
        self.assertLess(waits[-1], 8)

    def test_redirects(self) -> None:
        """Redirections are followed, relative ones too, but not for ever, nor out of TLS, nor
        to what is no web page."""
        there, last = "https://other.test/list", "https://other.test/2/list"
        chain = {
            URL: [page(status=302, location=there)],
            there: [page(status=307, location="/2/list")],
            last: [page(IC3)],
        }
        self.assertEqual(len(self.planned(chain).members), 3)
        self.assertEqual([url for url, _ in self.server.asked], [URL, there, last])
        error = self.refusal({URL: [page(status=301, location=URL)]})
        self.assertEqual(error.reason, f"{URL} redirects more than {REDIRECTS_MAX} times")
        error = self.refusal({there: [page(status=301, location=URL)]}, there)
        self.assertIn("which is not safe", error.reason)
        for location in ("", "file:///etc/passwd", "http://[::1/list", "http://a:b/"):
            error = self.refusal({URL: [page(status=301, location=location)]})
            self.assertIn("which is no such URL", error.reason)

    def test_garbage(self) -> None:
        """A page that is no list, or too long, is told with the URL."""
        error = self.refusal({URL: [page("<html>Please log in</html>")]})
        self.assertNotIsInstance(error, BootstrapUnavailable)
        self.assertEqual(error.reason, f"{URL}:1: '<html>Please log in</html>' is not name=URL")
        error = self.refusal({URL: [refusing(TooLong("the answer has more than 9 bytes"))]})
        self.assertNotIsInstance(error, BootstrapUnavailable)
        self.assertEqual(error.reason, f"{URL}: the answer has more than 9 bytes")

    def test_bad_url(self) -> None:
        """What is no URL, and one with a user, are refused at once."""
        for url, text in (
            ("http:members", "is no URL with a host"),
            ("http://[::1/members", "is no URL with a host"),
            ("http://a:b/members", "is no URL with a host"),
            ("http://me:secret@h/x", "a URL with a user name cannot be called"),
        ):
            error = self.failureResultOf(self.begin({}, url), BootstrapError).value
            self.assertIn(text, str(error))

    def test_cancelled(self) -> None:
        """Giving up ends the question."""
        cancelled: list[Any] = []
        begun = self.begin({URL: [lambda: Deferred(cancelled.append)]})
        self.reactor.clock.advance(0)
        begun.cancel()
        self.failureResultOf(begun)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.reactor.clock.getDelayedCalls(), [])


def served_provider(reactor: ReactorView) -> ListProvider:
    """Of a server that has a list, for the suite."""
    server = Server({URL: [page("", 503), page(IC3)]})
    return ListProvider(reactor, lambda settings, reactor: HttpSource(settings, reactor, server))


class HttpConformanceTests(BootstrapConformance, SynchronousTestCase):
    def make_factory(self) -> Any:
        return BootstrapFactory(
            "http",
            "members are listed at a URL",
            ("bootstrap-provider",),
            "etcdtw.bootstrap.factories.claims_nothing",
            "tests.bootstrap.test_from_http.served_provider",
        )

    def make_settings(self) -> BootstrapSettings:
        return BootstrapSettings(
            name="infra0",
            peer_urls=("http://10.0.1.10:2380",),
            provider="http",
            provider_argument="//registry.test/members",
        )
