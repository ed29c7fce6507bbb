"""Members that prove to each other, and to clients, that they know the cluster's token."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.process.cluster import Cluster, until
from tests.process.member import Member, etcdctl, server_under_test
from tests.process.secured import Secured

TOKEN = "5f3a9c0e7d1b2468ace013579bdf2468"
OTHER_TOKEN = "00000000000000000000000000000000"
TOKEN_FLAG = f"--initial-cluster-token={TOKEN}"
UNKNOWN = "x509: certificate signed by unknown authority"
_FILES = {
    "ca.crt": "mesh/ca.pem",
    "client.crt": "client/client.pem",
    "client.key": "client/client-key.pem",
}


class Meshed(Secured):
    """Certificates that members have made for themselves, as the flags and arguments of those who
    show them; those of one member will do for all."""

    def __init__(self) -> None:
        self.directory = Path("/nonexistent")

    def path(self, name: str) -> str:
        return str(self.directory / "fixtures" / _FILES[name])

    def client_port_flags(self, *, authenticated: bool = True) -> list[str]:
        return ["--auto-tls=mesh"]

    def peer_flags(self, pair: str = "member") -> list[str]:
        return ["--peer-auto-tls=mesh"]

    def context(self, pair: str | None = "client") -> ssl.SSLContext:
        if not os.path.exists(self.path("client.crt")):
            return ssl.create_default_context()  # which lets nobody in
        return super().context(pair)


class MeshTests(SynchronousTestCase):
    """--auto-tls=mesh --peer-auto-tls=mesh."""

    timeout = 120

    def setUp(self) -> None:
        self.pki = Meshed()

    def cluster(self, count: int) -> Cluster:
        commands = [server_under_test()] * count
        cluster = Cluster(*commands, flags=[TOKEN_FLAG], client_tls=self.pki, peer_tls=self.pki)
        self.addCleanup(cluster.close)
        self.pki.directory = cluster.members[0].data_dir
        cluster.start()
        return cluster

    def etcdctl(self, member: Member, *words: str, pair: str | None = "client") -> tuple[int, str]:
        argv = [
            *(etcdctl(), f"--endpoints=https://{member.endpoint}", "--command-timeout=3s"),
            *(*self.pki.etcdctl(pair), *words),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
        return done.returncode, done.stdout.strip()

    def joining(self, cluster: Cluster, *flags: str) -> Member:
        """One that the cluster expects."""
        member = Member(server_under_test(), client_tls=self.pki, peer_tls=self.pki)
        self.addCleanup(member.close)
        added = self.etcdctl(
            cluster.members[0], "member", "add", "late", f"--peer-urls={member.peer_url}"
        )
        self.assertEqual(added[0], 0)
        first = cluster.members[0].peer_url
        member.add_flags(
            *("--name=late", "--initial-cluster-state=existing", *flags),
            f"--initial-cluster=m0={first},late={member.peer_url}",
        )
        return member

    def assert_told(self, member: Member, *words: str) -> None:
        """One line of its log has all these words."""
        until(
            lambda: any(
                all(word in line for word in words) for line in member.output(50_000).splitlines()
            ),
            lambda: f"{words} in a line of\n{member.output(50_000)}",
            10,
        )

    def test_cluster(self) -> None:
        """P6: three members with two flags and a token; clients with the pair that was made are
        served by each of them, others are refused, and that is told of."""
        cluster = self.cluster(3)
        for number, member in enumerate(cluster.members):
            self.assertEqual(self.etcdctl(member, "put", f"k{number}", "v"), (0, "OK"))
        for member in cluster.members:
            self.assertEqual(self.etcdctl(member, "get", "k0", "--print-value-only"), (0, "v"))
        first = cluster.members[0]
        fixtures = first.data_dir / "fixtures"
        self.assertEqual((fixtures / "mesh" / "ca-key.pem").stat().st_mode & 0o777, 0o600)
        self.assertEqual((fixtures / "mesh" / "ca.pem").stat().st_mode & 0o777, 0o644)
        self.assert_told(first, "etcdctl --cacert", *(self.pki.path(each) for each in _FILES))
        shown = subprocess.run(
            [*self.pki.curl(), f"https://{first.endpoint}/debug/vars"],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertIn("--initial-cluster-token=***", shown.stdout)
        self.assertNotIn(TOKEN, shown.stdout + first.output(50_000))
        self.assertNotEqual(self.etcdctl(first, "get", "k0", pair=None)[0], 0)
        self.assert_told(first, "rejected connection", "client didn't provide a certificate")

    def test_stranger(self) -> None:
        """P6: who has another token, or none, is not let in although he is expected; nothing of him
        stays behind. With the right one he joins."""
        cluster = self.cluster(1)
        late = self.joining(cluster, f"--initial-cluster-token={OTHER_TOKEN}")
        late.launch()
        self.assertEqual(late.process.wait(30), 1)
        self.assertIn(UNKNOWN, late.output())
        self.assert_told(cluster.members[0], "rejected connection", "refuses our certificate")
        self.assertFalse(late.data_dir.exists())
        late.add_flags("--initial-cluster-token=etcd-cluster")
        late.launch()
        self.assertEqual(late.process.wait(30), 1)
        self.assertIn("openssl rand -hex 16", late.output())
        self.assertFalse(late.data_dir.exists())
        late.add_flags(TOKEN_FLAG)
        late.start()
        self.assertEqual(self.etcdctl(late, "put", "k", "v"), (0, "OK"))

    def test_rogue_member(self) -> None:
        """P6: nor is he as one of the founders; both sides say why."""
        members = [
            Member(server_under_test(), client_tls=self.pki, peer_tls=self.pki) for _ in range(2)
        ]
        listed = ",".join(f"m{n}={each.peer_url}" for n, each in enumerate(members))
        for number, member in enumerate(members):
            self.addCleanup(member.close)
            token = (TOKEN, OTHER_TOKEN)[number]
            member.add_flags(
                f"--name=m{number}",
                f"--initial-cluster={listed}",
                f"--initial-cluster-token={token}",
            )
            member.launch()
        for member in members:
            self.assert_told(member, UNKNOWN, "CN=etcdtw mesh")
            self.assert_told(member, "rejected connection", "refuses our certificate")
            self.assertFalse(member.healthy())

    def test_proxy(self) -> None:
        """P6, PX1: a v2 proxy with the same token is let in by the members, and lets in who has a
        certificate of theirs."""
        first = self.cluster(1).members[0]
        proxy = Member(
            server_under_test(), "--proxy=on", TOKEN_FLAG, f"--initial-cluster=m0={first.peer_url}",
            client_tls=self.pki, peer_tls=self.pki,
        )  # fmt: skip
        self.addCleanup(proxy.close)
        proxy.launch()
        url = f"https://{proxy.endpoint}/v2/keys/k"

        def said(*words: str, pair: str | None = "client") -> str:
            argv = [*self.pki.curl(pair), *words, url]
            return subprocess.run(argv, capture_output=True, text=True, check=False).stdout

        until(lambda: '"action":"set"' in said("-X", "PUT", "-d", "value=v"), proxy.output, 20)
        self.assertIn('"value":"v"', said("--http2"))
        self.assertEqual(said(pair=None), "")

    def test_without_the_token(self) -> None:
        """ST26, P6: flags that only the first start needs may go; the authority stays the same."""
        cluster = self.cluster(3)
        ca = Path(self.pki.path("ca.crt")).read_bytes()
        member = cluster.members[0]
        member.stop()
        member.remove_flags(TOKEN_FLAG)
        member.start()
        self.assertEqual(Path(self.pki.path("ca.crt")).read_bytes(), ca)
        self.assertEqual(self.etcdctl(member, "put", "k", "v"), (0, "OK"))
        self.assertEqual(len({each for _, each in cluster.hashes()}), 1)
