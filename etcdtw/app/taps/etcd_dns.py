"""``twistd etcd-dns``: a name server for the SRV records of one cluster."""

from __future__ import annotations

from typing import Any

from twisted.application import internet
from twisted.application.service import IService, MultiService
from twisted.python import usage

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
    host, port = options.address
    factory, datagrams = make_server(options.zone)
    both: Any = MultiService()
    internet.UDPServer(port, datagrams, interface=host).setServiceParent(both)
    internet.TCPServer(port, factory, interface=host).setServiceParent(both)
    service: IService = both
    return service
