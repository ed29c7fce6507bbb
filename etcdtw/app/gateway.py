"""``etcdtw gateway start`` and ``twistd etcd-gateway``: a gateway as a Twisted service."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from etcdtw.app.command_flags import CommandError
from etcdtw.app.gateway_options import GatewayOptions, parse_gateway
from etcdtw.app.notify import notify_ready
from etcdtw.app.proxy_service import ProxyService, checked_options, run_proxy
from etcdtw.app.verifying import verifier
from etcdtw.dns.resolvers import server_address
from etcdtw.dns.srv import LookupFailed, Service, lookup_hosts
from etcdtw.observe.levels import Verbosity
from etcdtw.proxy.finding import find_clients
from etcdtw.proxy.gateway import Gateway, by_name
from etcdtw.proxy.targets import Targets

BACKLOG = 1024

log = Logger(namespace="etcdtw.tcpproxy")


class GatewayService(ProxyService):
    """Finds the endpoints, listens, and keeps up with the domain's records."""

    log = log

    def __init__(
        self,
        options: GatewayOptions,
        reactor: Any,
        fatal: Callable[[str], None],
        on_ready: Callable[[], object] = notify_ready,
    ) -> None:
        super().__init__(reactor, options.dns_servers, fatal, on_ready)
        self.retry_seconds = options.retry_seconds
        self._options = options
        self._port: Any = None
        self.gateway: Gateway | None = None

    def _end(self) -> Deferred[None] | None:
        if self.gateway is not None:
            self.gateway.stop()
        stopped: Deferred[None] | None = self._port.stopListening() if self._port else None
        return stopped

    async def _begin(self) -> float:
        options = self._options
        services, ttl = await self._services()
        await self._check_no_loop(services)
        targets = Targets(services, random.SystemRandom())
        self.gateway = gateway = Gateway(
            self._reactor, targets, options.retry_seconds, by_name(self._reactor)
        )
        try:
            self._port = self._reactor.listenTCP(
                options.listen_port, gateway, backlog=BACKLOG, interface=options.listen_host
            )
        except CannotListenError as error:
            reason = getattr(error.socketError, "strerror", None) or str(error.socketError)
            raise CommandError(
                f"listen tcp {options.listen_addr}: bind: {reason[:1].lower()}{reason[1:]}"
            ) from None
        gateway.start()
        log.info(
            "ready to proxy client requests to {shown}",
            shown=f"[{' '.join(targets.addresses)}]",
            endpoints=targets.addresses,
        )
        return ttl

    async def _services(self) -> tuple[Sequence[Service], float]:
        """The endpoints, and how long that holds: for ever (0) if they were given."""
        options = self._options
        if not options.discovery_srv:
            return options.endpoints, 0.0
        found = await find_clients(
            self._resolver,
            options.discovery_srv,
            options.discovery_srv_name,
            None
            if options.insecure_discovery
            else verifier(
                self._reactor, self._resolver, options.discovery_srv, options.trusted_ca_file
            ),
            only_verified=bool(options.trusted_ca_file),
        )
        return found.services, found.ttl_seconds

    async def _check_no_loop(self, services: Sequence[Service]) -> None:
        options = self._options
        try:
            ours = set(await lookup_hosts(self._resolver, options.listen_host or "0.0.0.0"))
        except LookupFailed:
            raise CommandError(f"failed to resolve listen host: {options.listen_host}") from None
        for each in services:
            if each.port != options.listen_port:
                continue
            try:
                addresses = await lookup_hosts(self._resolver, each.target)
            except LookupFailed:
                continue  # it may come to be known; until then it is an endpoint that failed
            for address in addresses:
                if address in ours:
                    found = f"{each.host_port}->{Service(address, each.port).host_port}"
                    raise CommandError(
                        f"SRV or endpoint ({found}) should not resolve to the gateway listen addr "
                        f"({options.listen_addr})"
                    )

    async def _follow(self) -> float:
        """Connections stay where they are, new ones go by the new records."""
        gateway = self.gateway
        assert gateway is not None, "it was started"
        services, ttl = await self._services()
        await self._check_no_loop(services)
        if gateway.targets.replace(services):
            log.info("endpoints changed", endpoints=gateway.targets.addresses)
        return ttl


def checked(words: Sequence[str]) -> GatewayOptions | int:
    """The options, or the exit code once the command line was answered or refused."""

    def check(found: GatewayOptions) -> None:
        for each in found.dns_servers:
            server_address(each)

    return checked_options(words, parse_gateway, check)


def run(words: Sequence[str]) -> int:
    """Run a gateway in the foreground; the exit code."""
    options = checked(words)
    if isinstance(options, int):
        return options
    return run_proxy(
        ["gateway", *words],
        Verbosity("info"),
        options.log_format,
        lambda reactor, fatal: GatewayService(options, reactor, fatal),
    )
