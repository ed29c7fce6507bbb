"""The small name server, asked by a resolver over UDP and TCP on loopback."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import DNSLookupError
from twisted.internet.protocol import Factory, Protocol
from twisted.names import dns
from twisted.names.error import AuthoritativeDomainError, DNSNotImplementedError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from etcdtw.dns.resolvers import install_resolver, make_resolver, server_address
from etcdtw.dns.server import Host, Zone, make_authority, make_server
from etcdtw.dns.srv import LookupFailed, Service, lookup_hosts, lookup_services, service_name


class NameTests(SynchronousTestCase):
    def test_services(self) -> None:
        """etcd's four names, and its suffix."""
        self.assertEqual(
            service_name("etcd-server", True, "", "example.com."),
            "_etcd-server-ssl._tcp.example.com",
        )
        self.assertEqual(
            service_name("etcd-client", True, "foo", "d"), "_etcd-client-ssl-foo._tcp.d"
        )
        self.assertEqual(service_name("etcd-client", False, "", "d"), "_etcd-client._tcp.d")

    def test_servers(self) -> None:
        """How name servers are written."""
        self.assertEqual(server_address("127.0.0.1"), ("127.0.0.1", 53))
        self.assertEqual(server_address("127.0.0.1:5353"), ("127.0.0.1", 5353))
        self.assertEqual(server_address("::1"), ("::1", 53))
        self.assertEqual(server_address("[::1]:5353"), ("::1", 5353))
        for wrong in ("", ":53", "127.0.0.1:x", "127.0.0.1:65536"):
            self.assertRaises(ValueError, server_address, wrong)


class ZoneTests(SynchronousTestCase):
    def test_between(self) -> None:
        """A name that only has names below it is there; what is beside or above it is not."""
        authority = make_authority(Zone("example.com", [Host("a.rack1", ("10.0.1.10",))]))
        for name in (b"example.com", b"_tcp.Example.com", b"rack1.example.com"):
            self.assertEqual(self.successResultOf(authority.lookupAddress(name))[0], [])
        for name in (b"com", b"tcp.example.com", b"ack1.example.com", b"b.rack1.example.com"):
            self.failureResultOf(authority.lookupAddress(name), AuthoritativeDomainError)


class AnswerTests(SynchronousTestCase):
    def test_no_host(self) -> None:
        """A target that is no name of a host is passed over."""

        class Resolver:
            def lookupService(self, name: str, timeout: object = None) -> Any:
                targets = (b"caf\xc3\xa9.example.com", b"infra0.example.com")
                payloads = [dns.Record_SRV(0, 0, 2380, each) for each in targets]
                return succeed(([dns.RRHeader(name, dns.SRV, payload=p) for p in payloads], [], []))

        resolver: Any = Resolver()
        found = Deferred.fromCoroutine(lookup_services(resolver, "x"))
        self.assertEqual([each.target for each in self.successResultOf(found)],
                         ["infra0.example.com"])  # fmt: skip

    def test_cancelled(self) -> None:
        """Who does not want to know any more is not told that there is no answer."""

        class Resolver:
            def lookupAddress(self, name: str, timeout: object = None) -> Any:
                return Deferred()

            lookupIPV6Address = lookupAddress

        resolver: Any = Resolver()
        looking = Deferred.fromCoroutine(lookup_hosts(resolver, "infra0.example.com"))
        looking.cancel()
        self.failureResultOf(looking, CancelledError)


class HostTests(TestCase):
    """Hosts to connect to, by name servers of one's own."""

    timeout = 30

    def setUp(self) -> None:
        any_reactor: Any = reactor
        former = any_reactor.nameResolver
        self.addCleanup(any_reactor.installNameResolver, former)
        self.made: Any = Factory.forProtocol(Protocol)
        self.port = any_reactor.listenTCP(0, self.made, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)

    async def connect(self, host: str) -> Any:
        endpoint = HostnameEndpoint(reactor, host, self.port.getHost().port, timeout=5.0)
        connected: Any = await endpoint.connect(self.made)
        self.addCleanup(connected.transport.abortConnection)
        return connected.transport.getPeer().host

    async def test_no_records_of_any_kind(self) -> None:
        """Name servers need not answer questions for every kind of record at once; and where one
        address of a host does not answer, another one does."""
        zone = Zone("example.com", [Host("infra0", ("127.0.0.9", "127.0.0.1"))])
        authority = make_authority(zone)
        authority.lookupAllRecords = lambda name, timeout=None: fail(DNSNotImplementedError())
        install_resolver(reactor, authority)
        self.assertEqual(await self.connect("infra0.example.com"), "127.0.0.1")
        with self.assertRaises(DNSLookupError):
            await self.connect("infra1.example.com")


class ServerTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        any_reactor: Any = reactor
        self.zone = Zone(
            "example.com", [Host(f"infra{n}", (f"10.0.1.1{n}", f"fd00::{n}")) for n in range(3)]
        )
        factory, datagrams = make_server(self.zone)
        udp = any_reactor.listenUDP(0, datagrams, interface="127.0.0.1")
        port = udp.getHost().port
        self.addCleanup(udp.stopListening)
        tcp = any_reactor.listenTCP(port, factory, interface="127.0.0.1")
        self.addCleanup(tcp.stopListening)
        self.resolver = make_resolver(reactor, [f"127.0.0.1:{port}"])

    async def test_found(self) -> None:
        """DN21, DN22: services with their ports and TTL, hosts with their addresses."""
        for service, port in (("etcd-server", 2380), ("etcd-client", 2379)):
            name = service_name(service, False, "", "example.com")
            found = await lookup_services(self.resolver, name)
            expected = [Service(f"infra{n}.example.com", port, 0, 0, 300) for n in range(3)]
            self.assertEqual(sorted(found, key=lambda each: each.target), expected)
        self.assertEqual(
            await lookup_hosts(self.resolver, "infra1.example.com"), ["10.0.1.11", "fd00::1"]
        )
        self.assertEqual(await lookup_hosts(self.resolver, "10.9.8.7"), ["10.9.8.7"])

    async def test_absent(self) -> None:
        """What is not there is decidedly not there."""
        for name in ("_etcd-server-ssl._tcp.example.com", "_etcd-server._tcp.other.test"):
            try:
                await lookup_services(self.resolver, name)
            except LookupFailed as fault:
                self.assertTrue(fault.is_final)
                self.assertEqual(str(fault), f"lookup {name}: no such host")
            else:
                self.fail(f"{name} was found")

    async def test_many(self) -> None:
        """An answer too large for a datagram comes by TCP."""
        self.zone.hosts = [Host(f"host-{n}-with-a-long-name", (f"10.0.2.{n}",)) for n in range(60)]
        found = await lookup_services(self.resolver, "_etcd-server._tcp.example.com")
        self.assertEqual(len(found), 60)
