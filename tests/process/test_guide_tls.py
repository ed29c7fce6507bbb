"""The clustering guide's TLS commands, letter for letter, on machines with its addresses."""

from __future__ import annotations

from pathlib import Path

from tests.process.cluster import until
from tests.process.member import real_etcd
from tests.process.secured import Secured
from tests.process.test_guide import GuideCase

INFRA = r"""
etcd --name infra{n} --initial-advertise-peer-urls https://10.0.1.1{n}:2380 \
  --listen-peer-urls https://10.0.1.1{n}:2380 \
  --listen-client-urls https://10.0.1.1{n}:2379,https://127.0.0.1:2379 \
  --advertise-client-urls https://10.0.1.1{n}:2379 \
  --initial-cluster-token etcd-cluster-1 \
  --initial-cluster infra0=https://10.0.1.10:2380,infra1=https://10.0.1.11:2380,infra2=https://10.0.1.12:2380 \
  --initial-cluster-state new \
"""  # noqa: E501
CERTIFICATES = r"""\
  --client-cert-auth --trusted-ca-file={path}/ca-client.crt \
  --cert-file={path}/infra{n}-client.crt --key-file={path}/infra{n}-client.key \
  --peer-client-cert-auth --peer-trusted-ca-file=ca-peer.crt \
  --peer-cert-file={path}/infra{n}-peer.crt --peer-key-file={path}/infra{n}-peer.key
"""
AUTOMATIC = r"""\
  --auto-tls \
  --peer-auto-tls
"""
IDS = {"infra0": "1e802f06edc53c20", "infra1": "2b4cdaea5008bdf4", "infra2": "ea5d2d0d48e50614"}
CLUSTER = "374af106fe0f0dcd"


class TlsGuideCase(GuideCase):
    def assert_cluster(self, *ctl: str) -> None:
        """Three members with the ids of the guide's https URLs, all of which serve."""

        def all_there() -> bool:
            return self.etcdctl(*self.at(0), *ctl, "member", "list").count("started") == 3

        until(all_there, lambda: f"all are started:\n{self.log(0)[-3000:]}", 60)
        for n in range(3):
            listed = self.etcdctl(*self.at(n), *ctl, "member", "list")
            for name, number in IDS.items():
                self.assertIn(f"{number}, started, {name}, https://10.0.1.1{name[-1]}:2380", listed)
            status = self.etcdctl(*self.at(n), *ctl, "endpoint", "status", "-w", "json")
            self.assertIn(f'"cluster_id":{int(CLUSTER, 16)}', status)
            self.assertEqual(self.etcdctl(*self.at(n), *ctl, "put", f"k{n}", "v").strip(), "OK")
        for n in range(3):
            self.assertIn("k2", self.etcdctl(*self.at(n), *ctl, "get", "k", "--prefix"))

    def at(self, n: int) -> list[str]:
        return [f"--endpoints=https://10.0.1.1{n}:2379"]


