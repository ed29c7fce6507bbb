"""``etcdtw grpc-proxy start`` and ``twistd etcd-grpc-proxy``: a gRPC proxy as a Twisted service."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service as TwistedService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from etcdtw.api.http.factory import HttpFactory
from etcdtw.app.command_flags import CommandError
from etcdtw.app.fatal import Fatal
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
from etcdtw.app.secure import log_rejected
from etcdtw.app.verifying import verifier
from etcdtw.client import Client
from etcdtw.client.endpoints import parse_endpoint
from etcdtw.config.urls import parse_url
from etcdtw.dns.resolvers import make_resolver, server_address
from etcdtw.dns.srv import LookupFailed
from etcdtw.errors import EtcdError
from etcdtw.observe.levels import Verbosity
from etcdtw.observe.logging import log_observers, plain
from etcdtw.peer.calling import HttpCaller
from etcdtw.proxy.finding import NoEndpoints, find_clients
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


class GrpcProxyService(TwistedService):
    """Finds the endpoints, listens, and keeps up with the domain's records or the members.

    What keeps it from starting goes to ``fatal``, as a sentence.
    """

    def __init__(
        self,
        options: GrpcProxyOptions,
        reactor: Any,
        fatal: Callable[[str], None],
        on_ready: Callable[[], object] = notify_ready,
    ) -> None:
        self._options = options
        self._reactor = reactor
        self._fatal = fatal
        self._on_ready = on_ready
        self._resolver = make_resolver(reactor, options.dns_server)
        self._starting: Deferred[None] | None = None
        self._looking: IDelayedCall | Deferred[None] | None = None
        self._ports: list[Any] = []
        self._tls: ITLSContextFactory | None = None
        self._front: ClientPortFactory | None = None
        self._caller: HttpCaller | None = None
        self.proxy: GrpcProxy | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        if self._options.dns_server:
            self._reactor.installResolver(self._resolver)
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(
            lambda failure: self._fatal(failure.getErrorMessage()) if self.running else None
        )

    def stopService(self) -> Any:
        super().stopService()  # type: ignore[no-untyped-call]
        for each in (self._starting, self._looking):
            if each is not None and getattr(each, "active", lambda: True)():
                each.cancel()
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

    async def _start(self) -> None:
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
        pages, shown = proxy_site(proxy, caller, urls, reactor, options.enable_pprof)
        settings = _server_settings(options)
        self._front = ClientPortFactory(
            proxy.router, HttpFactory(pages, reactor), settings, reactor
        )
        proxy.start()
        gate.open(self._front)
        if options.metrics_addr:
            metrics_gate.open(HttpFactory(shown, reactor))
        log.info("started gRPC proxy", address=options.listen_addr, endpoints=list(urls))
        self._on_ready()
        self._look_later(ttl or options.endpoints_auto_sync_interval)

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

    def _look_later(self, seconds: float) -> None:
        if seconds and self.running:
            self._looking = self._reactor.callLater(seconds, self._look_again)

    def _look_again(self) -> None:
        self._looking = Deferred.fromCoroutine(self._follow())
        self._looking.addErrback(self._not_followed)

    def _not_followed(self, failure: Failure) -> None:
        if self.running:
            log.failure("following the endpoints failed", failure)

    async def _follow(self) -> None:
        """Endpoints may have changed. What cannot be asked for changes nothing."""
        assert self.proxy is not None, "it was started"
        again = self._options.endpoints_auto_sync_interval
        client = self.proxy.client
        try:
            if self._options.discovery_srv:
                urls, again = await self._endpoints()
            else:
                listed = await client.cluster.members()
                urls = tuple(
                    url
                    for each in listed.members
                    if each.name and not each.isLearner
                    for url in each.clientURLs
                )
        except (LookupFailed, NoEndpoints, EtcdError) as error:
            again = again or LOOK_AGAIN_SECONDS
            log.warn("the former endpoints stay: {error}", error=str(error))
        else:
            if urls:
                client.set_endpoints(urls)
        self._look_later(again)


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
    try:
        found = parse_grpc_proxy(words)
        if isinstance(found, str):
            sys.stdout.write(found)
            return 0
        for each in found.dns_server:
            server_address(each)
        for each in found.endpoints:
            parse_endpoint(endpoint_url(each, found))
        check_tls(found)
    except (CommandError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return getattr(error, "exit_code", 1)
    return found


def verbosity(options: GrpcProxyOptions) -> Verbosity:
    return Verbosity("debug" if options.debug else "info")


def run(words: Sequence[str]) -> int:
    """Run a proxy in the foreground; the exit code."""
    from etcdtw.app.main import choose_reactor, serve

    options = checked(words)
    if isinstance(options, int):
        return options
    observers = log_observers(["stderr"], verbosity(options))
    globalLogBeginner.beginLoggingTo(observers, discardBuffer=True, redirectStandardIO=False)
    log.info("Running: ", args=[sys.argv[0], "grpc-proxy", *words])
    reactor = choose_reactor(look_seconds=0.0)
    fatal = Fatal(reactor)
    service = GrpcProxyService(options, reactor, lambda reason: fatal(plain(reason)))
    return serve(service, fatal)
