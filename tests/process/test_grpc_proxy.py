"""The gRPC proxy as a process, in front of members of ours and of real etcd, and etcdctl; etcd's
proxy in the same place says what is right."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etcdtw.pb.rpc_pb2 import WatchRequest
from tests.process.cluster import client_of, until
from tests.process.foreign import ForeignClient, Stream
from tests.process.grpc_proxies import GrpcProxyProcess
from tests.process.member import Member, etcdctl, real_etcd, server_under_test
from tests.process.secured import Secured
from tests.process.test_command_line import SECONDS_MAX, TWISTD, ProcessTestCase

SCRIPT = (
    ("put a 1",),
    ("get a",),
    ("put b/1 x",),
    ("put b/2 y",),
    ("get b --prefix --consistency=s",),
    ("put b/1 z --prev-kv",),
    ("get b --prefix --consistency=s",),
    ("del b/2 --prev-kv",),
    ("get '' --from-key",),
    ("txn", 'value("a") = "1"\n\nput a 2\nget b/1\n\nput a 3\n\n'),
    ("get a --rev=99",),
    ("get a -w json",),
    ("put ''  x",),
    ("lease timetolive 1234",),
    ("lease keep-alive --once 1234",),
    ("compaction 3",),
    ("get a --rev=2",),
    ("get a --rev=2 --consistency=s",),
    ("endpoint health",),
    ("move-leader 1234",),
    ("member remove 1234",),
)
# What differs from run to run, and how a status is put: etcd's proxy turns most into Unknown.
VARYING = re.compile(
    r"127\.0\.0\.1:\d+|took = \S+|code = \w+|\"ts\":\S+?,|0x[0-9a-f]+|\d{4}-\d\d-\S+"
    r"|\"(?:cluster_id|member_id|raft_term|revision)\":\d+"
)


class ProxyTestCase(ProcessTestCase):
    def member(self, command: Sequence[str], *flags: str, **options: Any) -> Member:
        member = Member(command, *flags, **options)
        self.addCleanup(member.close)
        member.start()
        return member

    def proxy(
        self, member: Member, *flags: str, command: Sequence[str] | None = None
    ) -> GrpcProxyProcess:
        proxy = GrpcProxyProcess(command or server_under_test(), member.endpoint, *flags)
        self.addCleanup(proxy.close)
        proxy.wait_ready()
        return proxy

    def ctl(self, proxy: GrpcProxyProcess, *words: str, text: str = "") -> tuple[str, str, int]:
        """stdout, the last line of stderr, and the exit code."""
        ended = subprocess.run(
            [etcdctl(), f"--endpoints={proxy.endpoint}", *words],
            input=text,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            cwd=self.directory,
        )
        return ended.stdout, (ended.stderr.splitlines() or [""])[-1], ended.returncode

    def foreign(self, proxy: GrpcProxyProcess) -> ForeignClient:
        client = ForeignClient(proxy.endpoint)
        self.addCleanup(client.close)
        return client

    def watch(self, client: ForeignClient, **request: Any) -> Stream:
        stream = client.open("Watch.Watch")
        self.addCleanup(stream.close)
        stream.send(WatchRequest(create_request=request))
        self.assertTrue(stream.receive().created)
        return stream


class EtcdctlTests(ProxyTestCase):
    def said(self, member: Member, command: Sequence[str]) -> list[tuple[object, ...]]:
        proxy = self.proxy(member, command=command)
        found: list[tuple[object, ...]] = []
        for words, *text in SCRIPT:
            split = [each.strip("'") for each in words.split()]
            out, error, code = self.ctl(proxy, *split, text="".join(text))
            found.append((words, VARYING.sub("…", out), VARYING.sub("…", error), code))
        return found

    def test_as_etcds(self) -> None:
        """GX1: etcdctl is told the same through our proxy, in front of either kind of member, and
        through etcd's own."""
        theirs = self.said(self.member(real_etcd()), real_etcd())
        for command in (real_etcd(), server_under_test()):
            ours = self.said(self.member(command), server_under_test())
            self.assertEqual(ours, theirs)

    def test_snapshot_lease_and_pages(self) -> None:
        """GX1: a snapshot is the member's; leases are kept; metrics and health are those of the
        member and of the proxy; MemberList is the proxy."""
        member = self.member(server_under_test())
        proxy = self.proxy(member)
        for number in range(20):
            client_of(member).call("KV.Put", key=b"k%d" % number, value=b"v" * 10_000)
        saved = self.ctl(proxy, "snapshot", "save", "s.db")
        self.assertEqual(saved[2], 0, saved)
        status = json.loads(self.ctl(proxy, "snapshot", "status", "s.db", "-w", "json")[0])
        self.assertEqual((status["totalKey"] >= 20, status["revision"]), (True, 21))
        granted = self.ctl(proxy, "lease", "grant", "100")[0].split()[1]
        kept = self.ctl(proxy, "lease", "keep-alive", "--once", granted)
        self.assertIn("keepalived with TTL(100)", kept[0])
        (listed,) = json.loads(self.ctl(proxy, "member", "list", "-w", "json")[0])["members"]
        self.assertEqual(listed["clientURLs"], [proxy.endpoint])
        for path in ("/health", "/proxy/health"):
            self.assertEqual(proxy.page(path), (200, '{"health":"true","reason":""}'))
        self.assertIn("etcd_server_has_leader 1", proxy.page("/metrics")[1])
        names = set(re.findall(r"^# TYPE (\S+)", proxy.page("/proxy/metrics")[1], re.M))
        self.assertLessEqual(
            {
                f"etcd_grpc_proxy_{name}_total"
                for name in (
                    *("cache_hits", "cache_keys", "cache_misses"),
                    *("events_coalescing", "watchers_coalescing"),
                )
            },
            names,
        )
        self.assertEqual(proxy.page("/version")[0], 404)
        member.kill()
        status_code, body = proxy.page("/health")
        self.assertEqual((status_code, "GET ERROR:" in body), (503, True))
        proxy.process.send_signal(signal.SIGTERM)
        self.assertEqual(proxy.process.wait(10), -signal.SIGTERM)


