"""Unary calls: options, errors, retries and time limits."""

from __future__ import annotations

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from etcdtw.client import Txn, created, lease_of, modified, value, version
from etcdtw.client.endpoints import Address, parse_endpoint, plain_connector
from etcdtw.client.ranges import prefix_end
from etcdtw.client.txn import delete, get, put
from etcdtw.errors import Code, EtcdError, FutureRevision, LeaderChanged, NoLeader, StatusError
from etcdtw.pb.rpc_pb2 import Compare, TxnRequest
from etcdtw.rpc import ClientPortFactory, ServerSettings
from etcdtw.rpc.outgoing import SETTINGS_SECONDS, Keepalive
from tests.client.servers import PORT, Servers


class CallTests(Servers):
    def test_keys(self) -> None:
        """Text is its UTF-8; a prefix takes all below it, the empty one all there is."""
        client = self.client()
        for key in ("a/1", b"a/2", "b", "é"):
            self.result(client.kv.put(key, key))
        self.assertEqual([kv.key for kv in self.result(client.kv.get("a/", prefix=True)).kvs],
                         [b"a/1", b"a/2"])  # fmt: skip
        self.assertEqual(self.result(client.kv.get("", prefix=True, limit=2)).count, 4)
        self.assertEqual(self.result(client.kv.get("é")).kvs[0].value, "é".encode())
        self.assertEqual(self.result(client.kv.delete("a/", prefix=True)).deleted, 2)

    def test_errors(self) -> None:
        """An error of etcd can be caught by its class."""
        client = self.client()
        error = self.error(client.kv.get("a", revision=99), FutureRevision)
        self.assertEqual(error.code, Code.OUT_OF_RANGE)

    def test_unknown_method(self) -> None:
        """What the server does not know is an error with its text."""
        error = self.error(self.client().maintenance.status(), StatusError)
        self.assertEqual(
            (error.code, str(error)),
            (Code.UNIMPLEMENTED, "unknown service etcdserverpb.Maintenance"),
        )

    def test_nonsense(self) -> None:
        """An answer that is no message of its kind is an error that names the call."""
        path = "/etcdserverpb.Maintenance/Status"
        for router in self.routers.values():
            router.add_unary(path, lambda call, body: call.reply(b"\xff\xff\xff"))
        error = self.error(self.client().maintenance.status(), StatusError)
        self.assertEqual(
            (error.code, str(error)), (Code.INTERNAL, f"{path} was answered with no StatusResponse")
        )
        self.assertLess(self.time.now, 1.0)

    def test_next_endpoint(self) -> None:
        """A member that is down is passed over, also when it goes down later."""
        self.down("a")
        client = self.client()
        self.result(client.kv.put("k", "1"))
        self.down("b")
        self.assertEqual(self.result(client.kv.get("k")).kvs[0].value, b"1")
        self.assertLess(self.time.now, 1.0)

    def test_waits_for_a_server(self) -> None:
        """With nobody there a call waits, and is made when somebody comes."""
        for host in self.hosts:
            self.down(host)
        client = self.client()
        waiting = client.kv.put("k", "1")
        self.run_for(2)
        self.assertNoResult(waiting)
        self.up("c")
        self.result(waiting)
        self.assertEqual(self.puts, 1)

    def test_nobody_comes(self) -> None:
        """It fails at its time limit, and says what was found at the last endpoint."""
        for host in self.hosts:
            self.down(host)
        error = self.error(self.client().kv.put("k", "1", timeout=2), StatusError)
        self.assertEqual(error.code, Code.UNAVAILABLE)
        self.assertRegex(str(error), r"no endpoint answers: [abc]:2379: Connection was refused")
        self.assertAlmostEqual(self.time.now, 2, places=1)

    def test_unreachable(self) -> None:
        """A host that swallows everything costs one connection timeout, not the call."""
        self.network.separate("client", "a")
        self.result(self.client(timeout_seconds=10).kv.put("k", "1"))

    def test_write_under_way(self) -> None:
        """A write that a lost member may have carried out is not made again."""
        client = self.client()
        self.result(client.kv.put("k", "0"))
        self.silent = True
        waiting = client.kv.put("k", "1")
        self.run_for(1)
        self.down("a")
        error = self.error(waiting, StatusError)
        self.assertEqual(error.code, Code.UNAVAILABLE)
        self.assertEqual(self.puts, 2)

    def test_read_under_way(self) -> None:
        """A read is made again elsewhere."""
        client = self.client()
        self.result(client.kv.put("k", "0"))
        self.silent = True
        waiting = client.kv.get("k")
        self.run_for(1)
        self.silent = False
        self.down("a")
        self.assertEqual(self.result(waiting).kvs[0].value, b"0")

    def test_read_while_electing(self) -> None:
        """A read that no leader could serve is made again; a write is not."""
        client = self.client()
        self.refusal = NoLeader()
        waiting = client.kv.get("k")
        self.run_for(0.5)
        self.assertNoResult(waiting)
        self.error(client.kv.put("k", "1"), NoLeader)
        self.refusal = LeaderChanged()
        self.run_for(0.5)
        self.refusal = None
        self.result(waiting)

    def test_timeout(self) -> None:
        """An answer that does not come in time is DeadlineExceeded."""
        client = self.client()
        self.silent = True
        error = self.error(client.kv.put("k", "1", timeout=1), StatusError)
        self.assertEqual(error.code, Code.DEADLINE_EXCEEDED)

    def test_cancel(self) -> None:
        """A cancelled call is cancelled on the server too."""
        client = self.client()
        self.silent = True
        waiting = client.kv.put("k", "1")
        self.run_for(0.5)
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        self.run_for(0.5)
        handled = self.routers["a"].find("/etcdserverpb.KV/Put")
        assert not isinstance(handled, EtcdError)
        self.assertEqual(handled.handled[Code.CANCELED], 1)

    def test_closed(self) -> None:
        """Calls under way and later ones fail when the client is closed."""
        client = self.client()
        self.silent = True
        waiting = client.kv.put("k", "1")
        self.run_for(0.5)
        client.close()
        self.error(waiting, StatusError)
        self.assertIn("closed", str(self.error(client.kv.get("k"), StatusError)))

    def test_large(self) -> None:
        """A megabyte goes both ways in small pieces."""
        self.network._piece_bytes_max = 9000
        client = self.client()
        data = bytes(range(256)) * 4096
        self.result(client.kv.put("k", data))
        self.assertEqual(self.result(client.kv.get("k")).kvs[0].value, data)

    def test_new_endpoints(self) -> None:
        """Endpoints may change; the connection to one that is gone is left."""
        client = self.client("a")
        self.result(client.kv.put("k", "1"))
        client.set_endpoints([f"b:{PORT}"])
        self.down("a")
        self.assertEqual(self.result(client.kv.get("k")).kvs[0].value, b"1")

    def test_refused_endpoints(self) -> None:
        """New endpoints that cannot be reached are refused as at the start, and the others stay."""
        client = self.client("a")
        client.channel._connector = plain_connector(None)
        for endpoints in ([], ["ftp://b"], ["https://b:2379"]):
            with self.assertRaises(ValueError):
                client.set_endpoints(endpoints)
        self.assertEqual(client.channel._address().host, "a")

    def test_closed_while_leaving(self) -> None:
        """A connection that was left for another one ends with the client, and no timer stays."""
        client = self.client("a", "b")
        self.result(client.kv.put("k", "1"))
        self.result(client.watch("k").when_created())
        first = client.channel._connection
        assert first is not None, "a call was answered"
        self.refusal = NoLeader()
        waiting = client.kv.get("k")
        self.run_for(0.5)
        self.assertFalse(first.finished)
        client.close()
        self.run_for(0.1)
        self.error(waiting, StatusError)
        self.assertTrue(first.finished)

    def test_silent_endpoint(self) -> None:
        """One that accepts connections and says nothing, as a stopped process does, is passed
        over."""
        self.down("a")
        self.network.listen("a", PORT, Factory.forProtocol(Protocol))
        client = self.client()
        self.assertEqual(self.result(client.kv.get("k", timeout=10)).kvs, [])
        self.assertLess(self.time.now, 2 * SETTINGS_SECONDS)

    def test_few_at_once(self) -> None:
        """What a server does not take at once waits its turn, on the one connection; also while
        another endpoint has to be found meanwhile."""
        factories = {}
        for host in self.hosts:
            self.down(host)
            settings = ServerSettings(max_concurrent_streams=2)
            factories[host] = ClientPortFactory(self.routers[host], None, settings, self.clock)
            self.network.listen(host, PORT, factories[host])
        client = self.client()
        self.result(client.kv.put("k", "1"))
        for _ in range(5):
            for each in [client.kv.get("k") for _ in range(7)]:
                self.result(each)
            self.assertEqual(factories["a"].connection_count, 1)
        waiting = [client.kv.get("k") for _ in range(7)]
        self.down("a")
        for each in waiting:
            self.result(each)
        self.assertEqual(factories["b"].connection_count, 1)

    def test_idle_connection(self) -> None:
        """Nobody is asked whether he is there while no call is under way: etcd ends the connection
        of whoever does so more than twice in two hours. The next call makes up for it."""
        connected: list[str] = []
        endpoint = self.network.endpoint

        def noting(source: str, host: str, port: int) -> IStreamClientEndpoint:
            connected.append(host)
            return endpoint(source, host, port)

        self.patch(self.network, "endpoint", noting)
        client = self.client()
        self.result(client.kv.put("k", "1"))
        before = list(connected)
        self.run_for(600)
        self.result(client.kv.get("k"))
        self.assertEqual(connected, before)
        self.network.separate("client", "a")
        self.run_for(600)
        self.assertEqual(self.result(client.kv.get("k", timeout=25)).kvs[0].value, b"1")

    def test_dead_connection(self) -> None:
        """A connection on which nothing arrives any more is given up by keepalive."""
        client = self.client(keepalive=Keepalive(30.0, while_idle=True))
        self.result(client.kv.put("k", "1"))
        self.network.separate("client", "a")
        self.run_for(60)
        self.assertEqual(self.result(client.kv.get("k")).kvs[0].value, b"1")


