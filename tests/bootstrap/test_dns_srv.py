"""Finding a cluster by SRV records, with a name server in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.names import dns, error
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.bootstrap.dns_srv import SrvProvider
from etcdtw.bootstrap.interfaces import BootstrapSettings, ClusterPlan
from etcdtw.bootstrap.refusal import BootstrapError, BootstrapUnavailable
from etcdtw.bootstrap.waiting import GIVE_UP_SECONDS, PAUSE_SECONDS
from etcdtw.dns.server import Host, Zone, make_authority
from etcdtw.ids import format_id
from tests.bootstrap.test_static import NamedHosts
from tests.logs import logged

HOSTS = [Host(f"infra{n}", (f"10.0.1.1{n}",)) for n in range(3)]


class SrvCase(SynchronousTestCase):
    def setUp(self) -> None:
        # --dns-server replaces the reactor's own resolver as well.
        self.reactor = NamedHosts(**{f"infra{n}.example.com": f"10.0.1.1{n}" for n in range(3)})
        self.zone = Zone("example.com", HOSTS)
        self.resolver: Any = make_authority(self.zone)

    def settings(self, n: int = 0, url: str = "", **others: Any) -> BootstrapSettings:
        return BootstrapSettings(
            name=f"infra{n}",
            peer_urls=(url or f"http://infra{n}.example.com:2380",),
            initial_cluster_token="etcd-cluster-1",
            discovery_srv=others.pop("discovery_srv", "example.com"),
            resolver=lambda: self.resolver,
            **others,
        )

    def begin(self, settings: BootstrapSettings) -> Deferred[ClusterPlan]:
        begun = SrvProvider(self.reactor).plan(settings)
        self.assertNoResult(begun)
        self.reactor.clock.advance(0)
        return begun

    def plan(self, settings: BootstrapSettings) -> ClusterPlan:
        return self.successResultOf(self.begin(settings))

    def refusal(self, settings: BootstrapSettings) -> BootstrapError:
        refused = self.failureResultOf(self.begin(settings), BootstrapError).value
        assert isinstance(refused, BootstrapError)
        return refused


class FoundTests(SrvCase):
    def test_three(self) -> None:
        """DN2, DN4, DN10, DN12, DN16, DN17, DN18: both services are asked for, TLS first; each
        member finds itself by its address, whether it gives names or addresses, and all have the
        same cluster."""
        plans = [self.plan(self.settings(n)) for n in range(3)]
        plans += [self.plan(self.settings(n, f"http://10.0.1.1{n}:2380")) for n in range(3)]
        self.assertEqual(len({plan.cluster_id for plan in plans}), 1)
        self.assertEqual(len({plan.member_id for plan in plans}), 3)
        services = [name for name in self.zone.asked if name.startswith("_")]
        self.assertEqual(
            services[:2], ["_etcd-server-ssl._tcp.example.com", "_etcd-server._tcp.example.com"]
        )
        own = next(each for each in plans[1].members if each.id == plans[1].member_id)
        self.assertEqual((own.name, own.peer_urls), ("infra1", ("http://infra1.example.com:2380",)))
        self.assertEqual(sorted(each.name for each in plans[1].members), ["0", "1", "infra1"])
        self.assertEqual(format_id(plans[0].cluster_id), format_id(plans[5].cluster_id))

    def test_secure(self) -> None:
        """DN3: records of TLS give https URLs."""
        self.zone.secure = True
        plan = self.plan(self.settings(0, "https://infra0.example.com:2380"))
        urls = sorted(each.peer_urls[0] for each in plan.members)
        self.assertEqual(urls, [f"https://infra{n}.example.com:2380" for n in range(3)])

    def test_ports_and_ipv6(self) -> None:
        """DN11, DN13: ports are the records'; IPv6 addresses do."""
        self.zone.hosts = [Host("a", ("::1",), 1234), Host("b", ("::2",), 4321)]
        self.reactor.hosts |= {"a.example.com": "::1", "b.example.com": "::2"}
        plan = self.plan(self.settings(0, "http://[::1]:1234"))
        urls = sorted(each.peer_urls[0] for each in plan.members)
        self.assertEqual(urls, ["http://a.example.com:1234", "http://b.example.com:4321"])

    def test_both(self) -> None:
        """DN5: records of TLS and plain ones add up; one member in both is told."""
        secure = Zone("example.com", HOSTS[:1], secure=True)
        plain = Zone("example.com", [*HOSTS[1:], Host("again", ("10.0.1.11",))])
        authorities = make_authority(secure), make_authority(plain)

        class Both:
            def lookupService(self, name: str, timeout: object = None) -> Deferred[Any]:
                found: Deferred[Any] = authorities["-ssl" not in name].lookupService(name, timeout)
                return found

            def lookupAddress(self, name: str, timeout: object = None) -> Deferred[Any]:
                known = name.startswith("infra0")
                found: Deferred[Any] = authorities[not known].lookupAddress(name, timeout)
                return found

            lookupIPV6Address = lookupAddress

        self.resolver = Both()
        observed = logged(self)
        plan = self.plan(self.settings(0, "https://infra0.example.com:2380"))
        urls = sorted(url for each in plan.members for url in each.peer_urls)
        self.assertEqual(
            urls,
            [
                "http://again.example.com:2380",
                "http://infra1.example.com:2380",
                "http://infra2.example.com:2380",
                "https://infra0.example.com:2380",
            ],
        )
        told = [each["address"] for each in observed if "more than once" in each["log_format"]]
        self.assertEqual(told, ["10.0.1.11:2380"])

    def test_suffix(self) -> None:
        """--discovery-srv-name goes into the names of the services."""
        self.refusal(self.settings(discovery_srv_name="blue"))
        self.assertEqual(
            [name for name in self.zone.asked if name.startswith("_")],
            ["_etcd-server-ssl-blue._tcp.example.com", "_etcd-server-blue._tcp.example.com"],
        )

    def test_cname(self) -> None:
        """A target may be another name for a host."""
        real = self.resolver

        class Renamed:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def lookupAddress(self, name: str, timeout: object = None) -> Deferred[Any]:
                def renamed(found: Any) -> Any:
                    other = dns.RRHeader(name, dns.CNAME, payload=dns.Record_CNAME("other"))
                    return [other, *found[0]], [], []

                asked: Deferred[Any] = real.lookupAddress(name, timeout)
                return asked.addCallback(renamed)

        self.resolver = Renamed()
        self.assertEqual(len(self.plan(self.settings()).members), 3)


