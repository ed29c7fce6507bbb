"""``twistd etcd-dns``: a name server for the SRV records of one cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.application import internet
from twisted.application.service import IService, MultiService
from twisted.python import usage

from etcdtw.app.refusals import START_ERRORS, start_error_text
from etcdtw.app.taps.refusing import end_start, is_daemon
from etcdtw.dns.resolvers import server_address
from etcdtw.dns.server import CLIENT_PORT, PEER_PORT, TTL_SECONDS, Host, Zone, make_server


class Options(usage.Options):
    """``--domain example.com --member infra0=10.0.1.10 --member infra1=10.0.1.11``."""

    optParameters = [
        ["domain", "d", None, "Domain whose records are served."],
        ["listen", "l", "127.0.0.1:53", "Address and port, for UDP and TCP."],
        ["peer-port", None, PEER_PORT, "Port of the members' peer URLs.", int],
        ["client-port", None, CLIENT_PORT, "Port of the members' client URLs.", int],
        ["ttl", None, TTL_SECONDS, "Seconds that records are good for.", int],
    ]
    optFlags = [["secure", "s", "Members speak TLS: the services have -ssl in their names."]]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.members: dict[str, tuple[str, ...]] = {}

    def opt_member(self, word: str) -> None:
        """A member: NAME=ADDRESS, or more addresses with commas between."""
        name, mark, addresses = word.partition("=")
        if not mark or not name or not addresses:
            raise usage.UsageError(f"--member {word}: it is NAME=ADDRESS")
        self.members[name] = tuple(addresses.split(","))

    opt_m = opt_member

    def postOptions(self) -> None:
        if not self["domain"]:
            raise usage.UsageError("--domain is needed")
        if not self.members:
            raise usage.UsageError("at least one --member is needed")
        try:
            self.address = server_address(self["listen"])
            self.zone = Zone(
                self["domain"],
                [
                    Host(name, addresses, self["peer-port"], self["client-port"])
                    for name, addresses in self.members.items()
                ],
                secure=bool(self["secure"]),
                ttl_seconds=self["ttl"],
            )
            for name in self.members:
                self.zone.records(f"{name}.{self.zone.domain}")  # addresses that are none
        except ValueError as error:
            raise usage.UsageError(str(error)) from None


def makeService(options: Options) -> IService:
    """The server on UDP and TCP."""
    from twisted.internet import reactor

    return NameServer(options, reactor)


class NameServer(MultiService):
    """Binds before twistd gives up root's rights: port 53 may need them."""

    def __init__(self, options: Options, reactor: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._daemon = is_daemon(options)
        self._is_refused = False
        host, port = options.address
        factory, datagrams = make_server(options.zone)
        both: tuple[Any, Any] = (
            internet.TCPServer(port, factory, interface=host),
            internet.UDPServer(port, datagrams, interface=host),
        )
        for each in both:
            each.setServiceParent(self)

    def privilegedStartService(self) -> None:
        self._unless_refused(super().privilegedStartService)

    def startService(self) -> None:
        self._unless_refused(super().startService)

    def _unless_refused(self, start: Callable[[], object]) -> None:
        if self._is_refused:
            return
        try:
            start()
        except START_ERRORS as error:
            self._is_refused = True
            reason = start_error_text(error)
            print(reason, file=sys.__stderr__ or sys.stderr, flush=True)  # the latter is the log's
            end_start(reason, self._reactor, self._daemon)
