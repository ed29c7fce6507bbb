"""``etcdtw gateway start`` and ``twistd etcd-gateway``: a gateway as a Twisted service."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service as TwistedService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from etcdtw.app.command_flags import CommandError
from etcdtw.app.fatal import Fatal
from etcdtw.app.gateway_options import GatewayOptions, parse_gateway
from etcdtw.app.notify import notify_ready
from etcdtw.app.verifying import verifier
from etcdtw.dns.resolvers import make_resolver, server_address
from etcdtw.dns.srv import LookupFailed, Service, lookup_hosts
from etcdtw.observe.levels import Verbosity
from etcdtw.observe.logging import log_observers, plain
from etcdtw.proxy.finding import NoEndpoints, find_clients
from etcdtw.proxy.gateway import Gateway, by_name
from etcdtw.proxy.targets import Targets

BACKLOG = 1024

log = Logger(namespace="etcdtw.tcpproxy")


class GatewayService(TwistedService):
    """Finds the endpoints, listens, and keeps up with the domain's records.

    What keeps it from starting goes to ``fatal``, as a sentence.
    """

    def __init__(
        self,
        options: GatewayOptions,
        reactor: Any,
        fatal: Callable[[str], None],
        on_ready: Callable[[], object] = notify_ready,
    ) -> None:
        self._options = options
        self._reactor = reactor
        self._fatal = fatal
        self._on_ready = on_ready
        self._resolver = make_resolver(reactor, options.dns_servers)
        self._starting: Deferred[None] | None = None
        self._looking: IDelayedCall | Deferred[None] | None = None
        self._port: Any = None
        self.gateway: Gateway | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        if self._options.dns_servers:
            self._reactor.installResolver(self._resolver)
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(
            lambda failure: self._fatal(failure.getErrorMessage()) if self.running else None
        )

    def stopService(self) -> Deferred[None] | None:
        super().stopService()  # type: ignore[no-untyped-call]
        for each in (self._starting, self._looking):
            if each is not None and getattr(each, "active", lambda: True)():
                each.cancel()
        if self.gateway is not None:
            self.gateway.stop()
        stopped: Deferred[None] | None = self._port.stopListening() if self._port else None
        return stopped

    async def _start(self) -> None:
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
        self._on_ready()
        if ttl:
            self._looking = self._reactor.callLater(ttl, self._look_again)

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

    # --- afterwards ------------------------------------------------------------------------------

    def _look_again(self) -> None:
        self._looking = Deferred.fromCoroutine(self._follow())
        self._looking.addErrback(self._not_followed)

    def _not_followed(self, failure: Failure) -> None:
        if self.running:
            log.failure("following the records failed", failure)

    async def _follow(self) -> None:
        """The domain's records may have changed: connections stay where they are, new ones go by
        the new records. What cannot be asked for changes nothing."""
        gateway = self.gateway
        assert gateway is not None, "it was started"
        again = self._options.retry_seconds
        try:
            services, again = await self._services()
        except (LookupFailed, NoEndpoints) as error:
            log.warn("the former endpoints stay: {error}", error=str(error))
        else:
            if gateway.targets.replace(services):
                log.info("endpoints changed", endpoints=gateway.targets.addresses)
        if self.running:
            self._looking = self._reactor.callLater(again, self._look_again)


def checked(words: Sequence[str]) -> GatewayOptions | int:
    """The options, or the exit code once the command line was answered or refused."""
    try:
        found = parse_gateway(words)
        if isinstance(found, str):
            sys.stdout.write(found)
            return 0
        for each in found.dns_servers:
            server_address(each)
    except (CommandError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return getattr(error, "exit_code", 1)
    return found


def run(words: Sequence[str]) -> int:
    """Run a gateway in the foreground; the exit code."""
    from etcdtw.app.main import choose_reactor, serve

    options = checked(words)
    if isinstance(options, int):
        return options
    observers = log_observers(["stderr"], Verbosity("info"), options.log_format)
    globalLogBeginner.beginLoggingTo(observers, discardBuffer=True, redirectStandardIO=False)
    log.info("Running: ", args=[sys.argv[0], "gateway", *words])
    reactor = choose_reactor(look_seconds=0.0)
    fatal = Fatal(reactor)
    service = GatewayService(options, reactor, lambda reason: fatal(plain(reason)))
    return serve(service, fatal)
