"""The proxy between clients and members on a simulated network."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint

from etcdtw.client import Client, Watch, WatchCompacted
from etcdtw.client.endpoints import Address
from etcdtw.errors import (
    Code,
    EmptyKey,
    EtcdError,
    FutureRevision,
    NoLeader,
    StatusError,
    Stopped,
    TooManyRequests,
)
from etcdtw.pb.rpc_pb2 import (
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
    PutRequest,
    RangeRequest,
    RangeResponse,
    StatusRequest,
    StatusResponse,
)
from etcdtw.proxy.grpc import lease_service
from etcdtw.proxy.grpc.members import read_record, record_of
from etcdtw.proxy.grpc.proxy import GrpcProxy, ProxySettings
from etcdtw.proxy.grpc.watch_service import PATH as WATCH_PATH
from etcdtw.proxy.grpc.watch_stream import WatchLimits
from etcdtw.rpc import ClientPortFactory, ServerSettings
from tests.api_v3.member import Member
from tests.client.servers import PORT, Servers

PROXY = "proxy"


class ProxyCase(Servers):
    piece_bytes_max = 500
    settings = ProxySettings()

    def setUp(self) -> None:
        super().setUp()
        self.member.lessor.promote(0, self.clock.seconds())
        self.member.expirer.start()
        self.addCleanup(self.member.expirer.stop)
        self.proxy = self.begin(PROXY, self.settings)

    def begin(self, host: str, settings: ProxySettings) -> GrpcProxy:
        def connector(address: Address) -> IStreamClientEndpoint:
            return self.network.endpoint(host, address.host, address.port)

        upstream = Client(
            self.clock,
            [f"http://{each}:{PORT}" for each in self.hosts],
            connector=connector,
            dice=random.Random(self.seed),
        )
        proxy = GrpcProxy(upstream, settings, WatchLimits(blocked_bytes_max=100_000))
        proxy.start()
        self.addCleanup(proxy.stop)
        factory = ClientPortFactory(proxy.router, None, ServerSettings(), self.clock)
        self.network.listen(host, PORT, factory)
        return proxy

    def through(self, host: str = PROXY, **options: Any) -> Client:
        return self.client(host, **options)

    def write(self, key: bytes = b"k", value: bytes = b"v") -> int:
        """As somebody who is connected to a member does; the revision."""
        self.member.kv.put(PutRequest(key=key, value=value))
        return self.member.store.revision


class CallTests(ProxyCase):
    def test_forwarded(self) -> None:
        """GX1: calls come back as the member answers them, refusals and what nobody serves too."""
        client = self.through()
        put = self.result(client.kv.put("k", "1"))
        self.assertEqual(put.header.revision, 2)
        self.assertEqual(self.result(client.kv.get("k")).kvs[0].value, b"1")
        self.error(client.kv.compact(9), FutureRevision)
        asked = client.channel.call(
            "/etcdserverpb.Maintenance/Status", StatusRequest(), StatusResponse, 5.0, True
        )
        self.assertEqual(self.error(asked, StatusError).code, Code.UNIMPLEMENTED)

    def test_failover(self) -> None:
        """Reads are made elsewhere when a member dies under them, and nobody notices."""
        client = self.through()
        self.result(client.kv.put("k", "1"))
        for host in ("a", "b"):
            self.down(host)
            self.assertEqual(self.result(client.kv.get("k")).count, 1)

    def test_nobody_there(self) -> None:
        """Without any member a call ends with the reason, in time."""
        for host in self.hosts:
            self.down(host)
        client = self.through(timeout_seconds=20.0)
        error = self.error(client.kv.put("k", "1"), EtcdError)
        self.assertIn("no endpoint answers", str(error))

    def test_too_large(self) -> None:
        """--max-send-bytes bounds what goes to the cluster, in grpc-go's words."""
        self.begin("small", ProxySettings(send_bytes_max=100))
        client = self.through("small")
        error = self.error(client.kv.put("k", "v" * 100), StatusError)
        self.assertEqual(error.code, Code.RESOURCE_EXHAUSTED)
        self.assertIn("trying to send message larger than max (105 vs. 100)", str(error))


