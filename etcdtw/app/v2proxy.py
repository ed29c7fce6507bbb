"""The v2 proxy (``--proxy``): a process without Raft that passes requests on to the members."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from typing import IO, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from etcdtw.api.http.access import Access
from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.site import Site
from etcdtw.app.listening import Gate, listen_all
from etcdtw.app.proxy_mode import CLUSTER_FILE, proxy_dir, way_to_members
from etcdtw.app.secure import Security
from etcdtw.app.settings import MemberSettings
from etcdtw.bootstrap.discovery_v2 import discovered_urls, open_caller
from etcdtw.bootstrap.dns_srv import srv_urls
from etcdtw.bootstrap.existing import fetch_cluster
from etcdtw.dns.resolvers import make_resolver
from etcdtw.peer.calling import HttpCaller
from etcdtw.proxy.director import Director
from etcdtw.proxy.reverse import ReverseProxy
from etcdtw.rpc import ClientPortFactory, Router, ServerSettings

BODY_BYTES_MAX = 64 << 20
NAME_BYTES = 4

log = Logger(namespace="etcdtw.proxy")


class V2Proxy(Service):
    """Runs like a member (``RunnableMember``), and is none."""

    def __init__(self, settings: MemberSettings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._security = Security(settings, reactor)
        self._gate = Gate()
        self._ports: list[Any] = []
        self._finding: Deferred[None] | None = None
        self._director: Director | None = None
        self._caller = HttpCaller(
            reactor, settings.proxy_dial_timeout / 1000, tls=self._security.peers
        )
        self._peer_urls: tuple[str, ...] = ()
        self.on_ready: list[Callable[[], object]] = []
        self.on_removed: list[Callable[[], object]] = []
        self.on_fatal: list[Callable[[BaseException], object]] = []

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        settings = self._settings
        port = self._security.client_port
        self._ports = listen_all(
            self._reactor,
            [("listen-client-urls", settings.listen_client_urls, self._gate, port)],
        )
        log.info("v2 API proxy starting; proxy: this proxy supports v2 API only!")
        self._finding = Deferred.fromCoroutine(self._begin())
        self._finding.addErrback(self._failed)

    def stopService(self) -> Any:
        super().stopService()  # type: ignore[no-untyped-call]
        if self._finding is not None:
            self._finding.cancel()
        if self._director is not None:
            self._director.stop()
        self._caller.stop()
        self._security.stop()
        for port in self._ports:
            port.stopListening()
        return None

    def _failed(self, failure: Any) -> None:
        if self.running:
            for each in self.on_fatal:
                each(failure.value)

    async def _begin(self) -> None:
        settings = self._settings
        self._peer_urls = self._known_urls() or await self._first_urls()
        director = self._director = Director(
            self._reactor,
            self._client_urls,
            settings.proxy_failure_wait / 1000,
            settings.proxy_refresh_interval / 1000,
        )
        # Whoever calls before it is over would be told that there are no endpoints.
        await director.start()
        proxy = ReverseProxy(
            director,
            self._send,
            self._body,
            f"etcdtw-{random.SystemRandom().randbytes(NAME_BYTES).hex()}",
            settings.proxy == "readonly",
        )
        access = Access(settings.cors, settings.host_whitelist)
        pages = HttpFactory(Site({}, {b"/": proxy}, access), self._reactor, BODY_BYTES_MAX)
        # HTTP/2 over TLS gets the same; there is no gRPC behind it.
        self._gate.open(ClientPortFactory(Router(), pages, ServerSettings(), self._reactor))
        for url in settings.listen_client_urls:
            log.info("v2 proxy started listening on client requests", host=url)
        for each in self.on_ready:
            each()

    # --- the cluster -----------------------------------------------------------------------------

    def _known_urls(self) -> tuple[str, ...]:
        """Those of an earlier run."""
        path = os.path.join(proxy_dir(self._settings), CLUSTER_FILE)
        try:
            with open(path, encoding="utf-8") as file:
                found = tuple(str(each) for each in json.load(file)["PeerURLs"])
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warn("the cluster file cannot be used: {error}", error=str(error), path=path)
            return ()
        for flag, given in (
            ("discovery", self._settings.discovery),
            ("discovery-endpoints", self._settings.discovery_endpoints),
            ("DNS SRV", self._settings.discovery_srv),
        ):
            if given:
                log.warn(f"ignored {flag} settings. Valid cluster file found", path=path)
        return found

    async def _first_urls(self) -> tuple[str, ...]:
        settings, way = self._settings.bootstrap(), way_to_members(self._settings)
        if way == "discovery":
            asking = open_caller(settings, self._reactor)
            try:
                return await discovered_urls(settings, asking, self._reactor)
            finally:
                asking.stop()
        if way == "discovery-endpoints":
            from etcdtw.bootstrap import discovery_v3  # brings in the client

            return await discovery_v3.discovered_urls(settings.discovery_v3, self._reactor)
        if way == "discovery-srv":
            resolver = make_resolver(self._reactor, self._settings.dns_server)
            return await srv_urls(settings, resolver)
        return tuple(sorted(url for _, urls in settings.initial_cluster for url in urls))

    def _client_urls(self) -> Deferred[Sequence[str]]:
        return Deferred.fromCoroutine(self._ask_cluster())

    async def _ask_cluster(self) -> Sequence[str]:
        cluster = await fetch_cluster(self._caller, self._peer_urls)
        peer_urls = tuple(sorted(url for each in cluster.members for url in each.peer_urls))
        if peer_urls:
            self._keep(peer_urls)
        return sorted({url for each in cluster.members for url in each.client_urls})

    def _keep(self, peer_urls: tuple[str, ...]) -> None:
        """For the next start, which may have nobody to ask. Requests are passed on without it."""
        self._peer_urls = peer_urls
        directory = proxy_dir(self._settings)
        path = os.path.join(directory, CLUSTER_FILE)
        try:
            os.makedirs(directory, 0o700, exist_ok=True)
            with open(f"{path}.bak", "w", encoding="utf-8") as file:
                json.dump({"PeerURLs": list(peer_urls)}, file, separators=(",", ":"))
            os.replace(f"{path}.bak", path)
        except OSError as error:
            log.warn("failed to write cluster file: {error}", error=str(error), path=path)

    # --- requests --------------------------------------------------------------------------------

    def _send(
        self, method: bytes, url: bytes, headers: list[tuple[bytes, bytes]], body: Any
    ) -> Deferred[Any]:
        return self._caller.send(method, url, headers, body)

    def _body(self, file: IO[bytes]) -> Any:
        return self._caller.producer(file)
