"""Founding a cluster from the initial cluster: ids, checks, comparison by address."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from etcdtw.bootstrap.interfaces import BootstrapSettings, ClusterPlan, IBootstrapProvider
from etcdtw.bootstrap.refusal import BootstrapError
from etcdtw.bootstrap.static import StaticProvider
from etcdtw.config.urls import parse_initial_cluster, parse_url_list
from etcdtw.ids import format_id

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
IC3 = "infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380"


class NamedHosts:
    """A clock that also knows host names; a name that is not listed cannot be resolved."""

    def __init__(self, **hosts: str) -> None:
        self.clock = Clock()
        self.seconds = self.clock.seconds
        self.callLater = self.clock.callLater
        self.hosts = hosts
        self.asked: list[str] = []

    def resolve(self, name: str, timeout: Sequence[int] = ()) -> Deferred[str]:
        self.asked.append(name)
        if name in self.hosts:
            return succeed(self.hosts[name])
        return fail(DNSLookupError(f"no such host: {name}"))


def settings_of(
    name: str, cluster: str, *peer_urls: str, token: str = "etcd-cluster"
) -> BootstrapSettings:
    members = parse_initial_cluster(cluster)
    own = parse_url_list(list(peer_urls)) if peer_urls else dict(members).get(name, ())
    return BootstrapSettings(
        name=name, peer_urls=own, initial_cluster=members, initial_cluster_token=token
    )


class PlanTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = NamedHosts()

    def plan(self, settings: BootstrapSettings) -> ClusterPlan:
        return self.successResultOf(StaticProvider(self.reactor).plan(settings))

    def refusal(self, settings: BootstrapSettings) -> BootstrapError:
        failure = self.failureResultOf(StaticProvider(self.reactor).plan(settings), BootstrapError)
        error = failure.value
        assert isinstance(error, BootstrapError)
        return error


class IdTests(PlanTestCase):
    def test_recorded_ids(self) -> None:
        """Member and cluster ids are those that etcd 3.4 and 3.5 computed."""
        for case in json.loads((VECTORS / "ids.json").read_text(encoding="utf-8")):
            plan = self.plan(
                settings_of(
                    case["name"],
                    case["initial_cluster"],
                    *case["initial_advertise_peer_urls"],
                    token=case["token"],
                )
            )
            self.assertEqual(format_id(plan.cluster_id), case["cluster_id"])
            self.assertEqual(format_id(plan.member_id), case["member_id"])
            self.assertEqual(
                {format_id(member.id): member.peer_urls for member in plan.members},
                {each["id_hex"]: tuple(sorted(each["peer_urls"])) for each in case["members"]},
            )

    def test_guide(self) -> None:
        """ST10, ST11, ST29: the guide's members have these ids, with its token and the default."""
        for token, cluster, members in (
            (
                "etcd-cluster-1",
                "acccc8912db0cd57",
                ("140fedbeeb74765d", "d5dc5f8d75d04e29", "8a0a11c6194fc77"),
            ),
            (
                "etcd-cluster",
                "e33cd1f1301c41a0",
                ("794aea3ba77a1d64", "e25938377bdd2340", "9d480e1db4ddec45"),
            ),
        ):
            plan = self.plan(settings_of("infra0", IC3, token=token))
            by_name = {member.name: format_id(member.id) for member in plan.members}
            self.assertEqual(format_id(plan.cluster_id), cluster)
            self.assertEqual(tuple(by_name[f"infra{n}"] for n in range(3)), members)
            self.assertEqual(format_id(plan.member_id), members[0])

    def test_order_and_kind(self) -> None:
        """Members are ordered by id; the state tells founding from joining."""
        settings = settings_of("infra1", IC3)
        plan = self.plan(settings)
        ids = [member.id for member in plan.members]
        self.assertEqual(ids, sorted(ids))
        self.assertTrue(plan.new)
        self.assertEqual(plan.token, "etcd-cluster")

    def test_several_urls(self) -> None:
        """ST9: a repeated name is one member with several peer URLs."""
        plan = self.plan(settings_of("m", "m=http://b:2,m=http://a:1"))
        self.assertEqual(
            [member.peer_urls for member in plan.members], [("http://a:1", "http://b:2")]
        )