class WatchTests(ProxyCase):
    def test_members_die(self) -> None:
        """P23: a watch through the proxy misses nothing and repeats nothing when members go."""
        client = self.through()
        watch = client.watch("k")
        self.result(watch.when_created())
        seen: list[int] = []
        for host in ("a", "b", "a"):
            self.write()
            self.run_for(0.2)
            self.down(host)
            self.write()
            self.run_for(2.0)
            self.up(host)
        self.run_for(5.0)
        seen = [each.kv.mod_revision for each in self.result(watch.next_events())]
        self.assertEqual(seen, list(range(2, 8)))

    def test_faults(self) -> None:
        """P23: members and connections die at any time, clients come at any time and from any
        revision: each gets all events from its first on, once."""
        dice = random.Random(7)
        down: list[str] = []
        watches: list[tuple[Watch, int]] = []
        for _ in range(120):
            choice = dice.random()
            if choice < 0.5:
                self.write()
            elif choice < 0.7 and len(watches) < 20:
                revision = self.member.store.revision
                start = dice.randint(max(revision - 5, 1), revision + 2)
                watches.append((self.through().watch("k", start_revision=start), start))
            elif choice < 0.8:
                self.network.reset(dice.choice((*self.hosts, PROXY)))
            elif choice < 0.9 and not down:
                down.append(dice.choice(self.hosts))
                self.down(down[0])
            elif down:
                self.up(down.pop())
            self.run_for(dice.choice((0.0, 0.01, 0.3)))
        self.run_for(20.0)
        last = self.member.store.revision
        self.assertGreater(len(watches), 10)
        for watch, start in watches:
            seen = [each.kv.mod_revision for each in self.result(watch.next_events())]
            self.assertEqual(seen, list(range(max(start, 2), last + 1)))
        self.assertEqual(self.member.hub.watchers, 1)

    def test_shared(self) -> None:
        """GX1: a hundred clients are one watch at the member."""
        clients = [self.through() for _ in range(100)]
        watches = [each.watch("k") for each in clients]
        for each in watches:
            self.result(each.when_created())
        self.run_for(1.0)
        self.assertEqual(self.member.hub.watchers, 1)
        self.assertEqual(self.proxy.watches.counts.watchers, 99)
        self.write()
        for each in watches:
            self.assertEqual(len(self.result(each.next_events())), 1)
        for client in clients:
            client.close()
        self.run_for(1.0)
        self.assertEqual((self.member.hub.watchers, len(self.proxy.watches._sessions)), (0, 0))

    def test_compacted(self) -> None:
        """P23: whoever asks for what is gone is told from where he may begin."""
        for _ in range(5):
            self.write()
        client = self.through()
        self.result(client.kv.compact(4))
        watch = client.watch("k", start_revision=2)
        error = self.error(watch.next_events(), WatchCompacted)
        self.assertEqual(error.compact_revision, 4)

    def test_went_back(self) -> None:
        """P23: members that come back with an older state, from a backup say, end the watches, with
        the revision to begin from."""
        watch = self.through().watch("k")
        self.result(watch.when_created())
        for _ in range(5):
            self.write()
        self.run_for(1.0)
        self.assertEqual(len(self.result(watch.next_events())), 5)
        for host in self.hosts:
            self.down(host)
        self.member = Member(clock=self.clock)
        self.write()
        for host in self.hosts:
            self.up(host)
        error = self.error(watch.next_events(), WatchCompacted)
        self.assertEqual(error.compact_revision, 3)

    def test_members_refuse(self) -> None:
        """Members that refuse the stream are asked again now and then, not all the time, and the
        watch goes on when one takes it."""
        watch = self.through().watch("k")
        self.result(watch.when_created())
        for host in self.hosts:
            self.routers[host].close(Stopped(), ())
            self.network.reset(host)
        self.write()
        self.run_for(20.0)
        asked = 0
        for host in self.hosts:
            method = self.routers[host].find(WATCH_PATH)
            assert not isinstance(method, EtcdError), "members serve watches"
            asked += method.started
            self.routers[host].reopen()
        self.assertLess(asked, 40)
        self.run_for(5.0)
        self.assertEqual(len(self.result(watch.next_events())), 1)

    def test_no_leader(self) -> None:
        """A client that wants to know when there is no leader is told, another one is not."""
        patient, wanting = self.through(), self.through(metadata={"hasleader": "true"})
        watches = [each.watch("k") for each in (patient, wanting)]
        for each in watches:
            self.result(each.when_created())
        self.assertEqual(self.member.hub.watchers, 2)
        ended: list[EtcdError | None] = []
        stream = wanting._watches
        self.patch(stream, "stream_ended", lambda error, answered: ended.append(error))
        self.member.watches.leader_changed(0)
        self.run_for(4.0)
        self.assertEqual([type(each) for each in ended], [NoLeader])
        self.write()
        self.assertEqual(len(self.result(watches[0].next_events())), 1)

    def test_slow_reader(self) -> None:
        """P23: a client that does not read holds up nobody, costs bounded memory, and gets all
        there was when it reads again."""
        quick = self.through().watch("k")
        self.result(quick.when_created())
        slow_client = self.through()
        slow = slow_client.watch("k")
        self.result(slow.when_created())
        connection: Any = slow_client.channel._connection
        connection.transport.pauseProducing()
        for _ in range(300):
            self.write(value=b"v" * 5000)
            self.run_for(0.01)
        self.run_for(10.0)
        self.assertEqual(len(self.result(quick.next_events())), 300)
        (session,) = self.proxy.watches._sessions.values()
        self.assertEqual([each._is_parked for each in session._streams], [False, True])
        connection.transport.resumeProducing()
        self.run_for(30.0)
        found = self.result(slow.next_events())
        self.assertEqual([each.kv.mod_revision for each in found], list(range(2, 302)))

    def test_progress(self) -> None:
        """P23: an asked-for progress answer comes, behind the events before it."""
        client = self.through()
        watch = client.watch("k")
        self.result(watch.when_created())
        self.write(b"other")
        client._watches.ask_progress()
        self.run_for(1.0)
        (session,) = self.proxy.watches._sessions.values()
        self.assertEqual(session._asking, {})


