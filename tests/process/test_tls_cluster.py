"""Members that talk to each other over TLS, real ones among them."""

from __future__ import annotations

import subprocess
from contextlib import closing

import grpc

from etcdtw.tls.pki import YEAR
from tests.process.cluster import Cluster, client_of, until
from tests.process.member import Member, real_etcd, server_under_test
from tests.process.secured import HOSTS
from tests.process.tls_case import TlsCase


class ClusterTests(TlsCase):
    """Peers over TLS, and real ones among them."""

    def cluster(self, *commands: list[str], flags: tuple[str, ...] = ()) -> Cluster:
        cluster = Cluster(*commands, flags=flags, client_tls=self.pki, peer_tls=self.pki)
        self.addCleanup(cluster.close)
        return cluster

    def write(self, cluster: Cluster, count: int = 20) -> None:
        for number in range(count):
            with cluster.client(number % len(cluster.members)) as client:
                client.call("KV.Put", key=b"%d" % number, value=b"v")

    def test_mixed(self) -> None:
        """TS1, TS3, TS6, SE15: with a real member, over restarts and a swap of certificates; equal
        hashes."""
        cluster = self.cluster(server_under_test(), server_under_test(), real_etcd())
        cluster.start()
        self.write(cluster)
        self.assertEqual(len({each for _, each in cluster.hashes()}), 1)
        self.pki.issue("member", "peer", HOSTS)
        cluster.members[1].kill()
        self.write_through(cluster, 0)
        cluster.members[1].start()
        cluster.wait_healthy()
        self.write(cluster)
        self.assertEqual(len({each for _, each in cluster.hashes()}), 1)

    def write_through(self, cluster: Cluster, number: int) -> None:
        def written() -> bool:
            with cluster.client(number) as client:
                try:
                    client.call("KV.Put", key=b"k", value=b"v")
                except grpc.RpcError:
                    return False
            return True

        until(written, "two of three go on")

    def test_joining_and_snapshot(self) -> None:
        """A member joins over https, is sent a snapshot over https, and another leaves."""
        cluster = self.cluster(
            server_under_test(), flags=("--snapshot-count=10",
                                        "--experimental-snapshot-catchup-entries=5")
        )  # fmt: skip
        cluster.start()
        self.write(cluster, 50)
        until(
            lambda: all("saved snapshot" in each.output(200_000) for each in cluster.members),
            "all have saved a snapshot",
        )
        joining = Member(server_under_test(), client_tls=self.pki, peer_tls=self.pki)
        self.addCleanup(joining.close)
        with cluster.client(0) as client:
            client.call("Cluster.MemberAdd", peerURLs=[joining.peer_url])
        joining.add_flags(
            "--name=m1",
            f"--initial-cluster=m0={cluster.members[0].peer_url},m1={joining.peer_url}",
            "--initial-cluster-state=existing",
        )
        joining.start()
        with closing(client_of(joining)) as client:
            self.assertEqual(client.call("KV.Range", key=b"49").kvs[0].value, b"v")
        self.assertIn("received database snapshot", joining.output(20_000))

    def test_rogue(self) -> None:
        """TS6, SE10, SE14: a member without the right certificate never joins, and both sides say
        why."""
        for pair, hosts, flags, words in (
            ("expired", HOSTS, (), "has expired"),
            ("elsewhere", ("127.0.0.27",), (), "valid for 127.0.0.27, not 127.0.0.1"),
            (
                "nobody",
                HOSTS,
                ("--peer-cert-allowed-cn=member",),
                "CommonName authentication failed",
            ),
        ):
            first = Member(server_under_test(), *flags, client_tls=self.pki, peer_tls=self.pki)
            self.addCleanup(first.close)
            begun = 2 * YEAR if pair == "expired" else 0 * YEAR
            self.pki.issue(pair, "peer", hosts, begun=begun)
            rogue = Member(server_under_test(), *self.pki.peer_flags(pair))
            self.addCleanup(rogue.close)
            url = f"https://127.0.0.1:{rogue.peer_port}"
            listed = f"--initial-cluster=first={first.peer_url},rogue={url}"
            first.add_flags("--name=first", listed)
            rogue.add_flags(
                "--name=rogue", listed, f"--listen-peer-urls={url}",
                f"--initial-advertise-peer-urls={url}",
            )  # fmt: skip
            first.launch()
            rogue.launch()
            self.assert_told(first, words)
            self.assertFalse(first.healthy())
            first.kill()
            rogue.kill()

    def test_skipped_address_check(self) -> None:
        """SE19: --experimental-peer-skip-client-san-verification lets a caller in whose address is
        not in his certificate; as a server he still has to be whom he is called."""
        self.pki.issue("caller", "client", ["127.0.0.27"])
        cluster = self.cluster(
            server_under_test(),
            server_under_test(),
            flags=(
                "--experimental-peer-skip-client-san-verification",
                f"--peer-client-cert-file={self.pki.path('caller.crt')}",
                f"--peer-client-key-file={self.pki.path('caller.key')}",
            ),
        )
        cluster.start()
        self.write(cluster, 4)

    def test_made_by_ctl(self) -> None:
        """TL1: an authority and pairs by ``etcdtw ctl pki`` are all that members, ours and real
        ones, and clients need."""
        folder = self.root / "made"

        def ctl(*words: str) -> None:
            argv = [*server_under_test(), "ctl", "pki", *words, f"--dir={folder}"]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)

        ctl("init")
        ctl("issue", "member", "--hosts=127.0.0.1,localhost")
        ctl("issue", "client", "--kind=client")
        self.pki.directory = folder
        cluster = self.cluster(server_under_test(), real_etcd(), real_etcd())
        cluster.start()
        self.write(cluster, 6)
        self.assertEqual(self.etcdctl(cluster.members[1], "get", "5"), "5\nv")
        self.assertEqual(len({each for _, each in cluster.hashes()}), 1)
        argv = ["openssl", "x509", "-in", str(folder / "member.crt"), "-noout", "-text"]
        said = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
        for words in ("ASN1 OID: secp384r1", "TLS Web Server Authentication, TLS Web Client"):
            self.assertIn(words, said)
