"""v3 discovery, at servers on a simulated network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred

from etcdtw.bootstrap.discovery_v3 import (
    DiscoveryV3Provider,
    discover,
    endpoints_of,
    keepalive_of,
    token_state,
)
from etcdtw.bootstrap.factories import (
    BUILT_IN,
    DISCOVERY_V3,
    choose_factory,
    claims_discovery_v3,
)
from etcdtw.bootstrap.interfaces import BootstrapSettings, ClusterPlan, DiscoverySettings
from etcdtw.bootstrap.meeting import Meeting
from etcdtw.bootstrap.refusal import BootstrapError
from etcdtw.bootstrap.registry_v3 import V3Registry
from etcdtw.errors import AuthNotEnabled, Code, EtcdError, StatusError, Unimplemented
from etcdtw.ids import format_id, member_id
from etcdtw.pb.rpc_pb2 import (
    AuthenticateRequest,
    AuthenticateResponse,
    CompactionRequest,
    DeleteRangeRequest,
    PutRequest,
    TxnRequest,
)
from etcdtw.rpc import Router, UnaryCall
from tests.bootstrap.test_meeting import MemoryNote
from tests.client.servers import Servers
from tests.logs import logged

TOKEN = "token"
SIZE = "/_etcd/registry/token/_config/size"
MEMBERS = "/_etcd/registry/token/members/"


class V3Case(Servers):
    """Servers where members meet; ``said`` are the log lines with their fields."""

    def setUp(self) -> None:
        self.users: EtcdError | str = AuthNotEnabled()
        self.garbage = False
        self.tokens: list[str] = []
        super().setUp()
        self.said = logged(self)

    def router(self, host: str) -> Router:
        router = super().router(host)
        answer = self._answering(TxnRequest, self.member.kv.txn)
        router.add_unary("/etcdserverpb.KV/Txn", self._guarded(answer))
        router.add_unary("/etcdserverpb.Auth/Authenticate", self._authenticate)
        return router

    def _guarded(self, answer: Any) -> Any:
        def call(call: UnaryCall, body: bytes) -> None:
            self.tokens.append(dict(call.metadata).get("token", ""))
            if self.garbage:
                call.reply(b"\xff\xff\xff")
            else:
                answer(call, body)

        return call

    def _authenticate(self, call: UnaryCall, body: bytes) -> None:
        if isinstance(self.users, EtcdError):
            raise self.users
        asked = AuthenticateRequest.FromString(body)
        token = f"{asked.name}:{asked.password}:{self.users}"
        call.reply(AuthenticateResponse(token=token).SerializeToString())

    def set_size(self, text: str = "2") -> None:
        self.member.kv.put(PutRequest(key=SIZE.encode(), value=text.encode()))

    def register(self, identity: str, value: str) -> None:
        self.member.kv.put(PutRequest(key=(MEMBERS + identity).encode(), value=value.encode()))

    def keys(self) -> list[str]:
        listed = self.result(self.client().kv.get(MEMBERS, prefix=True))
        return [f"{each.key.decode()} {each.value.decode()}" for each in listed.kvs]

    def settings(self, n: int = 0, note: MemoryNote | None = None, **v3: Any) -> BootstrapSettings:
        asked = DiscoverySettings(token=TOKEN, endpoints=("http://a:2379",), **v3)
        url = f"http://10.0.1.1{n}:2380"
        return BootstrapSettings(name=f"infra{n}", peer_urls=(url,), discovery_v3=asked, note=note)

    def begin(self, settings: BootstrapSettings | None = None) -> Deferred[ClusterPlan]:
        asked = settings or self.settings()
        return Deferred.fromCoroutine(discover(asked, self.client(), self.clock))

    def refused(self, settings: BootstrapSettings | None = None) -> BootstrapError:
        begun = self.begin(settings)
        self.run_for(20)
        error = self.failureResultOf(begun, BootstrapError).value
        assert isinstance(error, BootstrapError)
        return error

    def lines(self) -> list[str]:
        return [str(each.get("log_format")) for each in self.said]

    def line(self, text: str) -> dict[str, Any]:
        return next(each for each in self.said if each.get("log_format") == text)


class MeetingTests(V3Case):
    def test_two(self) -> None:
        """DP7, DP1, DP2, DP4, 0.2: etcd 3.6's keys and values; the token is the cluster's; the log
        has etcd's lines."""
        self.set_size()
        begun = self.begin()
        self.run_for(1)
        self.assertNoResult(begun)
        identity = format_id(member_id(("http://10.0.1.10:2380",), TOKEN))
        self.assertEqual(self.keys(), [f"{MEMBERS}{identity} infra0=http://10.0.1.10:2380"])
        waiting = self.line("waiting for peers from discovery service")
        self.assertEqual((waiting["clusterSize"], waiting["found_peers"]), (2, 1))
        self.assertEqual(waiting["discovery_token"], TOKEN)
        other = self.begin(self.settings(1))
        plans = [self.result(each) for each in (begun, other)]
        self.assertEqual(len({(each.cluster_id, each.members) for each in plans}), 1)
        self.assertEqual((plans[0].token, plans[0].new), (TOKEN, True))
        self.assertEqual(format_id(plans[0].member_id), identity)
        for text in (
            "Bootstrapping cluster using v3 discovery.",
            "register member itself successfully",
            "found peer from discovery service",
            "found all needed peers from discovery service",
            "discovery joined cluster successfully",
        ):
            self.assertIn(text, self.lines())

    def test_order(self) -> None:
        """DP3: the first by the revision that made their keys are the cluster."""
        self.set_size()
        self.register("f", "f=http://f:1")
        self.register("1", "one=http://one:1")
        self.register("f", "g=http://f:1")  # still the first
        self.register("0", "zero=http://zero:1")
        registry = V3Registry(self.settings().discovery_v3, self.client(), self.clock)
        looked = self.result(Meeting(registry, self.clock).look())
        self.assertEqual(looked, ("http://f:1", "http://one:1"))

    def test_full(self) -> None:
        """DP5: a full cluster is told of at once, and no key is written."""
        self.set_size()
        for n in range(2):
            self.register(str(n), f"x{n}=http://x{n}:1")
        error = self.refused()
        self.assertEqual(
            str(error), "failed to join discovery cluster (discovery: cluster is full)"
        )
        self.assertEqual(error.code, "ETW-BOOT-FULL")
        self.assertEqual(len(self.keys()), 2)
        self.assertIn("discovery failed to join cluster", self.lines())

    def test_sizes(self) -> None:
        """DI19, DI20: a size that is not there, or none; the hint has the command."""
        error = self.refused()
        self.assertEqual(
            str(error), "failed to join discovery cluster (discovery: size key not found)"
        )
        self.assertEqual(error.hint, f"etcdctl --endpoints=http://a:2379 put {SIZE} 3")
        for size in ("abc", "0", "-1", "3 "):
            self.set_size(size)
            self.assertIn("discovery: size key is bad", str(self.refused()))

    def test_resumed(self) -> None:
        """P30, DP8: a start after a crash goes on with its registration; without the note, or with
        another name, it is another's."""
        self.set_size()
        note = MemoryNote()
        first = self.begin(self.settings(note=note))
        self.run_for(1)
        first.cancel()
        self.failureResultOf(first)
        registered = self.keys()
        again = self.begin(self.settings(note=note))
        self.run_for(1)
        self.assertNoResult(again)
        self.assertEqual(self.keys(), registered)
        self.assertIn("previously registered", str(self.refused()))
        renamed = replace(self.settings(note=note), name="other")
        self.assertIn("previously registered", str(self.refused(renamed)))
        self.assertEqual(self.keys(), registered)

    def test_removed(self) -> None:
        """P30: a member that waits sees its own registration go, and is refused."""
        self.set_size()
        begun = self.begin()
        self.run_for(1)
        self.member.kv.delete_range(
            DeleteRangeRequest(key=MEMBERS.encode(), range_end=MEMBERS[:-1].encode() + b"0")
        )
        self.register("f", "f=http://f:1")
        self.run_for(1)
        error: Any = self.failureResultOf(begun, BootstrapError).value
        self.assertEqual(error.code, "ETW-BOOT-REMOVED")

    def test_look(self) -> None:
        """P3: ``--check`` shows who has registered, and registers nobody."""
        self.set_size()
        self.register("f", "f=http://f:1")
        looked = Deferred.fromCoroutine(token_state(self.settings(), self.client(), self.clock))
        self.assertEqual(
            str(self.result(looked)).splitlines()[:2],
            ["1 of 2 members have registered at token at http://a:2379", "f=http://f:1"],
        )
        self.assertEqual(len(self.keys()), 1)

    def test_deadline(self) -> None:
        """P4: a member that waits for others waits no longer than it is told to."""
        self.set_size()
        begun = self.begin(replace(self.settings(), timeout_seconds=10.0))
        self.run_for(11)
        error = self.failureResultOf(begun, BootstrapError).value
        self.assertIn("timed out waiting for other nodes", str(error))

    def test_strange_keys(self) -> None:
        """What is no member is noticed and does not count; what goes is not missed; a bad URL is
        refused."""
        self.set_size()
        self.register("zz", "nonsense")
        begun = self.begin()
        self.run_for(1)
        self.register("zy", "more nonsense")
        self.register("x", "x=http://x:1/path")
        self.member.kv.delete_range(DeleteRangeRequest(key=f"{MEMBERS}zy".encode()))
        self.run_for(1)
        error = self.failureResultOf(begun, BootstrapError).value
        self.assertIn("discovery: invalid peer URL", str(error))
        told = [each for each in self.said if "invalid peer info" in str(each.get("log_format"))]
        self.assertEqual({each["memberKey"] for each in told}, {f"{MEMBERS}zy", f"{MEMBERS}zz"})

    def test_tidied_token(self) -> None:
        """DP7: etcd joins token and path, so slashes that are too many do not count."""
        self.set_size("1")
        asked = replace(self.settings().discovery_v3, token="/x/../token//")
        plan = self.result(self.begin(replace(self.settings(), discovery_v3=asked)))
        self.assertEqual(plan.token, "/x/../token//")


