"""``etcdtw grpc-proxy start`` and ``twistd etcd-grpc-proxy``: a gRPC proxy as a Twisted service."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from etcdtw.api.http.factory import HttpFactory
from etcdtw.app.grpc_proxy_options import GrpcProxyOptions, parse_grpc_proxy
from etcdtw.app.grpc_proxy_pages import proxy_site
from etcdtw.app.grpc_proxy_tls import (
    check_tls,
    endpoint_url,
    front_contexts,
    upstream_connector,
    upstream_contexts,
)
from etcdtw.app.listening import Gate, listen_all
from etcdtw.app.notify import notify_ready
from etcdtw.app.proxy_service import ProxyService, checked_options, run_proxy
from etcdtw.app.secure import log_rejected
from etcdtw.app.verifying import verifier
from etcdtw.client import Client
from etcdtw.client.endpoints import parse_endpoint
from etcdtw.config.urls import parse_url
from etcdtw.dns.resolvers import server_address
from etcdtw.observe.levels import Verbosity
from etcdtw.peer.calling import HttpCaller
from etcdtw.proxy.finding import find_clients
from etcdtw.proxy.grpc.proxy import GrpcProxy, ProxySettings
from etcdtw.rpc import ClientPortFactory, ServerSettings
from etcdtw.rpc.outgoing import MESSAGE_BYTES_MAX, Keepalive
from etcdtw.tls.interfaces import ITLSContextFactory

RECEIVED_BYTES_MAX = 4 << 20
"""The largest request, as every server of grpc-go has it."""
LOOK_AGAIN_SECONDS = 60.0
"""After a look at the records that failed."""
KEEPALIVE_SECONDS, KEEPALIVE_TIMEOUT, KEEPALIVE_MIN = 7200.0, 20.0, 300.0
"""grpc-go's, which it takes where a flag says 0."""

log = Logger(namespace="etcdtw.grpcproxy")


