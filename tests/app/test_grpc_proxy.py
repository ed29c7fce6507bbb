"""Where the gRPC proxy finds its cluster."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.grpc_proxy import GrpcProxyService
from etcdtw.app.grpc_proxy_options import GrpcProxyOptions, parse_grpc_proxy
from etcdtw.app.grpc_proxy_pages import ClusterMetrics
from etcdtw.dns.server import Zone
from etcdtw.peer.calling import Answered, HttpCaller
from tests.api_discovery.test_pages import FakeRequest
from tests.proxy.test_finding import HOSTS, Both


class EndpointTests(SynchronousTestCase):
    def service(self, *words: str) -> GrpcProxyService:
        options = parse_grpc_proxy(words)
        assert isinstance(options, GrpcProxyOptions), "it is no question for help"
        return GrpcProxyService(options, MemoryReactorClock(), self.fail, lambda: None)

    def urls(self, service: GrpcProxyService) -> tuple[list[str], float]:
        found, ttl = self.successResultOf(Deferred.fromCoroutine(service._endpoints()))
        return sorted(found), ttl

    def test_given(self) -> None:
        """GX1: endpoints without a scheme are called over TLS if a flag speaks of it, as by etcd's
        client."""
        given = "--endpoints=a:1,http://b:2,https://c:3"
        for words, scheme in (
            ((), "http"),
            (("--cacert=ca.crt",), "https"),
            (("--insecure-skip-tls-verify",), "https"),
        ):
            urls = [f"{scheme}://a:1", "http://b:2", "https://c:3"]
            self.assertEqual(self.urls(self.service(given, *words)), (sorted(urls), 0.0))

    def test_discovered(self) -> None:
        """GX1: those of a domain instead, over TLS where the records say so, for as long as the
        records live."""
        for secure, scheme in ((False, "http"), (True, "https")):
            service = self.service("--discovery-srv=example.com", "--insecure-discovery")
            service._resolver = Both(Zone("example.com", HOSTS, secure=secure))  # type: ignore[assignment]
            urls, ttl = self.urls(service)
            self.assertEqual(urls, [f"{scheme}://infra{n}.example.com:2379" for n in range(3)])
            self.assertGreater(ttl, 0)


class MetricsTests(SynchronousTestCase):
    def test_followed(self) -> None:
        """Metrics are those of one member, until it is no endpoint any more or does not answer."""
        asked: list[str] = []
        down: set[str] = set()

        class Caller:
            def call(self, method: bytes, url: str, *rest: object) -> Deferred[Answered]:
                asked.append(url.removesuffix(":2379/metrics"))
                if asked[-1] in down:
                    return fail(ConnectionRefusedError())
                return succeed(Answered(200, {}, b"etcd_server_has_leader 1"))

        urls = [f"http://{n}" for n in range(20)]
        page = ClusterMetrics(Caller(), lambda: urls)

        def status() -> int | None:
            request: Any = FakeRequest("GET", "/metrics")
            page.render(request, b"/metrics")
            found: int | None = request.status
            return found

        self.assertEqual([status() for _ in range(5)], [200] * 5)
        self.assertEqual(len(set(asked)), 1)
        urls = ["http://new"]
        self.assertEqual((status(), asked[-1]), (200, "http://new"))
        urls += ["http://other"]
        down = {"http://new"}
        self.assertEqual((status(), asked[-1]), (500, "http://new"))
        while status() != 200:
            pass
        self.assertEqual(asked[-1], "http://other")

    def test_metrics_of_a_member(self) -> None:
        """GX1: a member's metrics are asked for where clients find it, with or without a port in
        the endpoint."""
        asked: list[str] = []

        def call(method: bytes, url: str, *rest: object) -> Deferred[object]:
            asked.append(url)
            return Deferred()

        caller: Any = SimpleNamespace(call=call)
        endpoints: list[str] = []
        page = ClusterMetrics(caller, lambda: endpoints)
        for endpoint in ("http://a", "https://[::1]", "http://a:1"):
            endpoints = [endpoint]
            page.render(Mock(), b"/metrics")
        self.assertEqual(
            asked, ["http://a:2379/metrics", "https://[::1]:2379/metrics", "http://a:1/metrics"]
        )

    def test_metrics_of_a_socket(self) -> None:
        """A member's metrics cannot be had through a Unix socket, and the answer says so."""
        request = Mock()
        page = ClusterMetrics(HttpCaller(MemoryReactorClock(), 1.0), lambda: ["unix:///run/etcd"])
        self.assertEqual(page.render(request, b"/metrics"), b"Internal server error\n")
        request.setResponseCode.assert_called_once_with(500, None)