class TxnTests(Servers):
    def test_request(self) -> None:
        """A transaction is written as it reads."""
        sent: list[TxnRequest] = []
        txn = Txn(lambda request: sent.append(request))  # type: ignore[arg-type, return-value]
        txn.when(version("a") == 0, value("b") != "x", created("c") < 5, modified("d") > 6)
        txn.when(lease_of("e", prefix=True) == 7)
        txn.then(put("a", "1", lease=3)).otherwise(get("a", prefix=True), delete("b")).commit()
        request = sent[0]
        self.assertEqual(
            [(each.key, each.target, each.result) for each in request.compare],
            [
                (b"a", Compare.VERSION, Compare.EQUAL),
                (b"b", Compare.VALUE, Compare.NOT_EQUAL),
                (b"c", Compare.CREATE, Compare.LESS),
                (b"d", Compare.MOD, Compare.GREATER),
                (b"e", Compare.LEASE, Compare.EQUAL),
            ],
        )
        self.assertEqual(request.compare[4].range_end, b"f")
        self.assertEqual(request.success[0].request_put.lease, 3)
        self.assertEqual(request.failure[0].request_range.range_end, b"b")
        self.assertEqual(request.failure[1].request_delete_range.key, b"b")


class EndpointTests(Servers):
    def test_parsed(self) -> None:
        """Every way to write an endpoint."""
        for text, expected in (
            ("a", Address("http", "a", 2379)),
            ("a:1", Address("http", "a", 1)),
            ("http://a:1/", Address("http", "a", 1)),
            ("https://[::1]:5", Address("https", "::1", 5)),
            ("[::1]", Address("http", "::1", 2379)),
            ("unix://x/y.sock", Address("unix", path="x/y.sock")),
        ):
            self.assertEqual(parse_endpoint(text), expected)
        self.assertEqual(Address("http", "::1", 5).authority, "[::1]:5")

    def test_refused(self) -> None:
        """What is no endpoint is refused by name."""
        for text in (
            "ftp://a",
            "http://",
            "a:x",
            "a:0",
            "a:65536",
            "a:1:2",
            "http://a/b",
            "unix://",
        ):
            with self.assertRaisesRegex(ValueError, "endpoint"):
                parse_endpoint(text)
        with self.assertRaisesRegex(ValueError, "at least one"):
            self.client().__class__(self.clock, [])

    def test_prefix_end(self) -> None:
        """The end of a prefix is the next one; bytes of 255 carry over."""
        for prefix, end in ((b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"", b"\0")):
            self.assertEqual(prefix_end(prefix), end)