class RefusedTests(SrvCase):
    def test_not_among_them(self) -> None:
        """DN15: an own address that no record leads to; what was compared is shown."""
        refused = self.refusal(self.settings(0, "http://10.0.1.19:2380"))
        self.assertEqual(refused.reason, 'cannot find local etcd member "infra0" in SRV records')
        self.assertIn("10.0.1.19:2380", refused.hint)
        self.assertIn("http://infra2.example.com:2380 (10.0.1.12:2380)", refused.hint)

    def test_nearest(self) -> None:
        """P3: what is nearly a record's URL is told what it could be."""
        self.reactor.hosts["infra0.exmple.com"] = "10.0.1.99"
        refused = self.refusal(self.settings(0, "http://10.0.1.99:2380"))
        self.assertIn("own addresses: 10.0.1.99:2380, those of http://10.0.1.99:2380", refused.hint)

    def test_no_records(self) -> None:
        """DN19: both queries are named."""
        refused = self.refusal(
            self.settings(0, "http://10.0.1.10:2380", discovery_srv="nope.invalid")
        )
        self.assertIn("error setting up initial cluster: error querying DNS SRV", refused.reason)
        for name in ("_etcd-server-ssl._tcp.nope.invalid", "_etcd-server._tcp.nope.invalid"):
            self.assertIn(f"{name}: no such host", refused.reason)

    def test_other_scheme(self) -> None:
        """DN20: TLS in the records, none in the own URL; both are named."""
        self.zone.secure = True
        refused = self.refusal(self.settings())
        self.assertIn("https://infra0.example.com:2380", refused.reason)
        self.assertIn(
            "has scheme mismatch with expected peer http://infra0.example.com:2380", refused.reason
        )

    def test_other_domain(self) -> None:
        """DN8, DN9: over TLS without an authority of one's own, targets are of the domain."""
        evil = Zone("evil.test", [Host("infra1", ("10.6.6.6",))])
        forged, real = make_authority(evil), self.resolver
        self.zone.secure = True

        class Forged:
            def lookupService(self, name: str, timeout: object = None) -> Deferred[Any]:
                def forge(found: Any) -> Any:
                    record = dns.Record_SRV(0, 0, 2380, "infra1.evil.test")
                    return [*found[0], dns.RRHeader(name, dns.SRV, payload=record)], [], []

                asked: Deferred[Any] = real.lookupService(name, timeout)
                return asked.addCallback(forge)

            def lookupAddress(self, name: str, timeout: object = None) -> Deferred[Any]:
                found: Any = forged if "evil" in name else real
                asked: Deferred[Any] = found.lookupAddress(name, timeout)
                return asked

            lookupIPV6Address = lookupAddress

        self.resolver = Forged()
        url = "https://infra0.example.com:2380"
        refused = self.refusal(self.settings(0, url))
        self.assertIn("infra1.evil.test, which is not in the domain example.com", refused.reason)
        self.assertEqual(len(self.plan(self.settings(0, url, has_authority=True)).members), 4)

    def test_nonsense(self) -> None:
        """Answers that are none are a reason, not a crash."""

        class Broken:
            def lookupService(self, name: str, timeout: object = None) -> Deferred[Any]:
                raise ValueError("not a name server at all")

            lookupAddress = lookupIPV6Address = lookupService

        self.resolver = Broken()
        begun = self.begin(self.settings())
        self.reactor.clock.pump([PAUSE_SECONDS] * int(GIVE_UP_SECONDS + 2))
        refused = self.failureResultOf(begun, BootstrapError).value
        self.assertIn("not a name server at all", str(refused))

    def test_no_name(self) -> None:
        """What no name can be is not asked for again."""

        class Encoding:
            def lookupService(self, name: str, timeout: object = None) -> Deferred[Any]:
                name.encode("idna")
                raise AssertionError(f"{name} can be encoded")

            lookupAddress = lookupIPV6Address = lookupService

        self.resolver = Encoding()
        for domain in ("a..b", f"{'a' * 64}.com"):
            refused = self.refusal(self.settings(0, "http://10.0.1.10:2380", discovery_srv=domain))
            self.assertIn("no such host", str(refused))


