"""The discovery protocol, with a service in memory that is a v2 tree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.bootstrap.discovery_v2 import DiscoveryProvider, discover, token_state
from etcdtw.bootstrap.interfaces import BootstrapSettings, ClusterPlan
from etcdtw.bootstrap.refusal import BootstrapError, BootstrapUnavailable
from etcdtw.ids import format_id, member_id
from etcdtw.peer.calling import Answered
from etcdtw.v2store import V2Error, V2Store
from tests.bootstrap.test_static import NamedHosts

BASE = "http://service:2379"
URL = f"{BASE}/v2/keys/discovery/token"


class Service:
    """Answers as etcd would, or not at all."""

    def __init__(self, size: str = "3") -> None:
        self.store = V2Store(lambda: 0)
        self.down = False
        self.asked: list[str] = []
        self.redirects: dict[str, str] = {}
        if size:
            self.store.set("/1/discovery/token/_config/size", size)

    def register(self, name: str, url: str) -> None:
        identity = format_id(member_id((url,), URL))
        self.store.create(f"/1/discovery/token/{identity}", f"{name}={url}")

    def call(
        self, method: bytes, url: str, headers: Mapping[bytes, bytes], body: bytes, seconds: float
    ) -> Deferred[Answered]:
        self.asked.append(f"{method.decode()} {url}")
        if self.down:
            return fail(ConnectionRefusedError())
        if url in self.redirects:
            return succeed(Answered(307, {b"location": self.redirects[url].encode()}, b""))
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        key = "/1" + parts.path.removeprefix("/v2/keys")
        try:
            if method == b"PUT":
                value = parse_qs(body.decode())["value"][0]
                return self._answer(self.store.create(key, value))
            if "wait" in query:
                waiting: Deferred[Answered] = Deferred()
                self.store.watch(
                    key, True, False, int(query["waitIndex"][0]),
                    lambda event: waiting.callback(self._answered(event)),
                )  # fmt: skip
                return waiting
            return self._answer(self.store.get(key))
        except V2Error as error:
            return succeed(Answered(error.status, {}, error.json().encode()))

    def stop(self) -> None:
        """Nothing is kept."""

    def _answer(self, event: Any) -> Deferred[Answered]:
        return succeed(self._answered(event))

    def _answered(self, event: Any) -> Answered:
        body = event.client_json(2).encode()
        return Answered(200, {b"x-etcd-index": b"%d" % self.store.index}, body)


class Lagging(Service):
    """Once somebody has registered, so many lists are those of a member that has not heard of
    it."""

    def __init__(self, size: str, looks: int) -> None:
        super().__init__(size)
        self._looks = looks

    def call(
        self, method: bytes, url: str, headers: Mapping[bytes, bytes], body: bytes, seconds: float
    ) -> Deferred[Answered]:
        if url == URL and self.store.index > 1 and self._looks:
            self._looks -= 1
            return succeed(Answered(200, {b"x-etcd-index": b"1"}, b'{"node":{}}'))
        return super().call(method, url, headers, body, seconds)


class DiscoveryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = NamedHosts()
        self.clock = self.reactor.clock

    def settings(self, name: str = "infra0", n: int = 0, **others: Any) -> BootstrapSettings:
        others.setdefault("discovery", URL)
        return BootstrapSettings(name=name, peer_urls=(f"http://10.0.1.1{n}:2380",), **others)

    def begin(self, service: Service, *settings: BootstrapSettings) -> list[Deferred[ClusterPlan]]:
        return [Deferred.fromCoroutine(discover(each, service, self.reactor)) for each in settings]

    def refusal(self, service: Service, settings: BootstrapSettings | None = None) -> str:
        (begun,) = self.begin(service, settings or self.settings())
        failure = self.failureResultOf(begun, BootstrapError)
        return str(failure.value)

    def test_three(self) -> None:
        """DI10, DI11, 0.2: they wait for each other; the URL is the token; all have one plan."""
        service = Service()
        begun = self.begin(service, self.settings(), self.settings("infra1", 1))
        for each in begun:
            self.assertNoResult(each)
        begun += self.begin(service, self.settings("infra2", 2))
        plans = [self.successResultOf(each) for each in begun]
        self.assertEqual(len({(plan.cluster_id, plan.members) for plan in plans}), 1)
        self.assertEqual(plans[0].token, URL)
        self.assertEqual(plans[2].member_id, member_id(("http://10.0.1.12:2380",), URL))
        self.assertTrue(plans[0].new)

    def test_full(self) -> None:
        """DI2, DP3, DP5: the first three are the cluster; who comes later does not register."""
        service = Service()
        for n in range(3):
            service.register(f"infra{n}", f"http://10.0.1.1{n}:2380")
        index = service.store.index
        self.assertIn("discovery: cluster is full", self.refusal(service, self.settings("x", 9)))
        self.assertEqual(service.store.index, index)

    def test_sizes(self) -> None:
        """DI19, DI20: a size that is not there, or none."""
        self.assertIn("size key not found", self.refusal(Service("")))
        for size in ("abc", "0", "-3", " "):
            self.assertIn("discovery: size key is bad", self.refusal(Service(size)))

    def test_nonsense(self) -> None:
        """Garbage in place of answers and of registrations."""
        service = Service()
        self.patch(service, "call", lambda *_: succeed(Answered(200, {}, b"<html>")))
        self.assertIn("discovery: bad discovery endpoint", self.refusal(service))
        service = Service("2")
        service.store.create("/1/discovery/token/abc", "no url at all")
        self.assertIn("discovery: invalid URL", self.refusal(service))

    def test_same_name(self) -> None:
        """DI8: two members of one name."""
        service = Service("2")
        service.register("infra0", "http://10.0.1.15:2380")
        self.assertIn("discovery: found duplicate name", self.refusal(service))

    def test_twice(self) -> None:
        """DI23: registered already."""
        service = Service()
        service.register("infra0", "http://10.0.1.10:2380")
        self.assertIn('member "infra0" has previously registered', self.refusal(service))

    def test_down(self) -> None:
        """DI24, DI25: asked again, each pause twice the last, up to 256 s; also while waiting."""
        service = Service("2")
        service.down = True
        (begun,) = self.begin(service, self.settings())
        pauses = []
        for _ in range(10):
            (call,) = self.clock.getDelayedCalls()
            pauses.append(call.getTime() - self.clock.seconds())
            self.clock.advance(pauses[-1])
        self.assertEqual(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 256, 256])
        service.down = False
        self.clock.advance(256)
        self.assertNoResult(begun)
        service.register("infra1", "http://10.0.1.11:2380")
        self.successResultOf(begun)

    def test_lost_answer(self) -> None:
        """A registration whose answer was lost is not taken for somebody else's."""
        service = Service("1")
        real = service.call

        def call(method: bytes, *rest: Any) -> Deferred[Answered]:
            answered = real(method, *rest)
            return fail(ConnectionRefusedError()) if method == b"PUT" else answered

        self.patch(service, "call", call)
        (begun,) = self.begin(service, self.settings())
        self.clock.advance(2)
        self.successResultOf(begun)

    def test_history_cleared(self) -> None:
        """DP4: a service that has forgotten where we were is asked from the beginning."""
        service = Service("2")
        real = service.call
        times = [0]

        def call(method: bytes, url: str, *rest: Any) -> Deferred[Answered]:
            if "wait=true" in url and not times[0]:
                times[0] += 1
                service.register("infra1", "http://10.0.1.11:2380")
                body = json.dumps({"errorCode": 401, "message": "outdated", "index": 5})
                return succeed(Answered(400, {}, body.encode()))
            return real(method, url, *rest)

        self.patch(service, "call", call)
        (begun,) = self.begin(service, self.settings())
        self.assertEqual(len(self.successResultOf(begun).members), 2)

    def test_wait_ended(self) -> None:
        """An etcd that stops ends waits with nothing: it is asked again, a bit later."""
        service = Service("2")
        real = service.call
        waits: list[Deferred[Answered]] = []

        def call(method: bytes, url: str, *rest: Any) -> Deferred[Answered]:
            if "wait=true" in url and not waits:
                waits.append(Deferred())
                return waits[0]
            return real(method, url, *rest)

        self.patch(service, "call", call)
        (begun,) = self.begin(service, self.settings())
        waits[0].callback(Answered(200, {}, b""))
        service.register("infra1", "http://10.0.1.11:2380")
        self.assertNoResult(begun)
        self.clock.advance(2)
        self.assertEqual(len(self.successResultOf(begun).members), 2)

    def unregister(self, service: Service, n: int) -> None:
        identity = format_id(member_id((f"http://10.0.1.1{n}:2380",), URL))
        service.store.delete(f"/1/discovery/token/{identity}")

    def test_removed(self) -> None:
        """P30: a member that waits sees its own registration go, and is refused; one whose
        registration stays forgets those that went."""
        service = Service()
        first, second = self.begin(service, self.settings(), self.settings("infra1", 1))
        self.unregister(service, 0)
        error: Any = self.failureResultOf(first, BootstrapError).value
        self.assertEqual(error.code, "ETW-BOOT-REMOVED")
        service.register("infra2", "http://10.0.1.12:2380")
        self.assertNoResult(second)
        service.register("infra3", "http://10.0.1.13:2380")
        names = [each.name for each in self.successResultOf(second).members]
        self.assertEqual(sorted(names), ["infra1", "infra2", "infra3"])

    def test_token_expires(self) -> None:
        """A token that ends while members wait there ends their waiting."""
        service = Service()
        (begun,) = self.begin(service, self.settings())
        service.store.delete("/1/discovery/token", is_dir=True, recursive=True)
        error = self.failureResultOf(begun, BootstrapError).value
        self.assertIn("size key not found", str(error))

    def test_lagging(self) -> None:
        """P30: a registration that one member of the service has not heard of yet is not gone; it
        is if the service has lost it."""
        for looks, has_lost in ((1, False), (99, True)):
            service = Lagging("2", looks)
            (begun,) = self.begin(service, self.settings())
            self.clock.advance(2)
            self.assertNoResult(begun)
            if has_lost:
                self.clock.pump([4, 8, 16, 32])
                self.failureResultOf(begun, BootstrapError)
            else:
                service.register("infra1", "http://10.0.1.11:2380")
                self.successResultOf(begun)

    def test_lagging_behind_a_refusal(self) -> None:
        """A member of the service that lists nobody where another one has just found a registration
        is asked again."""
        service = Lagging("2", 2)
        service.register("infra0", "http://10.0.1.10:2380")
        (begun,) = self.begin(service, self.settings())
        self.assertNoResult(begun)
        self.clock.advance(2)
        refused = self.failureResultOf(begun, BootstrapError).value
        self.assertIn("has previously registered", str(refused))

    def test_redirected(self) -> None:
        """DI16: redirects are followed, but not for ever."""
        service = Service("1")
        moved = "http://short/abc"
        service.redirects = {
            f"{moved}/_config/size": f"{URL}/_config/size",
            moved: URL,
        }
        (begun,) = self.begin(service, self.settings(discovery=moved))
        self.assertIn(f"GET {URL}/_config/size", service.asked)
        begun.addErrback(lambda failure: None)
        service.redirects = {f"{URL}/_config/size": f"{URL}/_config/size"}
        self.assertIn("redirects without end", self._hint(service))
        service.redirects = {f"{URL}/_config/size": "http://[::1"}
        self.assertIn("redirects to 'http://[::1'", self._hint(service))

    def test_redirected_within(self) -> None:
        """A redirect may leave out the host, as those to a clean path do."""
        service = Service("1")
        service.redirects = {f"{URL}/_config/size": "/v2/keys/discovery/token/_config/sized"}
        service.store.set("/1/discovery/token/_config/sized", "1")
        (begun,) = self.begin(service, self.settings())
        self.successResultOf(begun)
        self.assertIn(f"GET {URL}/_config/sized", service.asked)

    def _hint(self, service: Service) -> str:
        (begun,) = self.begin(service, self.settings())
        error: Any = self.failureResultOf(begun, BootstrapError).value
        hint: str = error.hint
        return hint

    def test_given_up(self) -> None:
        """Who is stopped while he waits asks no more."""
        (begun,) = self.begin(Service(), self.settings())
        begun.cancel()
        self.failureResultOf(begun, CancelledError, Exception)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_urls(self) -> None:
        """URLs that are none, and flags that do not go with one, are refused before anybody is
        asked."""
        for settings, words in (
            (self.settings(discovery="ftp://a/b"), "it is no http or https URL"),
            (self.settings(discovery="token"), "it is no http or https URL"),
            (self.settings(discovery="http://[::1/b"), "it is no http or https URL"),
            (self.settings(discovery="http://a:b/c"), "it is no http or https URL"),
            (self.settings(initial_cluster_state="existing"), "should not be set when joining"),
        ):
            begun = DiscoveryProvider(self.reactor).plan(settings)
            self.assertIn(words, str(self.failureResultOf(begun, BootstrapError).value))

    def look(self, service: Service, n: int = 0) -> Deferred[Any]:
        settings = self.settings(f"infra{n}", n)
        return Deferred.fromCoroutine(token_state(settings, service, self.reactor))

    def test_look(self) -> None:
        """P3: who has registered is shown, and nobody registers."""
        service = Service()
        service.register("infra1", "http://10.0.1.11:2380")
        index = service.store.index
        own = format_id(member_id(("http://10.0.1.10:2380",), URL))
        self.assertEqual(
            self.successResultOf(self.look(service)),
            f"1 of 3 members have registered at {URL}\n"
            f"infra1=http://10.0.1.11:2380\nthis one would register as {own}",
        )
        self.assertEqual(service.store.index, index)

    def test_look_refused(self) -> None:
        """A token that is full, used by this member before, absent or away is told as such."""
        service = Service("1")
        service.register("infra1", "http://10.0.1.11:2380")
        for n, text in ((0, "cluster is full"), (1, "has previously registered")):
            error = self.failureResultOf(self.look(service, n), BootstrapError).value
            self.assertIn(text, str(error))
        error = self.failureResultOf(self.look(Service("")), BootstrapError).value
        self.assertIn("size key not found", str(error))
        service.down = True
        self.failureResultOf(self.look(service), BootstrapUnavailable)

    def test_deadline(self) -> None:
        """P4: with a deadline a service that is away is given up; nobody is registered, so another
        provider may be asked."""
        service = Service()
        service.down = True
        (begun,) = self.begin(service, self.settings(timeout_seconds=20.0))
        self.clock.pump([1.0] * 21)
        self.failureResultOf(begun, BootstrapUnavailable)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_deadline_after_registration(self) -> None:
        """Who may be counted on by the others is refused, and asks no other provider."""

        class Impatient(Service):
            waits: list[float] = []

            def call(
                self,
                method: bytes,
                url: str,
                headers: Mapping[bytes, bytes],
                body: bytes,
                seconds: float,
            ) -> Deferred[Answered]:
                if "?wait" in url:
                    self.waits.append(seconds)
                    return fail(TimeoutError())
                return super().call(method, url, headers, body, seconds)

        service = Impatient()
        (begun,) = self.begin(service, self.settings(timeout_seconds=20.0))
        self.clock.pump([1.0] * 21)
        error = self.failureResultOf(begun, BootstrapError).value
        self.assertNotIsInstance(error, BootstrapUnavailable)
        self.assertIn("timed out waiting for other nodes", str(error))
        self.assertEqual((service.waits[0], service.waits[-1]), (20.0, 5.0))
