"""Client endpoints by SRV records."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.dns.server import Host, Zone, make_authority
from etcdtw.dns.srv import LookupFailed, Service
from etcdtw.proxy.finding import TTL_SECONDS_MIN, FoundClients, NoEndpoints, find_clients

HOSTS = [Host(f"infra{n}", (f"10.0.1.1{n}",)) for n in range(3)]
ADDRESSES = [f"infra{n}.example.com:2379" for n in range(3)]


class Both:
    """Two zones: records of TLS and plain ones."""

    def __init__(self, *zones: Zone) -> None:
        self.zones = zones
        self._authorities = [make_authority(each) for each in zones]

    def lookupService(self, name: str, timeout: object = None) -> Deferred[Any]:
        secure = "-ssl" in name
        for zone, authority in zip(self.zones, self._authorities, strict=True):
            if zone.secure == secure:
                found: Deferred[Any] = authority.lookupService(name, timeout)
                return found
        return fail(OSError("nobody knows"))


class FindTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.plain = Zone("example.com", HOSTS)
        self.secure = Zone("example.com", HOSTS, secure=True)
        self.bad: set[str] = set()
        self.verified: list[str] = []

    def verify(self, service: Service) -> Deferred[None]:
        self.verified.append(service.host_port)
        if service.target in self.bad:
            return fail(ValueError("x509: certificate is valid for evil.test, not example.com"))
        return succeed(None)

    def find(self, *zones: Zone, insecure: bool = False, ca: bool = False, suffix: str = "") -> Any:
        coroutine = find_clients(
            Both(*zones),  # type: ignore[arg-type]  # all of a resolver that is needed
            "example.com",
            suffix,
            None if insecure else self.verify,
            ca,
        )
        return Deferred.fromCoroutine(coroutine)

    def addresses(self, *zones: Zone, **options: Any) -> list[str]:
        found = self.successResultOf(self.find(*zones, **options))
        assert isinstance(found, FoundClients)
        return sorted(each.host_port for each in found.services)

    def test_plain(self) -> None:
        """GW16, GW17, X10: a domain of plain records is served as the page shows; nothing
        authenticates it. With an authority it is not."""
        self.assertEqual(self.addresses(self.plain), ADDRESSES)
        self.assertEqual(self.verified, [])
        self.assertEqual(self.addresses(self.plain, insecure=True), ADDRESSES)
        refused = self.failureResultOf(self.find(self.plain, ca=True), NoEndpoints).value
        for address in ADDRESSES:
            self.assertIn(f'"http://{address}" is insecure', str(refused))

    def test_secure(self) -> None:
        """GW27, GW28, GW29, X10: endpoints of TLS are verified, and dropped by name if they are
        not good; none left is a refusal."""
        self.assertEqual(self.addresses(self.secure), ADDRESSES)
        self.assertEqual(sorted(self.verified), ADDRESSES)
        self.bad = {"infra1.example.com"}
        self.assertEqual(self.addresses(self.secure), [ADDRESSES[0], ADDRESSES[2]])
        self.bad = {f"infra{n}.example.com" for n in range(3)}
        refused = self.failureResultOf(self.find(self.secure), NoEndpoints).value
        self.assertIn("x509: certificate is valid for evil.test, not example.com", str(refused))
        self.assertEqual(self.addresses(self.secure, insecure=True), ADDRESSES)

    def test_both(self) -> None:
        """DN6, DN7: both are asked for; those of TLS are taken, each once."""
        other = Zone("example.com", [Host("plain", ("10.0.1.20",))])
        self.assertEqual(self.addresses(other, self.secure), ADDRESSES)
        everything = self.addresses(other, self.secure, insecure=True)
        self.assertEqual(everything, [*ADDRESSES, "plain.example.com:2379"])
        self.assertEqual(self.addresses(self.plain, self.secure, insecure=True), ADDRESSES)

    def test_none(self) -> None:
        """GW31: both queries are named."""
        self.plain.hosts = self.secure.hosts = []
        fault = self.failureResultOf(self.find(self.plain, self.secure), LookupFailed).value
        self.assertEqual(
            str(fault),
            "dns lookup errors: lookup _etcd-client-ssl._tcp.example.com: no such host and "
            "lookup _etcd-client._tcp.example.com: no such host",
        )

    def test_suffix(self) -> None:
        """GW33: --discovery-srv-name."""
        self.failureResultOf(self.find(self.plain, self.secure, suffix="foo"), LookupFailed)
        self.assertEqual(self.secure.asked, ["_etcd-client-ssl-foo._tcp.example.com"])
        self.assertEqual(self.plain.asked, ["_etcd-client-foo._tcp.example.com"])

    def test_ttl(self) -> None:
        """The shortest life counts, but nobody is asked every moment."""
        self.assertEqual(self.successResultOf(self.find(self.plain)).ttl_seconds, 300)
        self.plain.ttl_seconds = 1
        found = self.successResultOf(self.find(self.plain))
        self.assertEqual(found.ttl_seconds, TTL_SECONDS_MIN)

    def test_cancelled(self) -> None:
        """Who stops while endpoints are verified does not go on with those that are good."""
        waiting: list[Deferred[None]] = []

        def verify(service: Service) -> Deferred[None]:
            waiting.append(Deferred())
            return waiting[-1]

        self.patch(self, "verify", verify)
        finding = self.find(self.secure)
        waiting[1].callback(None)
        finding.cancel()
        self.failureResultOf(finding, CancelledError)
        self.assertTrue(waiting[2].called)
