"""``twistd etcd-discovery``: a discovery service on a member of its own."""

from __future__ import annotations

import os
import random
from typing import Any

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from etcdtw.api.discovery.service import DiscoveryPages
from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.site import Site
from etcdtw.app.fatal import Fatal
from etcdtw.app.listening import PORT_MAX, Gate
from etcdtw.app.refusals import START_ERRORS
from etcdtw.app.settings import MemberSettings
from etcdtw.app.starting import RunnableMember, StartingMember, find_assemble
from etcdtw.app.taps.clock import forget_time_of_day
from etcdtw.app.taps.refusing import is_daemon, refuse_member
from etcdtw.bootstrap.factories import bootstrap_factories
from etcdtw.bootstrap.interfaces import ClusterPlan
from etcdtw.client import Client
from etcdtw.config.load import member_settings
from etcdtw.config.problems import ConfigProblems
from etcdtw.config.urls import split_host_port
from etcdtw.rpc.alive import detect_vanishing

WEEK_SECONDS = 7 * 24 * 3600
BODY_BYTES_MAX = 1 << 20
BACKLOG = 1024

log = Logger(namespace="etcdtw.discovery")


class Options(usage.Options):
    """``twistd etcd-discovery --listen 10.0.1.2:8087 --data-dir discovery.etcd``."""

    optParameters = [
        ["listen", "l", "127.0.0.1:8087", "Address and port of the service."],
        ["public-url", "u", "", "What given-out URLs begin with; else as the client called."],
        ["data-dir", "d", "discovery.etcd", "Where its member keeps the tokens."],
        ["client-url", None, "http://127.0.0.1:12379", "Client URL of its member."],
        ["peer-url", None, "http://127.0.0.1:12380", "Peer URL of its member."],
        ["token-ttl", None, WEEK_SECONDS, "Seconds that a token lives; 0: for ever.", int],
    ]

    def postOptions(self) -> None:
        try:
            if self["client-url"].partition(":")[0] not in ("http", "unix"):
                raise ValueError("the service's member speaks no TLS: --client-url must be http")
            host, port = split_host_port(self["listen"])
            self.address = host.strip("[]"), int(port)
            if not 0 <= int(port) <= PORT_MAX:
                raise ValueError(f"listen tcp: address {port}: invalid port")
            self.settings = member_settings(
                os.getcwd(),
                name="discovery",
                data_dir=self["data-dir"],
                listen_client_urls=(self["client-url"],),
                advertise_client_urls=(self["client-url"],),
                listen_peer_urls=(self["peer-url"],),
                initial_advertise_peer_urls=(self["peer-url"],),
                initial_cluster=f"discovery={self['peer-url']}",
            )
        except (ConfigProblems, ValueError) as error:
            raise usage.UsageError(str(error)) from None


def makeService(options: Options) -> IService:
    """The service; it answers when its member does."""
    from twisted.internet import reactor

    forget_time_of_day(reactor)
    return DiscoveryService(options, reactor)


class DiscoveryService(StartingMember):
    """A member, and the pages in front of it."""

    def __init__(self, options: Options, reactor: Any) -> None:
        super().__init__(
            options.settings,
            reactor,
            bootstrap_factories(),
            Fatal(reactor),
            self._assemble_with_pages,
            (self._open,),
        )
        self._address = options.address
        self._daemon = is_daemon(options)
        self._gate = Gate()
        self._port: Any = None
        self._found: Any = None
        self._client = Client(reactor, options.settings.advertise_client_urls)
        pages = DiscoveryPages(
            lambda: self._found.core.keys if self._found.core is not None else None,
            self._client,
            random.SystemRandom(),
            options["token-ttl"],
            options["public-url"],
        )
        self._http = HttpFactory(Site({}, {b"/": pages}), reactor, BODY_BYTES_MAX)

    def startService(self) -> None:
        host, port = self._address
        try:
            self._port = self._reactor.listenTCP(port, self._gate, BACKLOG, host)
            detect_vanishing(self._port.socket)
            self._gate.hold(self._port)
            super().startService()
        except START_ERRORS as error:
            refuse_member(error, self._reactor, self._daemon)

    def stopService(self) -> Any:
        if self._port is not None:
            self._port.stopListening()
        self._client.close()
        return super().stopService()

    def _assemble_with_pages(
        self, settings: MemberSettings, reactor: Any, plan: ClusterPlan | None
    ) -> RunnableMember:
        self._found = find_assemble()(settings, reactor, plan)
        member: RunnableMember = self._found
        return member

    def _open(self) -> None:
        self._gate.open(self._http)
        host, port = self._address
        log.info("the discovery service is ready", listen=f"{host}:{port}")
