"""What the gRPC proxy shows over HTTP: how the cluster is, and how it is itself."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from etcdtw.api.http.debug import debug_pages
from etcdtw.api.http.requests import HttpRequest, Resource, answer, plain_error
from etcdtw.api.http.resources import Page
from etcdtw.api.http.site import Site
from etcdtw.api.metrics.calls import call_families
from etcdtw.api.metrics.families import Family
from etcdtw.api.metrics.page import MetricsPage
from etcdtw.client.endpoints import parse_endpoint
from etcdtw.errors import EtcdError, PermissionDenied
from etcdtw.pb.rpc_pb2 import RangeRequest, WatchRequest, WatchResponse
from etcdtw.peer.calling import Answered, Calls, HttpCaller
from etcdtw.proxy.grpc.proxy import GrpcProxy
from etcdtw.proxy.grpc.watch_service import PATH as WATCH_PATH
from etcdtw.rpc import Router
from etcdtw.rpc.local import LocalStream, LocalUnary

PROBED = b"a"
"""The key that health is asked with; it need not be there."""
READ_SECONDS = 1.0
WATCH_SECONDS = 3.0
METRICS_SECONDS = 5.0
_PLAIN = b"text/plain; version=0.0.4"
_BODY_BYTES_MAX = 1 << 20

Report = Callable[[str], None]
"""Takes what is wrong; nothing if it is empty."""


def proxy_site(
    proxy: GrpcProxy,
    caller: HttpCaller,
    urls: Callable[[], Sequence[str]],
    clock: IReactorTime,
    profiles: bool,
) -> tuple[Site, Site]:
    """The site of the proxy's port, and of ``--metrics-addr``. ``urls`` are the endpoints' now."""
    shown: dict[bytes, Resource] = {
        b"/metrics": ClusterMetrics(caller, urls),
        b"/health": HealthPage(lambda report: check_cluster(proxy, report)),
        b"/proxy/metrics": MetricsPage(proxy_families(proxy), clock),
        b"/proxy/health": HealthPage(lambda report: check_proxy(proxy.router, clock, report)),
    }
    debug = debug_pages(proxy.router, clock, True, sys.argv) if profiles else {}
    return Site({**shown, **debug}), Site(shown)


class ClusterMetrics:
    """``/metrics``: those of a member, whichever it is, for as long as it answers."""

    def __init__(self, caller: Calls, urls: Callable[[], Sequence[str]]) -> None:
        self._caller = caller
        self._urls = urls
        self._url = ""

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def answered(found: Answered) -> bytes:
            return answer(request, 200, found.body, _PLAIN)

        def failed(_: Failure | None = None) -> bytes:
            self._url = ""
            return plain_error(request, 500, "Internal server error")

        def end(body: bytes) -> None:
            if not gone:
                request.write(body)
                request.finish()

        urls = self._urls()
        if self._url not in urls:
            self._url = random.SystemRandom().choice(urls)
        # As clients of gRPC have it: the port need not be given.
        member = parse_endpoint(self._url)
        if member.path:
            return failed()  # of a socket
        asked: Deferred[Answered] = self._caller.call(
            b"GET", f"{member.scheme}://{member.authority}/metrics", {}, b"", METRICS_SECONDS
        )
        asked.addCallbacks(answered, failed).addCallback(end)
        return None


class HealthPage(Page):
    """``/health`` or ``/proxy/health``."""

    def __init__(self, check: Callable[[Report], None]) -> None:
        self._check = check

    def show(self, request: HttpRequest) -> bytes | None:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def report(reason: str) -> None:
            if gone:
                return
            health = {"health": "false" if reason else "true", "reason": reason}
            body = json.dumps(health, separators=(",", ":"))
            if reason:
                request.write(plain_error(request, 503, body))
            else:
                request.write(answer(request, 200, body.encode(), b"text/plain; charset=utf-8"))
            request.finish()

        self._check(report)
        return None


def check_cluster(proxy: GrpcProxy, report: Report) -> None:
    """A linearizable read, even one that is not permitted."""

    def failed(failure: Failure) -> None:
        error = failure.value
        report("" if isinstance(error, PermissionDenied) else f"GET ERROR:{error}")

    asked = proxy.client.kv.get(PROBED, timeout=READ_SECONDS)
    asked.addCallbacks(lambda _: report(""), failed)


def check_proxy(router: Router, clock: IReactorTime, report: Report) -> None:
    """A read and a watch, as a client of the proxy would make them."""
    read = router.find("/etcdserverpb.KV/Range")
    assert not isinstance(read, EtcdError), "the proxy serves reads"

    def answered(result: bytes | EtcdError) -> None:
        timer.cancel()
        if isinstance(result, EtcdError) and not isinstance(result, PermissionDenied):
            report(f"GET ERROR:{result}")
        else:
            _WatchProbe(router, clock, report)

    def late() -> None:
        asked.cancelled()
        report("GET ERROR:context deadline exceeded")

    timer = clock.callLater(READ_SECONDS, late)
    asked = LocalUnary(read, {}, "health", answered)
    asked.start(RangeRequest(key=PROBED).SerializeToString(), _BODY_BYTES_MAX)


class _WatchProbe:
    """A watch that is over once it was created."""

    def __init__(self, router: Router, clock: IReactorTime, report: Report) -> None:
        method = router.find(WATCH_PATH)
        assert not isinstance(method, EtcdError), "the proxy serves watches"
        self._clock = clock
        self._report: Report | None = report
        self._timer = clock.callLater(WATCH_SECONDS, self._end, "WATCH TIMEOUT")
        self._stream = LocalStream(method, {}, "health", self)
        self._stream.start()
        create = WatchRequest(create_request={"key": PROBED})
        self._stream.receive(create.SerializeToString())

    def message(self, body: bytes) -> None:
        if WatchResponse.FromString(body).created:
            self._end("")

    def ended(self, error: EtcdError | None) -> None:
        self._end("")  # an answer as well, as etcd sees it

    def is_writable(self) -> bool:
        return True

    def _end(self, reason: str) -> None:
        report, self._report = self._report, None
        if report is not None:
            if self._timer.active():
                self._timer.cancel()
            # Its stream is in the midst of telling us.
            self._clock.callLater(0, self._stream.cancelled)
            report(reason)


# fmt: off
def proxy_families(proxy: GrpcProxy) -> list[Family]:
    """etcd's names and kinds."""
    counts, cache = proxy.watches.counts, proxy.kv.cache
    return [
        Family("etcd_grpc_proxy_watchers_coalescing_total", "gauge",
               "Watches that live on the one of another client.", lambda: counts.watchers),
        Family("etcd_grpc_proxy_events_coalescing_total", "counter",
               "Responses of the cluster that one of it stood for.", lambda: counts.events),
        Family("etcd_grpc_proxy_cache_keys_total", "gauge",
               "Ranges whose answers are kept.", lambda: len(cache)),
        Family("etcd_grpc_proxy_cache_hits_total", "gauge",
               "Serializable ranges answered from what is kept.", lambda: cache.hits),
        Family("etcd_grpc_proxy_cache_misses_total", "gauge",
               "Serializable ranges that were asked for.", lambda: cache.misses),
        *call_families(proxy.router),
    ]
# fmt: on