class WatchTests(ProxyTestCase):
    def test_member_restarts(self) -> None:
        """P23: watches outlive the only member: what was written while the proxy was not
        connected comes afterwards, once, to the early and to the late."""
        for command in (server_under_test(), real_etcd()):
            member = self.member(command)
            proxy = self.proxy(member)
            client = self.foreign(proxy)
            streams = [self.watch(client, key=b"k") for _ in range(3)]
            self.put(member, 5)
            member.kill()
            member.start()
            self.put(member, 5)
            streams.append(self.watch(client, key=b"k", start_revision=4))
            for stream, first in zip(streams, (2, 2, 2, 4), strict=True):
                seen: list[int] = []
                while len(seen) < 12 - first:
                    seen += [each.kv.mod_revision for each in stream.receive().events]
                self.assertEqual(seen, list(range(first, 12)))

    def put(self, member: Member, count: int) -> None:
        client = client_of(member)
        try:
            for _ in range(count):
                client.call("KV.Put", key=b"k", value=b"v")
        finally:
            client.close()

    def test_shared(self) -> None:
        """GX1: equal watches of many streams are one at the member."""
        member = self.member(server_under_test())
        proxy = self.proxy(member)
        streams = [self.watch(self.foreign(proxy), key=b"k") for _ in range(5)]
        self.put(member, 1)
        for each in streams:
            self.assertEqual(len(each.receive().events), 1)
        metrics = proxy.page("/metrics")[1]
        self.assertIn("etcd_debugging_mvcc_watcher_total 1.0\n", metrics)
        own = proxy.page("/proxy/metrics")[1]
        self.assertIn("etcd_grpc_proxy_watchers_coalescing_total 4", own)
        self.assertIn("etcd_grpc_proxy_events_coalescing_total 4", own)