class FaultTests(V3Case):
    def test_away(self) -> None:
        """DI24: a service that is away is asked again after 2, 4, … s; each try is bounded by the
        request's time, and the log says what is wrong."""
        for host in self.hosts:
            self.down(host)
        self.set_size("1")
        begun = self.begin()
        self.run_for(5 + 2 + 5 + 4 + 5 + 1)
        self.assertNoResult(begun)
        retries = [
            each for each in self.said
            if each.get("log_format") == "retry connecting to discovery service"
        ]  # fmt: skip
        self.assertEqual([each["backoff"] for each in retries], ["2s", "4s", "8s"])
        self.assertIn("Connection was refused", retries[0]["error"])
        self.assertEqual(retries[0]["reason"], "cluster status check")
        self.up("b")
        self.result(begun)

    def test_silent(self) -> None:
        """Endpoints that take connections and requests, and never answer."""
        self.silent = True
        self.set_size("1")
        begun = self.begin()
        self.run_for(6)
        self.assertIn("failed to get cluster size from discovery service", self.lines())
        self.silent = False
        self.result(begun)

    def test_dies_while_waiting(self) -> None:
        """DI25: a service that dies meanwhile is told of, and whoever came is found later."""
        self.set_size()
        begun = self.begin()
        self.run_for(1)
        for host in self.hosts:
            self.down(host)
        self.run_for(60)
        self.assertIn("retry connecting to discovery service", self.lines())
        self.register("x", "x=http://x:1")
        for host in self.hosts:
            self.up(host)
        self.result(begun, 60)

    def test_lost_answer(self) -> None:
        """A registration whose answer is lost is found, and not taken for another's."""
        self.set_size("1")
        begun = self.begin()
        while not self.tokens:
            assert self.time.step(), "nothing happens any more"
        for host in self.hosts:
            self.network.reset(host)
        self.result(begun)

    def test_compacted(self) -> None:
        """DP4: history that was compacted away while nobody listened is asked for anew."""
        self.set_size()
        begun = self.begin()
        self.run_for(1)
        for host in self.hosts:
            self.down(host)
        self.register("x", "x=http://x:1")
        self.set_size()
        self.member.kv.compaction(CompactionRequest(revision=4))
        self.up("a")
        self.result(begun, 60)

    def test_garbage(self) -> None:
        """Answers that are none are told of, and asked for again."""
        self.set_size("1")
        self.garbage = True
        begun = self.begin()
        self.run_for(2)
        self.assertNoResult(begun)
        line = self.line("failed to register members itself to the discovery service")
        self.assertIn("was answered with no TxnResponse", line["error"])
        self.garbage = False
        self.result(begun)

    def test_refused(self) -> None:
        """What asking again does not change ends the start."""
        self.set_size("1")
        for code in (Code.PERMISSION_DENIED, Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED):
            self.refusal = StatusError(code, "etcdserver: no")
            self.assertIn("(etcdserver: no)", str(self.refused()))


