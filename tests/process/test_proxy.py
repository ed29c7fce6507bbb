"""The v2 proxy as a process, in front of members, ours and real ones."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc

from tests.process.cluster import Cluster, client_of, until
from tests.process.member import Member, old_etcd, server_under_test
from tests.process.secured import Secured
from tests.process.test_discovery import DiscoveryCase
from tests.process.v2_replay import Answer, ask


class ProxyCase(DiscoveryCase):
    def cluster(self, *commands: list[str]) -> Cluster:
        cluster = Cluster(*commands, flags=("--enable-v2",))
        self.addCleanup(cluster.close)
        cluster.start()
        return cluster

    def proxy(self, cluster: Cluster, *flags: str, mode: str = "on") -> Member:
        """One of the cluster's peers; started, and with endpoints."""
        listed = ",".join(f"m{n}={each.peer_url}" for n, each in enumerate(cluster.members))
        proxy = Member(
            server_under_test(), f"--proxy={mode}", f"--initial-cluster={listed}", *flags
        )
        self.addCleanup(proxy.close)
        proxy.launch()
        until(lambda: bool(self.endpoints(proxy)), lambda: proxy.output(), 20)
        return proxy

    def endpoints(self, proxy: Member) -> list[str]:
        try:
            answer = ask(proxy, "GET", "/v2/config/local/proxy")
        except OSError:
            return []
        found: list[str] = json.loads(answer.body)["endpoints"] if answer.status == 200 else []
        return found


class PassingTests(ProxyCase):
    def test_on(self) -> None:
        """GP2, PX1, PX3, PX5, PX7: no Raft and no member directory; reads and writes go to all
        members in turn; one that dies is put aside, and nobody notices."""
        cluster = self.cluster(server_under_test(), server_under_test(), old_etcd())
        proxy = self.proxy(cluster, "--proxy-failure-wait=60000")
        urls = sorted(f"http://{each.endpoint}" for each in cluster.members)
        self.assertEqual(sorted(self.endpoints(proxy)), urls)
        self.assertEqual(os.listdir(proxy.data_dir), ["proxy"])
        self.assertIn("endpoints found", proxy.output())
        self.assertIn("this proxy supports v2 API only!", proxy.output())
        for number in range(6):
            answer = ask(proxy, "PUT", f"/v2/keys/{number}", "value=v")
            self.assertEqual(answer.status, 201, answer.body)
            self.assertIn("X-Etcd-Index", {name.title() for name in answer.headers})
        asked = [json.loads(ask(proxy, "GET", "/v2/stats/self").body)["name"] for _ in range(6)]
        self.assertEqual(sorted(set(asked)), ["m0", "m1", "m2"])
        self.assertEqual(ask(proxy, "GET", "/v2/keys/none").status, 404)
        cluster.members[1].kill()
        for _ in range(6):
            until(
                lambda: ask(proxy, "GET", "/v2/keys/3?quorum=true").status == 200, "somebody leads"
            )
        self.assertEqual(len(self.endpoints(proxy)), 2)
        self.assertEqual(proxy.stop(), -signal.SIGTERM)

    def test_readonly(self) -> None:
        """PX1: writes are refused, reads are not."""
        cluster = self.cluster(server_under_test())
        proxy = self.proxy(cluster, mode="readonly")
        ask(cluster.members[0], "PUT", "/v2/keys/k", "value=v")
        self.assertEqual(ask(proxy, "GET", "/v2/keys/k").status, 200)
        for method in ("PUT", "POST", "DELETE"):
            refused = ask(proxy, method, "/v2/keys/k", "value=w")
            self.assertEqual((refused.status, refused.body), (501, ""))

    def test_streams(self) -> None:
        """PX4, PX12: long polls and streams live, and end with the client; who asks is told on."""
        cluster = self.cluster(server_under_test())
        proxy = self.proxy(cluster)
        connection = http.client.HTTPConnection("127.0.0.1", proxy.client_port, timeout=10)
        connection.request("GET", "/v2/keys/dir?wait=true&recursive=true&stream=true")
        answer = connection.getresponse()
        self.assertEqual(answer.headers["X-Etcd-Index"], "3")
        time.sleep(0.5)
        for number in range(5):
            ask(proxy, "PUT", f"/v2/keys/dir/{number}", "value=v")
            self.assertIn(f'"key":"/dir/{number}"', answer.readline().decode())

        def watchers() -> int:
            found: int = json.loads(ask(cluster.members[0], "GET", "/v2/stats/store").body)[
                "watchers"
            ]
            return found

        self.assertEqual(watchers(), 1)
        answer.close()
        connection.close()
        until(lambda: watchers() == 0, "the member learns that the client is gone", 10)

    def test_v3(self) -> None:
        """GP3: HTTP is passed on, whatever it is for; gRPC is not spoken."""
        cluster = self.cluster(server_under_test())
        proxy = self.proxy(cluster)
        self.assertEqual(ask(proxy, "GET", "/version").status, 200)
        client = client_of(proxy)
        self.addCleanup(client.close)
        with self.assertRaises(grpc.RpcError):
            client.call("KV.Range", key=b"k")