class CacheTests(ProxyCase):
    def get(self, client: Client) -> list[bytes]:
        return [each.value for each in self.result(client.kv.get("k", serializable=True)).kvs]

    def test_hits(self) -> None:
        """GX1: the same serializable range is asked for once; writes through the proxy end it at
        once, those of others as soon as the cluster tells."""
        client = self.through()
        cache = self.proxy.kv.cache
        self.result(client.kv.put("k", "1"))
        self.assertEqual([self.get(client) for _ in range(3)], [[b"1"]] * 3)
        self.assertEqual((cache.hits, cache.misses, len(cache)), (2, 1, 1))
        self.result(client.kv.put("k", "2"))
        self.assertEqual(self.get(client), [b"2"])
        self.run_for(1.0)
        self.write(b"k", b"3")
        self.run_for(1.0)
        self.assertEqual((len(cache), self.proxy.watches._sessions), (0, {}))
        self.assertEqual(self.get(client), [b"3"])

    def test_not_shared(self) -> None:
        """What one user was told is not told to another."""
        self.result(self.through().kv.put("k", "1"))
        for token in ("one", "two", "one"):
            self.get(self.through(metadata={"token": token}))
        self.assertEqual((self.proxy.kv.cache.hits, self.proxy.kv.cache.misses), (1, 2))

    def test_lost(self) -> None:
        """While the cluster cannot be heard nothing is kept."""
        client = self.through()
        self.get(client)
        self.run_for(1.0)
        self.assertEqual(len(self.proxy.kv.cache), 1)
        self.down("a")
        self.run_for(0.1)
        self.assertEqual(len(self.proxy.kv.cache), 0)


class OrderTests(ProxyCase):
    settings = ProxySettings(ordered=True)

    def test_never_back(self) -> None:
        """--experimental-serializable-ordering: an answer older than an earlier one is not passed
        on; the cluster as a whole is asked instead."""
        asked: list[bool] = []
        serve = self.member.kv.range

        def noted(request: RangeRequest) -> bytes:
            asked.append(request.serializable)
            return serve(request)

        self.patch(self.member.kv, "range", noted)
        for host in self.hosts:
            self.down(host)
            self.up(host)
        client = self.through()
        self.result(client.kv.get("k", serializable=True))
        self.assertEqual(asked, [True])
        self.proxy.kv._seen_revision = 9  # by another member
        self.result(client.kv.get("k", serializable=True))
        self.assertEqual((asked, self.proxy.kv.cache.misses), ([True, True, False], 0))


class LeaseTests(ProxyCase):
    def test_kept(self) -> None:
        """GX1: clients who keep the same lease share a stream; the lease lives while one of them
        does, and all are told when it is gone."""
        client = self.through()
        lease = self.result(client.keep_lease(5))
        other = self.through()
        kept = other._keeper.keep(lease.id, lease.ttl)
        self.run_for(20.0)
        self.assertEqual((lease.is_lost, kept.is_lost), (False, False))
        (session,) = self.proxy.leases._sessions.values()
        self.assertEqual(len(session._keepers), 2)
        self.result(self.through().leases.revoke(lease.id))
        self.run_for(5.0)
        self.assertEqual((lease.is_lost, kept.is_lost), (True, True))
        for each in (client, other):
            each.close()
        self.run_for(1.0)
        self.assertEqual(self.proxy.leases._sessions, {})

    def test_member_dies(self) -> None:
        """A renewal that was not answered is made at another member."""
        lease = self.result(self.through().keep_lease(6))
        self.down("a")
        self.run_for(20.0)
        self.assertFalse(lease.is_lost)

    def test_too_many(self) -> None:
        """While the cluster is away, one client's wishes do not become more and more."""
        for host in self.hosts:
            self.down(host)
        self.patch(lease_service, "WISHES_MAX", 20)
        keeper = self.through()._keeper
        for lease_id in range(1, 22):
            keeper.keep(lease_id, 60)
        ended: list[EtcdError | None] = []
        self.patch(keeper, "stream_ended", lambda error, answered: ended.append(error))
        self.run_for(25.0)
        self.assertEqual([type(each) for each in ended], [TooManyRequests])
        self.assertEqual(self.proxy.leases._sessions, {})