class UserTests(V3Case):
    def test_token(self) -> None:
        """DP7: a user's token goes along with every call; a new one is fetched after a fault."""
        self.set_size()
        self.users = "first"
        begun = self.begin(self.settings(user="u", password="p"))
        self.run_for(1)
        self.assertEqual(self.tokens, ["u:p:first"])
        for host in self.hosts:
            self.down(host)
        self.run_for(60)
        self.users = "second"
        self.up("a")
        self.assertNoResult(begun)
        self.register("x", "x=http://x:1")
        self.result(begun, 60)

    def test_in_one_word(self) -> None:
        """``--discovery-user name:password`` is a pair as well."""
        self.set_size("1")
        self.users = "t"
        self.result(self.begin(self.settings(user="u:p:q")))
        self.assertEqual(self.tokens, ["u:p:q:t"])

    def test_no_auth(self) -> None:
        """A service with auth off lets everybody in, as with etcd's own client."""
        self.set_size("1")
        self.result(self.begin(self.settings(user="u", password="p")))
        self.assertEqual(self.tokens, [""])

    def test_no_users(self) -> None:
        """A service that cannot authenticate says so, and the hint what to do."""
        self.users = Unimplemented("etcdserver: Auth/Authenticate is not available in this build")
        error = self.refused(self.settings(user="u", password="p"))
        self.assertIn("Auth/Authenticate is not available", str(error))
        self.assertIn("--discovery-user has to be left out", error.hint)

    def test_wrong_password(self) -> None:
        """A wrong password ends the start."""
        text = "etcdserver: authentication failed, invalid user ID or password"
        self.users = StatusError(Code.INVALID_ARGUMENT, text)
        self.assertIn(text, str(self.refused(self.settings(user="u", password="p"))))