class LateTests(SrvCase):
    """Name servers that do not answer yet."""

    def test_flapping(self) -> None:
        """They are asked again until they do."""
        real, times = self.resolver, [0]

        class Flapping:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def lookupService(self, name: str, timeout: object = None) -> Deferred[Any]:
                times[0] += 1
                if times[0] < 7:
                    return fail(
                        error.DNSServerError(name) if times[0] % 2 else ConnectionRefusedError()
                    )
                found: Deferred[Any] = real.lookupService(name, timeout)
                return found

        self.resolver = Flapping()
        begun = self.begin(self.settings())
        for _ in range(3):
            self.assertNoResult(begun)
            self.reactor.clock.advance(PAUSE_SECONDS)
        self.assertEqual(len(self.successResultOf(begun).members), 3)

    def test_for_ever(self) -> None:
        """After a while the reason is told."""

        class Dead:
            def lookupService(self, name: str, timeout: object = None) -> Deferred[Any]:
                return fail(error.DNSServerError(name))

            lookupAddress = lookupIPV6Address = lookupService

        self.resolver = Dead()
        begun = self.begin(self.settings(0, "http://10.0.1.10:2380"))
        self.reactor.clock.pump([PAUSE_SECONDS] * int(GIVE_UP_SECONDS + 2))
        refused = self.failureResultOf(begun, BootstrapError).value
        self.assertIn("server misbehaving", str(refused))
        self.assertEqual(self.reactor.clock.getDelayedCalls(), [])

    def test_deadline(self) -> None:
        """P4: with a deadline of the operator's own also names that are not there yet, and records
        that lack this member, are waited for."""
        self.zone.hosts = []
        begun = self.begin(self.settings(0, "http://10.0.1.10:2380", timeout_seconds=60.0))
        self.reactor.clock.pump([PAUSE_SECONDS] * 20)
        self.zone.hosts = HOSTS[1:]
        self.resolver = make_authority(self.zone)
        self.reactor.clock.pump([PAUSE_SECONDS] * 20)
        self.assertNoResult(begun)
        self.zone.hosts = HOSTS
        self.reactor.clock.pump([PAUSE_SECONDS] * 2)
        self.assertEqual(len(self.successResultOf(begun).members), 3)

    def test_expected(self) -> None:
        """P4: records are complete when they are as many as expected."""
        self.zone.hosts = HOSTS[:2]
        begun = self.begin(self.settings(expected_size=3))
        self.reactor.clock.pump([PAUSE_SECONDS] * 3)
        self.assertNoResult(begun)
        self.zone.hosts = HOSTS
        self.reactor.clock.advance(PAUSE_SECONDS)
        self.assertEqual(len(self.successResultOf(begun).members), 3)

    def test_unavailable(self) -> None:
        """P31: where there are no records another provider may know more; where they lead to
        others, none may."""
        for url, domain, kind in (
            ("http://10.0.1.10:2380", "nope.invalid", BootstrapUnavailable),
            ("http://10.0.1.99:2380", "example.com", BootstrapError),
        ):
            begun = self.begin(self.settings(0, url, discovery_srv=domain))
            self.assertIs(type(self.failureResultOf(begun).value), kind)