class EndsTests(ProxyCase):
    def test_cluster_comes_late(self) -> None:
        """PX8: it waits for a cluster that is not up yet, and says that there is none."""
        cluster = Cluster(server_under_test())
        self.addCleanup(cluster.close)
        listed = f"--initial-cluster=m0={cluster.members[0].peer_url}"
        proxy = Member(server_under_test(), "--proxy=on", listed)
        self.addCleanup(proxy.close)
        proxy.launch()
        refused: list[Answer] = []

        def answers() -> bool:
            try:
                refused[:] = [ask(proxy, "GET", "/v2/keys/")]
            except OSError:
                return False
            return True

        until(answers, lambda: proxy.output(), 20)
        self.assertEqual(refused[0].status, 503)
        message = '{"message":"httpproxy: zero endpoints currently available"}'
        self.assertEqual(refused[0].body, message)
        cluster.start()
        until(lambda: ask(proxy, "GET", "/v2/keys/").status == 200, lambda: proxy.output(), 20)
        cluster.members[0].kill()
        refused[:] = [ask(proxy, "GET", "/v2/keys/")]
        self.assertEqual(refused[0].status, 502)
        self.assertIn("httpproxy: unable to get response from 1 endpoint(s)", refused[0].body)

    def test_cluster_file(self) -> None:
        """PX6: what it knew is used at the next start, whatever the flags say."""
        cluster = self.cluster(server_under_test())
        proxy = self.proxy(cluster)
        path = proxy.data_dir / "proxy" / "cluster"
        known: Any = json.loads(path.read_text())
        self.assertEqual(known, {"PeerURLs": [cluster.members[0].peer_url]})
        proxy.stop()
        proxy.add_flags("--initial-cluster=x=http://127.0.0.1:1")
        proxy.launch()
        until(lambda: bool(self.endpoints(proxy)), lambda: proxy.output(), 20)

    def test_both_directories(self) -> None:
        """PX11: a directory of a member and a proxy is refused."""
        member = Member(server_under_test())
        self.addCleanup(member.close)
        for each in ("member", "proxy"):
            (member.data_dir / each).mkdir(parents=True)
        member.launch()
        until(lambda: not member.running, "it has given up")
        self.assertEqual(member.process.returncode, 1)
        self.assertIn("invalid datadir. Both member and proxy directories exist.", member.output())

    def test_promoted(self) -> None:
        """PX10: a proxy becomes a member: it is added, stopped, forgets, and starts as one."""
        cluster = self.cluster(server_under_test())
        proxy = self.proxy(cluster)
        with cluster.client(0) as client:
            client.call("Cluster.MemberAdd", peerURLs=[proxy.peer_url])
        proxy.stop()
        proxy.wipe()
        proxy.add_flags(
            "--proxy=off",
            "--name=m1",
            f"--initial-cluster=m0={cluster.members[0].peer_url},m1={proxy.peer_url}",
            "--initial-cluster-state=existing",
        )
        proxy.start()
        self.assertEqual(os.listdir(proxy.data_dir), ["member"])

    def test_loop(self) -> None:
        """PX9: a proxy that is led to itself notices it."""
        member = Member(server_under_test())
        self.addCleanup(member.close)
        proxy = Member(
            server_under_test(), "--proxy=on", f"--initial-cluster=default={member.peer_url}"
        )
        self.addCleanup(proxy.close)
        member.add_flags(f"--advertise-client-urls=http://{proxy.endpoint}")
        member.launch()
        proxy.launch()
        until(lambda: bool(self.endpoints(proxy)), lambda: proxy.output(), 20)
        self.assertEqual(ask(proxy, "GET", "/v2/keys/").status, 508)


class FallbackTests(ProxyCase):
    def test_full_cluster(self) -> None:
        """CL23-1, CL23-2, CL23-3: who comes too late is a proxy, or an error; a restart is one
        again."""
        url = self.make_token(self.service(), "1")
        (first,) = self.assemble(url, server_under_test())
        late = self.newcomer("late", url)
        late.launch()
        until(lambda: bool(self.endpoints(late)), lambda: late.output(), 20)
        self.assertIn("discovery cluster is full, falling back to proxy", late.output())
        self.assertEqual(ask(late, "PUT", "/v2/keys/k", "value=v").status, 201)
        self.assertEqual(ask(first, "GET", "/v2/keys/k").status, 200)
        self.assertEqual(os.listdir(late.data_dir), ["proxy"])
        late.stop()
        late.launch()
        until(lambda: bool(self.endpoints(late)), lambda: late.output(), 20)
        self.assertIn("ignored discovery settings. Valid cluster file found", late.output())
        said = self.refusal(self.newcomer("later", url, "--discovery-fallback=exit"))
        self.assertEqual(said.splitlines()[-1], "etcd: discovery: cluster is full")


class SecureTests(ProxyCase):
    def test_both_sides(self) -> None:
        """SE20, TL2: members that ask for certificates are shown that for peers; the proxy itself
        is called over TLS."""
        root = Path(tempfile.mkdtemp(prefix="tls-"))
        self.addCleanup(shutil.rmtree, root)
        pki = Secured(root)
        cluster = Cluster(*[server_under_test()] * 3, client_tls=pki, peer_tls=pki)
        self.addCleanup(cluster.close)
        cluster.start()
        listed = ",".join(f"m{n}={each.peer_url}" for n, each in enumerate(cluster.members))
        proxy = Member(
            server_under_test(), "--proxy=on", f"--initial-cluster={listed}",
            client_tls=pki, peer_tls=pki,
        )  # fmt: skip
        self.addCleanup(proxy.close)
        proxy.launch()
        base = f"https://{proxy.endpoint}/v2/keys/k"

        def put() -> str:
            argv = [*pki.curl(), "-X", "PUT", "-d", "value=v", base]
            return subprocess.run(argv, capture_output=True, text=True, check=False).stdout

        until(lambda: '"action":"set"' in put(), lambda: proxy.output(), 30)
        for version in ("--http1.1", "--http2"):
            argv = [*pki.curl(), version, base]
            said = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
            self.assertIn('"value":"v"', said)
        refused = subprocess.run([*pki.curl(None), base], capture_output=True, check=False)
        self.assertNotEqual(refused.returncode, 0)