class SettingsTests(V3Case):
    def refusal_of(self, **v3: Any) -> BootstrapError:
        """Before anybody is asked."""
        asked = DiscoverySettings(token=TOKEN, **{"endpoints": ("a:1",), **v3})
        settings = replace(self.settings(), discovery_v3=asked)
        begun = DiscoveryV3Provider(self.clock).plan(settings)
        error = self.failureResultOf(begun, BootstrapError).value
        assert isinstance(error, BootstrapError)
        return error

    def test_chosen(self) -> None:
        """DP7: endpoints choose it, and nothing else does."""
        self.assertIs(choose_factory(self.settings(), BUILT_IN), DISCOVERY_V3)
        self.assertFalse(claims_discovery_v3(BootstrapSettings(name="a", peer_urls=())))

    def test_refused(self) -> None:
        """Settings that cannot work name their flag."""
        for v3, flag, words in (
            ({"endpoints": ("http://",)}, "discovery-endpoints", "is not of the form host:port"),
            ({"endpoints": ("ftp://a:1",)}, "discovery-endpoints", "the scheme must be"),
            ({"user": "u"}, "discovery-password", "there is no password"),
            ({"cert": "/none.crt"}, "discovery-cert", "KeyFile and CertFile must both be present"),
            ({"cacert": "/none.crt"}, "discovery-cert", "/none.crt"),
        ):  # fmt: skip
            error = self.refusal_of(**v3)
            self.assertEqual(error.flag, flag)
            self.assertIn(words, error.reason)

    def test_existing(self) -> None:
        """CR5: joining a cluster needs no discovery."""
        settings = replace(self.settings(), initial_cluster_state="existing")
        begun = DiscoveryV3Provider(self.clock).plan(settings)
        self.assertIn("joining existing", str(self.failureResultOf(begun, BootstrapError).value))

    def test_times_and_tls(self) -> None:
        """DP7: TLS flags make https of endpoints without a scheme; pings are at least 10 s apart,
        for servers end connections that have more."""
        plain = DiscoverySettings(token="t", endpoints=("a:1", "http://b:1"))
        for asked, scheme in (
            (plain, "http"),
            (replace(plain, insecure_transport=False), "https"),
            (replace(plain, insecure_skip_tls_verify=True), "https"),
        ):
            self.assertEqual(endpoints_of(asked), [f"{scheme}://a:1", "http://b:1"])
        for given, used in ((2.0, 10.0), (30.0, 30.0), (0.0, 0.0)):
            found = keepalive_of(DiscoverySettings(keepalive_time=given))
            self.assertEqual((found.seconds, found.timeout, found.while_idle), (used, 6.0, False))

    def test_password_is_not_shown(self) -> None:
        """The record of the settings does not print it."""
        settings = DiscoverySettings(user="u:secret", password="secret")
        self.assertNotIn("secret", repr(settings))