class CheckTests(PlanTestCase):
    def test_not_listed(self) -> None:
        """ER1: a name that is not listed is refused in the guide's words and in etcd's."""
        error = self.refusal(settings_of("infra1", "infra0=http://10.0.1.10:2380", "http://a:1"))
        self.assertEqual(
            error.reason, 'couldn\'t find local name "infra1" in the initial cluster configuration'
        )
        self.assertEqual(error.sentence, "etcd: infra1 not listed in the initial cluster config")
        self.assertEqual((error.exit_code, error.code), (1, "ETW-BOOT-NAME"))

    def test_hint_names_the_owner(self) -> None:
        """If the own URL is listed under another name, the hint says which."""
        error = self.refusal(settings_of("x", IC3, "http://10.0.1.11:2380"))
        self.assertIn("--name infra1", error.hint)

    def test_other_url(self) -> None:
        """ST7, ER2: an advertised URL that differs from the listed one is refused."""
        error = self.refusal(
            settings_of("m0", "m0=http://127.0.0.1:26099", "http://127.0.0.1:26001")
        )
        self.assertEqual(
            error.reason,
            "--initial-cluster has m0=http://127.0.0.1:26099 but missing from "
            "--initial-advertise-peer-urls=http://127.0.0.1:26001 "
            '("http://127.0.0.1:26001"(resolved from "http://127.0.0.1:26001") != '
            '"http://127.0.0.1:26099"(resolved from "http://127.0.0.1:26099"))',
        )
        self.assertEqual(
            error.sentence,
            "etcd: error setting up initial cluster: m0 has different advertised URLs in the "
            "cluster and advertised peer URLs list",
        )
        self.assertEqual(self.reactor.asked, [])

    def test_missing_either_way(self) -> None:
        """ER3: with several URLs the refusal names the one that is missing, from either side."""
        error = self.refusal(settings_of("m", "m=http://a:1,m=http://a:2", "http://a:1"))
        self.assertIn("--initial-cluster has m=http://a:2 but missing from", error.reason)
        self.assertIn('(len(["http://a:1"]) != len(["http://a:1" "http://a:2"]))', error.reason)
        error = self.refusal(settings_of("m", "m=http://a:1", "http://a:1", "http://a:2"))
        self.assertEqual(
            error.reason,
            "--initial-advertise-peer-urls has http://a:2 but missing from "
            "--initial-cluster=m=http://a:1,m=http://a:2",
        )

    def test_scheme(self) -> None:
        """Advertising http where https is listed is refused, naming the schemes."""
        error = self.refusal(settings_of("m", "m=https://10.0.0.1:1", "http://10.0.0.1:1"))
        self.assertIn("schemes differ: http and https", error.hint)

    def test_duplicates(self) -> None:
        """A URL listed twice is refused, whoever lists it."""
        error = self.refusal(settings_of("m0", "m1=http://a:1,m0=http://a:1"))
        self.assertEqual(
            error.reason, "initial cluster m0=http://a:1,m1=http://a:1 has duplicate url"
        )

    def test_nobody_to_join(self) -> None:
        """Joining with nobody else listed fails as asking nobody does."""
        settings = replace(settings_of("m", "m=http://a:1"), initial_cluster_state="existing")
        self.assertIn("cannot fetch cluster info from peer urls", self.refusal(settings).reason)


class AddressTests(PlanTestCase):
    def setUp(self) -> None:
        self.reactor = NamedHosts(**{"a.test": "10.0.0.1", "b.test": "10.0.0.1", "c.test": "::1"})

    def test_equal_texts_need_no_dns(self) -> None:
        """Equal URLs, in any order, are not resolved."""
        self.plan(settings_of("m", "m=http://nowhere.test:1,m=http://b:2"))
        self.assertEqual(self.reactor.asked, [])

    def test_name_and_address(self) -> None:
        """ST8: a name and its address, or two names of one address, are the same URL."""
        self.plan(settings_of("m", "m=http://a.test:1", "http://10.0.0.1:1"))
        self.plan(settings_of("m", "m=http://a.test:1", "http://b.test:1"))
        self.plan(settings_of("m", "m=http://c.test:1", "http://[::1]:1"))

    def test_port_counts(self) -> None:
        """One address with two ports is two URLs; localhost is not an address."""
        self.refusal(settings_of("m", "m=http://a.test:1", "http://10.0.0.1:2"))
        self.refusal(settings_of("m", "m=http://localhost:1", "http://127.0.0.1:1"))

    def test_retries(self) -> None:
        """An unknown name is asked for every second, and may turn up."""
        planning = StaticProvider(self.reactor).plan(
            settings_of("m", "m=http://late.test:1", "http://10.0.0.9:1")
        )
        self.reactor.clock.pump([1.0] * 5)
        self.assertNoResult(planning)
        self.reactor.hosts["late.test"] = "10.0.0.9"
        self.reactor.clock.advance(1.0)
        self.successResultOf(planning)

    def test_gives_up(self) -> None:
        """After 30 seconds the start is refused with the name that is unknown."""
        planning = StaticProvider(self.reactor).plan(
            settings_of("m", "m=http://never.test:1", "http://10.0.0.9:1")
        )
        self.reactor.clock.pump([1.0] * 31)
        error = self.failureResultOf(planning, BootstrapError).value
        self.assertIn("never.test", str(error))

    def test_cancel(self) -> None:
        """Cancelling a plan ends its waiting."""
        planning = StaticProvider(self.reactor).plan(
            settings_of("m", "m=http://never.test:1", "http://10.0.0.9:1")
        )
        planning.cancel()
        self.failureResultOf(planning)
        self.reactor.clock.pump([1.0] * 3)
        self.assertEqual(len(self.reactor.asked), 1)

    def test_interface(self) -> None:
        """The provider has the published shape."""
        verifyObject(IBootstrapProvider, StaticProvider(self.reactor))