class StartTests(ProxyTestCase):
    def test_two_proxies(self) -> None:
        """GX1: proxies of ours and of etcd's register beside each other, in a namespace."""
        member = self.member(server_under_test())
        flags = ("--resolver-prefix=___grpc", "--resolver-ttl=10", "--namespace=ns/")
        proxies = [self.proxy(member, *flags, command=each) for each in (real_etcd(), None)]
        addresses = sorted(each.endpoint for each in proxies)

        def listed(proxy: GrpcProxyProcess) -> list[str]:
            out, _, code = self.ctl(proxy, "member", "list", "-w", "json")
            members = json.loads(out)["members"] if code == 0 else []
            return sorted(url for each in members for url in each["clientURLs"])

        def all_listed() -> bool:
            return all(listed(each) == addresses for each in proxies)

        until(all_listed, lambda: proxies[1].output(), 10)
        self.assertEqual(self.ctl(proxies[1], "put", "k", "v")[2], 0)
        self.assertEqual(self.ctl(proxies[0], "get", "k")[0], "k\nv\n")
        found = client_of(member).call("KV.Range", key=b"ns/k")
        self.assertEqual(found.count, 1)

    def test_tls(self) -> None:
        """GX1: TLS on both sides, by twistd; without a certificate nobody is let in."""
        names = Secured(Path(self.directory) / "tls")
        # The cluster would take the name in it for that of a user.
        member = self.member(server_under_test(), client_tls=names)
        flags = [
            *(f"--cacert={names.path('ca.crt')}", "--cert-file=", "--key-file="),
            f"--cert-file={names.path('member.crt')}",
            f"--key-file={names.path('member.key')}",
            f"--trusted-ca-file={names.path('ca.crt')}",
        ]
        named = (f"--cert={names.path('client.crt')}", f"--key={names.path('client.key')}")
        refused = self.run_it(
            server_under_test(), "grpc-proxy", "start", f"--endpoints={member.endpoint}", *flags,
            *named,
        )  # fmt: skip
        self.assertEqual(refused.returncode, 1)
        self.assertIn("cert has non empty Common Name (client): ", refused.stderr)
        unnamed = self.unnamed(names)
        twistd = [*TWISTD, "-n", "etcd-grpc-proxy"]
        proxy = self.proxy(member, *flags, *unnamed, command=twistd)
        given = [
            f"--cacert={names.path('ca.crt')}",
            f"--cert={names.path('client.crt')}",
            f"--key={names.path('client.key')}",
        ]
        self.assertEqual(self.ctl(proxy, *given, "put", "k", "v")[::2], ("OK\n", 0))
        self.assertNotEqual(
            self.ctl(proxy, *given[:1], "put", "k", "v", "--command-timeout=1s")[2], 0
        )

    def unnamed(self, names: Secured) -> list[str]:
        """A pair without a common name, as flags."""
        subject = ["-subj", "/O=nobody", "-days", "2", "-nodes", "-newkey", "ec"]
        done = subprocess.run(
            [
                *("openssl", "req", "-x509", *subject, "-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-CA", names.path("ca.crt"), "-CAkey", self.authority_key(names)),
                *("-keyout", names.path("unnamed.key"), "-out", names.path("unnamed.crt")),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return [f"--cert={names.path('unnamed.crt')}", f"--key={names.path('unnamed.key')}"]

    def authority_key(self, names: Secured) -> str:
        path = Path(names.path("ca.key"))
        path.write_bytes(names.authority.key_pem())
        return str(path)

    def test_refused(self) -> None:
        """GX1: what cannot be started ends with etcd's words and code 1, by either command."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            words = ("grpc-proxy", "start", f"--listen-addr={address}")
            ended = self.run_it(server_under_test(), *words)
        self.assertEqual(ended.returncode, 1)
        self.assertIn(f"listen tcp {address}: bind: address already in use", ended.stderr)
        by_twistd = self.run_it([*TWISTD, "-n", "etcd-grpc-proxy"], "--resolver-ttl=5")
        self.assertEqual(by_twistd.returncode, 1)
        self.assertIn('invalid resolver-prefix ""', by_twistd.stderr)
