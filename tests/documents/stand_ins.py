"""What the documents take for granted around a cluster, as small programs:

``names ZONE ADDRESS`` a name server, ``proxy ADDRESS PORT`` an HTTP proxy, ``redirect PORT URL``,
``front PORT CERTIFICATE KEY PORT`` TLS in front of an HTTP service, ``echo ADDRESS PORT``, and
``capture FILE``, which keeps all that the network carries.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import defer, endpoints, protocol
from twisted.internet import reactor as installed_reactor
from twisted.names import common, dns, error, server
from twisted.web import http, proxy, resource
from twisted.web.server import Site
from twisted.web.util import Redirect

reactor: Any = installed_reactor
RECORDS: dict[str, Any] = {
    "A": dns.Record_A,
    "AAAA": dns.Record_AAAA,
    "SRV": lambda priority, weight, port, target, ttl: dns.Record_SRV(
        int(priority), int(weight), int(port), target.rstrip("."), ttl
    ),
}


class Zone(common.ResolverBase):
    """Answers by a file of lines as ``dig`` prints them; each query is noted in ``queries``
    beside it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.queries = path.with_name("queries")

    def records(self, name: str) -> list[Any]:
        """Those of one name, with every look at the file."""
        found = []
        for line in self.path.read_text().splitlines():
            words = line.split()
            if words and words[0].rstrip(".").lower() == name.rstrip(".").lower():
                ttl, kind, data = int(words[1]), words[3], words[4:]
                found.append(RECORDS[kind](*data, ttl=ttl))
        return found

    def _lookup(self, name: bytes, cls: int, type: int, timeout: object = None) -> Any:
        text = name.decode()
        with self.queries.open("a") as queries:
            queries.write(f"{text} {dns.QUERY_TYPES.get(type, type)}\n")
        records = self.records(text)
        if not records:
            return defer.fail(error.AuthoritativeDomainError(name))
        answers = [
            dns.RRHeader(name, each.TYPE, dns.IN, each.ttl, each, auth=True)
            for each in records
            if type == each.TYPE
        ]
        return defer.succeed((answers, [], []))


def names(zone: str, address: str) -> None:
    factory = server.DNSServerFactory(authorities=[Zone(Path(zone))])
    reactor.listenUDP(53, dns.DNSDatagramProtocol(factory), interface=address)
    reactor.listenTCP(53, factory, interface=address)


class LoggedRequest(proxy.ProxyRequest):
    def process(self) -> None:
        print("proxy:", self.method.decode(), self.uri.decode(), flush=True)
        super().process()


class LoggedProxy(proxy.Proxy):
    requestFactory = LoggedRequest


def http_proxy(address: str, port: str) -> None:
    factory: Any = http.HTTPFactory()
    factory.protocol = LoggedProxy
    reactor.listenTCP(int(port), factory, interface=address)


class Elsewhere(resource.Resource):
    isLeaf = True

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def render(self, request: Any) -> Any:
        print("redirected:", request.uri.decode(), flush=True)
        return Redirect((self.url + request.uri.decode()).encode()).render(request)


def redirect(port: str, url: str) -> None:
    endpoints.TCP4ServerEndpoint(reactor, int(port)).listen(Site(Elsewhere(url)))


def front(port: str, certificate: str, key: str, behind: str) -> None:
    site = Site(proxy.ReverseProxyResource("127.0.0.1", int(behind), b""))
    where = f"ssl:{port}:privateKey={key}:certKey={certificate}"
    endpoints.serverFromString(reactor, where).listen(site)


class Echo(protocol.Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None, "it is connected"
        self.transport.write(data)


def echo(address: str, port: str) -> None:
    factory: Any = protocol.Factory.forProtocol(Echo)
    reactor.listenTCP(int(port), factory, interface=address)


def capture(path: str) -> None:
    """All frames that come by, on every interface; run where the switch is."""
    every_protocol = 0x0003
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(every_protocol))
    with open(path, "wb", buffering=0) as file:
        print("up", flush=True)
        while True:
            file.write(packets.recv(65536))


def main() -> None:
    name, *words = sys.argv[1:]
    if name == "capture":
        capture(*words)
    programs: dict[str, Callable[..., None]] = {
        "names": names,
        "proxy": http_proxy,
        "redirect": redirect,
        "front": front,
        "echo": echo,
    }
    programs[name](*words)
    reactor.callWhenRunning(print, f"{name} are served", flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