class NamespaceTests(ProxyCase):
    settings = ProxySettings(namespace=b"ns/")

    def test_keys(self) -> None:
        """GX1: the client sees its keys, the cluster has them with the prefix; other keys are not
        to be seen, not even from the last one on."""
        client = self.through()
        for key in (b"a", b"nt"):
            self.write(key)
        self.result(client.kv.put("k", "1"))
        found = self.member.kv.range(RangeRequest(key=b"ns/k"))
        self.assertEqual(RangeResponse.FromString(found).count, 1)
        everything = self.result(client.kv.get("", prefix=True))
        self.assertEqual([each.key for each in everything.kvs], [b"k"])
        self.assertEqual(self.result(client.kv.delete("", prefix=True, prev_kv=True)).deleted, 1)
        self.error(client.kv.get(""), EmptyKey)

    def test_watch(self) -> None:
        """GX1: so it is with events and the keys of a lease."""
        client = self.through()
        watch = client.watch("", prefix=True)
        self.result(watch.when_created())
        self.write(b"a")
        granted = self.result(client.leases.grant(100))
        self.result(client.kv.put("k", "1", lease=granted.ID))
        self.member.kv.put(PutRequest(key=b"beside", lease=granted.ID))
        (event,) = self.result(watch.next_events())
        self.assertEqual(event.kv.key, b"k")
        request = LeaseTimeToLiveRequest(ID=granted.ID, keys=True)
        told = self.result(
            client.channel.call(
                "/etcdserverpb.Lease/LeaseTimeToLive",
                request,
                LeaseTimeToLiveResponse,
                5.0,
                True,
            )
        )
        self.assertEqual(list(told.keys), [b"k"])

    def test_cache(self) -> None:
        """What is written inside of the namespace ends what is kept of it."""
        client = self.through()
        for value in ("1", "2"):
            self.result(client.kv.put("k", value))
            found = self.result(client.kv.get("k", serializable=True))
            self.assertEqual(found.kvs[0].value, value.encode())
        self.assertEqual(self.proxy.kv.cache.hits, 0)


class MemberTests(ProxyCase):
    settings = ProxySettings(
        address="proxy:2379", name="host", resolver_prefix="___grpc", resolver_ttl=5
    )

    def listed(self, host: str = PROXY) -> list[tuple[str, list[str]]]:
        members = self.result(self.through(host).cluster.members()).members
        return sorted((each.name, list(each.clientURLs)) for each in members)

    def test_proxies(self) -> None:
        """GX1: proxies of one prefix know each other, and forget whoever is gone."""
        self.run_for(1.0)
        other = ProxySettings(
            address="other:2379", name="host2", resolver_prefix="___grpc", resolver_ttl=5
        )
        second = self.begin("other", other)
        self.run_for(2.0)
        both = [("host", ["proxy:2379"]), ("host2", ["other:2379"])]
        self.assertEqual((self.listed(), self.listed("other")), (both, both))
        found = RangeResponse.FromString(
            self.member.kv.range(RangeRequest(key=b"___grpc/proxy:2379"))
        )
        self.assertEqual(
            found.kvs[0].value,
            b'{"Op":0,"Addr":"proxy:2379","Metadata":"{\\"name\\":\\"host\\"}"}',
        )
        second.stop()
        self.network.stop_listening("other", PORT)
        self.run_for(20.0)
        self.assertEqual(self.listed(), both[:1])

    def test_refused(self) -> None:
        """Whose record is refused does not keep a lease for each attempt."""
        self.proxy.stop()
        self.run_for(10.0)
        self.refusal = StatusError(Code.PERMISSION_DENIED, "etcdserver: permission denied")
        self.begin("other", self.settings)
        self.run_for(20.0)
        self.assertLess(len(self.member.lessor), 2)

    def test_records(self) -> None:
        """A record reads as it was written; anything else is refused."""
        self.assertEqual(read_record(record_of("a:1", "n")), ("a:1", "n"))
        for wrong in (b"", b"{}", b'{"Addr":"a","Metadata":1}', b"[]", b"[" * 100_000):
            self.assertRaises(ValueError, read_record, wrong)