class CertificateTests(TlsGuideCase):
    """The commands under "Self-signed certificates"."""

    def setUp(self) -> None:
        super().setUp()
        self.clients = Secured(self.root / "client-pki", "client authority")
        self.peers = Secured(self.root / "peer-pki", "peer authority")
        self.path = self.root / "path"
        self.path.mkdir()
        (self.path / "ca-client.crt").write_bytes(Path(self.clients.path("ca.crt")).read_bytes())
        for n in range(3):
            for kind, pki in (("client", self.clients), ("peer", self.peers)):
                hosts = [f"10.0.1.1{n}", "127.0.0.1"]
                made = pki.issue(f"infra{n}-{kind}", "peer", hosts)
                (self.path / f"infra{n}-{kind}.crt").write_bytes(made.certificate_pem())
                (self.path / f"infra{n}-{kind}.key").write_bytes(made.key_pem())
            # The guide names it without a directory: it is in that of the process.
            ca = Path(self.peers.path("ca.crt")).read_bytes()
            (self.directory(n) / "ca-peer.crt").write_bytes(ca)

    def start(self, *places: int, command: list[str] | None = None) -> None:
        for n in places:
            text = (INFRA.rstrip(" \\\n") + " " + CERTIFICATES).format(n=n, path=self.path)
            self.paste(n, text, command=command)

    def test_letter_for_letter(self) -> None:
        """TS1, TS2, TS3, TS6, TS7, TS8, TS9, TS10, TS12, TS13: the three commands give the guide's
        cluster; both client URLs of each show the one certificate; nothing is to be had without
        one of the right authority, on either port."""
        self.start(0, 1, 2)
        self.assert_cluster(*self.clients.etcdctl())
        for n in range(3):
            for host in (f"10.0.1.1{n}", "127.0.0.1"):
                url = f"https://{host}:2379/health"
                said = self.machines.run(n, [*self.clients.curl(), url])
                self.assertIn('"health":"true"', said.stdout, said.stderr)
        plain = self.machines.run(0, ["curl", "-sS", "-m", "5", "http://10.0.1.10:2379/health"])
        self.assertEqual(plain.returncode, 52)
        for pki, port in ((self.clients, 2380), (self.peers, 2379)):
            wrong = self.machines.run(
                0, [*pki.curl(), "--insecure", f"https://10.0.1.10:{port}/version"]
            )
            self.assertIn(wrong.returncode, (35, 55, 56), f"{port}: TS4")
        right = self.machines.run(0, [*self.peers.curl(), "https://10.0.1.10:2380/version"])
        self.assertIn("etcdserver", right.stdout)
        until(
            lambda: (
                "first record does not look like a TLS handshake" in self.log(0)
                and self.log(0).count("signed by unknown authority") == 2
            ),
            lambda: f"each was told why: {self.log(0)[-3000:]}",
        )

    def test_with_real_etcd(self) -> None:
        """TS12: the same commands, one of them with etcd itself, and in its place with us."""
        self.start(0, 1)
        self.start(2, command=real_etcd())
        self.assert_cluster(*self.clients.etcdctl())


class AutomaticTests(TlsGuideCase):
    """The commands under "Automatic certificates"."""

    def start(self, n: int, command: list[str] | None = None) -> None:
        text = (INFRA.rstrip(" \\\n") + " " + AUTOMATIC).format(n=n)
        self.paste(n, text, command=command)

    def test_letter_for_letter(self) -> None:
        """TA2, TA3, TA4, TA9: the three commands give the guide's cluster, each member with a
        certificate of its own for the addresses in its URLs."""
        for n in range(3):
            self.start(n)
        self.assert_cluster("--insecure-transport=false", "--insecure-skip-tls-verify")
        shown = set()
        for n in range(3):
            for side in ("client", "peer"):
                path = self.directory(n) / f"infra{n}.etcd" / "fixtures" / side / "cert.pem"
                said = self.machines.run(
                    n, ["openssl", "x509", "-in", str(path), "-noout", "-fingerprint", "-ext",
                        "subjectAltName"],
                ).stdout  # fmt: skip
                shown.add(said.splitlines()[0])
                for name in (f"IP Address:10.0.1.1{n}", "IP Address:127.0.0.1", "DNS:localhost"):
                    self.assertIn(name, said)
        self.assertEqual(len(shown), 6)

    def test_with_real_etcd(self) -> None:
        """TA9: one of the three is etcd itself."""
        self.start(0)
        self.start(1)
        self.start(2, command=real_etcd())
        self.assert_cluster("--insecure-transport=false", "--insecure-skip-tls-verify")


class SlipTests(GuideCase):
    def test_http_in_place_of_https(self) -> None:
        """TS14, ZH4: the Chinese guide's slip is refused by the name of the scheme."""
        text = (INFRA.rstrip(" \\\n") + " --peer-auto-tls --auto-tls").format(n=0)
        slip = text.replace(
            "--initial-advertise-peer-urls https://", "--initial-advertise-peer-urls http://"
        )
        process = self.paste(0, slip)
        self.assertEqual(process.wait(20), 1)
        self.assertIn("the schemes differ: http and https", self.log(0))
        self.assertEqual([each.name for each in self.directory(0).iterdir()], ["log"])