class GrpcProxyService(ProxyService):
    """Finds the endpoints, listens, and keeps up with the domain's records or the members."""

    log = log

    def __init__(
        self,
        options: GrpcProxyOptions,
        reactor: Any,
        fatal: Callable[[str], None],
        on_ready: Callable[[], object] = notify_ready,
    ) -> None:
        super().__init__(reactor, options.dns_server, fatal, on_ready)
        self.retry_seconds = options.endpoints_auto_sync_interval or LOOK_AGAIN_SECONDS
        self._options = options
        self._ports: list[Any] = []
        self._urls: tuple[str, ...] = ()
        self._tls: ITLSContextFactory | None = None
        self._front: ClientPortFactory | None = None
        self._caller: HttpCaller | None = None
        self.proxy: GrpcProxy | None = None

    def _end(self) -> Deferred[None] | None:
        for port in self._ports:
            port.stopListening()
        if self._tls is not None:
            self._tls.stop()
        if self._caller is not None:
            self._caller.stop()
        proxy = self.proxy
        if self._front is None or proxy is None:
            return None
        return self._front.stop().addBoth(lambda _: proxy.stop())

    async def _begin(self) -> float:
        options, reactor = self._options, self._reactor
        gate, metrics_gate = Gate(), Gate()
        self._listen(gate, metrics_gate)
        urls, ttl = await self._endpoints()
        for url in urls:
            parse_endpoint(url)
        client = Client(
            reactor,
            urls,
            connector=upstream_connector(options, urls, reactor, lambda: self._resolver),
            keepalive=Keepalive(
                options.dial_keepalive_time,
                options.dial_keepalive_timeout or KEEPALIVE_TIMEOUT,
                options.permit_without_stream,
            ),
            message_bytes_max=options.max_recv_bytes
            if options.max_recv_bytes > 0
            else MESSAGE_BYTES_MAX,
        )
        self.proxy = proxy = GrpcProxy(client, _proxy_settings(options))
        # A member's pages are HTTP/1.1 to those who do not ask for more.
        self._caller = caller = HttpCaller(
            reactor, 5.0, tls=lambda: upstream_contexts(options, lambda: self._resolver, ())
        )
        self._urls = urls
        pages, shown = proxy_site(proxy, caller, lambda: self._urls, reactor, options.enable_pprof)
        settings = _server_settings(options)
        self._front = ClientPortFactory(
            proxy.router, HttpFactory(pages, reactor), settings, reactor
        )
        proxy.start()
        gate.open(self._front)
        if options.metrics_addr:
            metrics_gate.open(HttpFactory(shown, reactor))
        log.info("started gRPC proxy", address=options.listen_addr, endpoints=list(urls))
        return ttl or options.endpoints_auto_sync_interval

    def _listen(self, gate: Gate, metrics_gate: Gate) -> None:
        options = self._options
        gates = [("listen-addr", [options.listen_url], gate, self._secure)]
        if options.metrics_addr:
            url = parse_url(options.metrics_addr)
            metrics = f"{url.scheme}://{url.host}"
            gates.append(("metrics-addr", [metrics], metrics_gate, self._secure))
        self._ports = listen_all(self._reactor, gates)
        log.info("listening for gRPC proxy client requests", address=options.listen_addr)

    def _secure(self, factory: Any) -> Any:
        from etcdtw.tls.transport import secure_listening

        if self._tls is None:
            self._tls = front_contexts(self._options, self._reactor)
            self._tls.start()
        return secure_listening(self._tls, factory, self._reactor, log_rejected)

    # --- endpoints -------------------------------------------------------------------------------

    async def _endpoints(self) -> tuple[tuple[str, ...], float]:
        """URLs, and how long that holds: for ever (0) if they were given."""
        options = self._options
        if not options.discovery_srv:
            return tuple(endpoint_url(each, options) for each in options.endpoints), 0.0
        domain = options.discovery_srv
        verify = None
        if not options.insecure_discovery:
            verify = verifier(self._reactor, self._resolver, domain, options.cacert)
        found = await find_clients(
            self._resolver, domain, options.discovery_srv_name, verify, bool(options.cacert)
        )
        return (
            tuple(
                f"{'https' if each.host_port in found.secure else 'http'}://{each.host_port}"
                for each in found.services
            ),
            found.ttl_seconds,
        )

    async def _follow(self) -> float:
        assert self.proxy is not None, "it was started"
        client = self.proxy.client
        seconds = self._options.endpoints_auto_sync_interval
        if self._options.discovery_srv:
            urls, seconds = await self._endpoints()
        else:
            listed = await client.cluster.members()
            urls = tuple(
                url
                for each in listed.members
                if each.name and not each.isLearner
                for url in each.clientURLs
            )
        if urls:
            client.set_endpoints(urls)
            self._urls = urls
        return seconds


def _proxy_settings(options: GrpcProxyOptions) -> ProxySettings:
    return ProxySettings(
        namespace=options.namespace.encode(),
        address=options.advertise_client_url,
        name=socket.gethostname(),
        resolver_prefix=options.resolver_prefix,
        resolver_ttl=options.resolver_ttl,
        send_bytes_max=options.max_send_bytes,
        ordered=options.experimental_serializable_ordering,
    )


def _server_settings(options: GrpcProxyOptions) -> ServerSettings:
    return ServerSettings(
        max_receive_bytes=RECEIVED_BYTES_MAX,
        max_concurrent_streams=options.max_concurrent_streams,
        keepalive_min_time=options.grpc_keepalive_min_time or KEEPALIVE_MIN,
        keepalive_interval=options.grpc_keepalive_interval or KEEPALIVE_SECONDS,
        keepalive_timeout=options.grpc_keepalive_timeout or KEEPALIVE_TIMEOUT,
    )


def checked(words: Sequence[str]) -> GrpcProxyOptions | int:
    """The options, or the exit code once the command line was answered or refused."""

    def check(found: GrpcProxyOptions) -> None:
        for each in found.dns_server:
            server_address(each)
        for each in found.endpoints:
            parse_endpoint(endpoint_url(each, found))
        check_tls(found)

    return checked_options(words, parse_grpc_proxy, check)


def verbosity(options: GrpcProxyOptions) -> Verbosity:
    return Verbosity("debug" if options.debug else "info")


def run(words: Sequence[str]) -> int:
    """Run a proxy in the foreground; the exit code."""
    options = checked(words)
    if isinstance(options, int):
        return options
    return run_proxy(
        ["grpc-proxy", *words],
        verbosity(options),
        "zap",
        lambda reactor, fatal: GrpcProxyService(options, reactor, fatal),
    )
