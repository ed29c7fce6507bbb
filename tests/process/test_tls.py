"""TLS of one member as a process, by curl, openssl, etcdctl and grpcio."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.tls.pki import YEAR, make_self_signed, revoke, write_files
from tests.process.cluster import Cluster, client_of, until
from tests.process.foreign import ForeignClient
from tests.process.member import Member, etcdctl, free_ports, real_etcd, server_under_test
from tests.process.secured import HOSTS, Secured


class TlsCase(SynchronousTestCase):
    timeout = 120

    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="tls-"))
        self.addCleanup(shutil.rmtree, self.root)
        self.pki = Secured(self.root / "pki")

    def member(self, *flags: str, authenticated: bool = True) -> Member:
        """A started member whose client port is one of TLS."""
        member = Member(
            server_under_test(), *flags, client_tls=self.pki, authenticated=authenticated
        )
        self.addCleanup(member.close)
        member.start()
        return member

    def curl(self, member: Member, *words: str, pair: str | None = "client") -> tuple[int, str]:
        """Exit code and output of a GET of ``/version``, or of what the words say."""
        argv = [*self.pki.curl(pair), *words]
        if not any("://" in word for word in words):
            argv.append(f"https://{member.endpoint}/version")
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
        return done.returncode, done.stdout

    def etcdctl(self, member: Member, *words: str, pair: str | None = "client") -> str:
        endpoint = f"--endpoints=https://{member.endpoint}"
        argv = [etcdctl(), endpoint, *self.pki.etcdctl(pair), *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
        return done.stdout.strip()

    def assert_told(self, member: Member, *words: str) -> None:
        """One line of the log about a rejected connection has all these words."""

        def told() -> bool:
            return any(
                "rejected connection" in line and all(word in line for word in words)
                for line in member.output(20_000).splitlines()
            )

        until(told, lambda: f"{words} in a line of\n{member.output(20_000)}", 10)


class ClientPortTests(TlsCase):
    def test_who_is_let_in(self) -> None:
        """TS5, SE2, SE21, TS2: certificates of the authority, for clients; the others learn why
        from one line, and nobody is disturbed."""
        member = self.member()
        other = Secured(self.root / "other", "somebody else")
        self.pki.issue("stranger", "client", authority=other.authority)
        self.pki.issue("server", "server", HOSTS)
        self.pki.issue("old", "client", begun=2 * YEAR)
        with closing(client_of(member)) as client:
            client.call("KV.Put", key=b"k", value=b"v")
            for words in ((), ("--http1.1",)):
                self.assertIn("etcdserver", self.curl(member, *words)[1])
            for pair, reason in (
                (None, "tls: client didn't provide a certificate"),
                ("stranger", "x509: certificate signed by unknown authority"),
                ("server", "x509: certificate specifies an incompatible key usage"),
                ("old", "x509: certificate has expired or is not yet valid"),
            ):
                code, said = self.curl(member, pair=pair)
                self.assertIn(code, (35, 55, 56), pair)
                self.assertEqual(said, "")
                self.assert_told(member, reason, "127.0.0.1:", pair or "")
            code, said = self.curl(member, f"http://{member.endpoint}/version")
            self.assertEqual((code, said), (52, ""))
            self.assert_told(member, "does not look like a TLS handshake")
            self.assertEqual(client.call("KV.Range", key=b"k").kvs[0].value, b"v")
        self.assertEqual(self.etcdctl(member, "get", "k"), "k\nv")

    def test_server_only(self) -> None:
        """SE1, TS10: without --client-cert-auth everybody is served who trusts the certificate; by
        each of its names."""
        member = self.member(authenticated=False)
        for host in HOSTS:
            code, said = self.curl(member, f"https://{host}:{member.client_port}/health", pair=None)
            self.assertEqual((code, json.loads(said)["health"]), (0, "true"))
        self.assertEqual(self.etcdctl(member, "put", "k", "v", pair=None), "OK")
        plain = subprocess.run(
            ["curl", "-sS", f"https://{member.endpoint}/health"], capture_output=True, check=False
        )
        self.assertEqual(plain.returncode, 60, "it does not know the authority")

    def test_pages(self) -> None:
        """HTTP over TLS: the same resources for HTTP/2 and HTTP/1.1, streams included."""
        member = self.member()
        base = f"https://{member.endpoint}"
        for version in ("--http2", "--http1.1"):
            said = self.curl(member, version, "-w", " %{http_version}", f"{base}/health")[1]
            self.assertEqual(said.rpartition(" ")[2], "2" if version == "--http2" else "1.1")
            self.assertIn('"health":"true"', said)
            self.assertIn(
                "etcd_server_has_leader 1", self.curl(member, version, f"{base}/metrics")[1]
            )
            put = ("-X", "POST", "-d", '{"key":"azA=","value":"dg=="}', f"{base}/v3/kv/put")
            self.assertIn("revision", self.curl(member, version, *put)[1])
            got = ("-X", "POST", "-d", '{"key":"azA="}', f"{base}/v3/kv/range")
            self.assertIn('"value":"dg=="', self.curl(member, version, *got)[1])
            code, said = self.curl(member, version, "-w", "%{http_code}", f"{base}/nowhere")
            self.assertEqual((code, said), (0, "404 page not found\n404"))
            large = self.root / "large"
            large.write_bytes(b'{"key":"' + b"A" * 8_000_000 + b'"}')
            put = ("-X", "POST", "--data-binary", f"@{large}", f"{base}/v3/kv/put")
            said = self.curl(member, version, *put, "-o", "/dev/null", "-w", "%{http_code}")[1]
            self.assertIn(said, ("413", "429", "400"))
        self.check_watch(member, base)

    def check_watch(self, member: Member, base: str) -> None:
        """A gateway's watch on HTTP/2 says what happens when it happens."""
        watch = subprocess.Popen(
            [*self.pki.curl(), "-N", "-X", "POST", "-d",
             '{"create_request":{"key":"dw=="}}', f"{base}/v3/watch"],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert watch.stdout is not None, "its output is read"
        try:
            self.assertIn(b'"created":true', watch.stdout.readline())
            self.assertEqual(self.etcdctl(member, "put", "w", "seen"), "OK")
            self.assertIn(b'"value":"c2Vlbg=="', watch.stdout.readline())
        finally:
            watch.kill()
            watch.wait()
            watch.stdout.close()

    def test_host_whitelist(self) -> None:
        """SE17: it is for plain HTTP; any https request is allowed."""
        member = self.member("--host-whitelist=example.com")
        self.assertIn("etcdserver", self.curl(member)[1])
        self.assertIn("etcdserver", self.curl(member, "--http1.1")[1])

    def test_versions_and_suites(self) -> None:
        """SE7, SE8: only what is chosen is spoken."""
        member = self.member(
            "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "--tls-max-version=TLS1.2"
        )
        for words, works in (
            (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"), True),
            (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"), False),
            (("-tls1_3",), False),
        ):
            self.assertEqual(self.shakes_hands(member, *words), works, words)
        self.assert_told(member, "tls: no cipher suite supported by both client and server")
        self.assert_told(member, "tls: no TLS version is spoken on both sides")
        newest = self.member("--tls-min-version=TLS1.3")
        self.assertTrue(self.shakes_hands(newest, "-tls1_3"))
        self.assertFalse(self.shakes_hands(newest, "-tls1_2"))

    def shakes_hands(self, member: Member, *words: str) -> bool:
        argv = ["openssl", "s_client", "-connect", member.endpoint, "-CAfile",
                self.pki.path("ca.crt"), "-cert", self.pki.path("client.crt"), "-key",
                self.pki.path("client.key"), "-verify_return_error", *words]  # fmt: skip
        done = subprocess.run(argv, input=b"", capture_output=True, check=False, timeout=20)
        return done.returncode == 0

    def test_revoked_while_running(self) -> None:
        """SE16: --client-crl-file, read again when it has changed."""
        revoked, path = self.pki.issue("revoked", "client"), self.root / "crl.pem"

        def write(*numbers: int) -> None:
            made = revoke(self.pki.authority, numbers, datetime.now(UTC))
            write_files([(str(path), made.public_bytes(Encoding.PEM), 0o644)])

        write()
        member = self.member(f"--client-crl-file={path}")
        self.assertEqual(self.curl(member, pair="revoked")[0], 0)
        write(revoked.certificate.serial_number)
        self.assertNotEqual(self.curl(member, pair="revoked")[0], 0)
        self.assert_told(member, "revoked", f"{revoked.certificate.serial_number:x}")
        self.assertEqual(self.curl(member)[0], 0)

    def test_allowed_hostname(self) -> None:
        """SE14: --client-cert-allowed-hostname."""
        self.pki.issue("named", "client", ["app.example", "127.0.0.1"])
        self.pki.issue("unnamed", "client", ["127.0.0.1"])
        member = Member(server_under_test(), *self.pki.client_port_flags())
        self.addCleanup(member.close)
        url = f"https://{member.endpoint}"
        member.add_flags(
            "--client-cert-allowed-hostname=app.example",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
        )
        member.launch()
        until(lambda: self.curl(member, pair="named")[0] == 0, lambda: member.output())
        self.assertNotEqual(self.curl(member, pair="unnamed")[0], 0)
        self.assert_told(member, "not app.example")

    def test_old_flag_names(self) -> None:
        """SE18: --ca-file and --peer-ca-file are authorities, and ask for certificates."""
        member = Member(
            server_under_test(),
            *self.pki.client_port_flags(authenticated=False),
            f"--ca-file={self.pki.path('ca.crt')}",
        )
        self.addCleanup(member.close)
        url = f"https://{member.endpoint}"
        member.add_flags(f"--listen-client-urls={url}", f"--advertise-client-urls={url}")
        member.launch()
        until(lambda: self.curl(member)[0] == 0, lambda: member.output())
        self.assertNotEqual(self.curl(member, pair=None)[0], 0)

    def test_nothing_in_clear(self) -> None:
        """TS11: no key or value is on the wire."""
        member = self.member()
        marker, seen = b"marker-that-is-nowhere-else", []
        with Wiretap(member.client_port, seen.append) as tap:
            client = ForeignClient(f"127.0.0.1:{tap.port}", credentials=self.pki.credentials())
            with closing(client):
                client.call("KV.Put", key=marker, value=marker)
                self.assertEqual(client.call("KV.Range", key=marker).kvs[0].value, marker)
        wire = b"".join(seen)
        self.assertEqual(wire[:1], b"\x16")
        self.assertGreater(len(wire), 1000)
        self.assertNotIn(marker, wire)


class Wiretap:
    """A port that passes bytes on to another, and shows them."""

    def __init__(self, target: int, show: Callable[[bytes], None]) -> None:
        self._target = target
        self._show = show
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            there = socket.create_connection(("127.0.0.1", self._target))
            for one, other in ((here, there), (there, here)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                self._show(data)
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def __enter__(self) -> Wiretap:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


class AutomaticTests(TlsCase):
    """--auto-tls."""

    def started(self) -> Member:
        member = Member(server_under_test(), "--auto-tls")
        self.addCleanup(member.close)
        url = f"https://{member.endpoint}"
        member.add_flags(f"--listen-client-urls={url}", f"--advertise-client-urls={url}")
        self.launched(member)
        return member

    def launched(self, member: Member) -> None:
        member.launch()
        until(lambda: self.insecure(member) == 0, lambda: member.output())

    def insecure(self, member: Member) -> int:
        argv = ["curl", "-skf", "-m", "5", f"https://{member.endpoint}/health"]
        return subprocess.run(argv, capture_output=True, check=False).returncode

    def shown(self, member: Member) -> bytes:
        """The certificate that a new connection gets."""
        pem = ssl.get_server_certificate(("127.0.0.1", member.client_port))
        return ssl.PEM_cert_to_DER_cert(pem)

    def test_made_once(self) -> None:
        """TA1, TA5, TA6, TA7, SE4: curl takes it only unchecked; paths and modes are etcd's; a
        restart changes nothing, and etcd itself goes on with the pair."""
        member = self.started()
        checked = ["curl", "-sS", "-m", "5", f"https://{member.endpoint}/health"]
        self.assertEqual(subprocess.run(checked, capture_output=True, check=False).returncode, 60)
        folder = member.data_dir / "fixtures" / "client"
        self.assertEqual((folder / "key.pem").stat().st_mode & 0o777, 0o600)
        first = self.shown(member)
        self.assertEqual(member.stop(), -signal.SIGTERM)
        self.launched(member)
        self.assertEqual(self.shown(member), first)
        member.stop()
        # etcd takes the pair over with the directory it is in.
        theirs = Member(real_etcd(), "--auto-tls")
        self.addCleanup(theirs.close)
        url = f"https://{theirs.endpoint}"
        theirs.add_flags(f"--listen-client-urls={url}", f"--advertise-client-urls={url}")
        shutil.copytree(member.data_dir / "fixtures", theirs.data_dir / "fixtures")
        self.launched(theirs)
        self.assertEqual(self.shown(theirs), first)

    def test_old_one(self) -> None:
        """A pair that has expired meanwhile is renewed at the start."""
        member = self.started()
        member.stop()
        folder = member.data_dir / "fixtures" / "client"
        old = make_self_signed(HOSTS, datetime.now(UTC) - 10 * YEAR, YEAR)
        write_files(
            [
                (str(folder / "cert.pem"), old.certificate_pem(), 0o644),
                (str(folder / "key.pem"), old.key_pem(), 0o600),
            ]
        )
        self.launched(member)
        self.assertNotEqual(self.shown(member), old.certificate.public_bytes(Encoding.DER))
        self.assertIn("renewed certificate", member.output())

    def test_given_ones_win(self) -> None:
        """TA8: certificates that are given are used, and that is said."""
        member = self.member("--auto-tls", authenticated=False)
        given = ssl.PEM_cert_to_DER_cert(Path(self.pki.path("member.crt")).read_text())
        self.assertEqual(self.shown(member), given)
        self.assertIn("ignoring client auto TLS since certs given", member.output(20_000))
        self.assertFalse((member.data_dir / "fixtures").exists())


class RefusedStartTests(TlsCase):
    """What cannot be is refused before anything is bound or written, exit code 1."""

    def refused(self, *flags: str, command: list[str] | None = None) -> str:
        directory = tempfile.mkdtemp(prefix="refused-")
        self.addCleanup(shutil.rmtree, directory)
        client, peer = free_ports(2)
        done = subprocess.run(
            [
                *(command or server_under_test()),
                f"--listen-client-urls=https://127.0.0.1:{client}",
                f"--advertise-client-urls=https://127.0.0.1:{client}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                *flags,
            ],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(os.listdir(directory), [])
        return done.stderr

    def pair(self, cert: str = "member.crt", key: str = "member.key") -> list[str]:
        return [f"--cert-file={self.pki.path(cert)}", f"--key-file={self.pki.path(key)}"]

    def test_files(self) -> None:
        """TS8, SE6: half a pair, none, one that is not there, one that does not fit."""
        for flags, words in (
            ((), "TLS key/cert (--cert-file, --key-file) must be provided for client url https"),
            (("--cert-file=srv.crt",), "KeyFile and CertFile must both be present[key: , cert: "),
            (self.pair("none.crt"), "none.crt: no such file or directory"),
            (self.pair(key="client.key"), "private key does not match public key"),
            ([*self.pair(), "--trusted-ca-file=none.crt"], "no such file or directory"),
            ([*self.pair(), "--client-crl-file=none.pem"], "no such file or directory"),
        ):
            self.assertIn(words, self.refused(*flags))

    def test_choices(self) -> None:
        """SE7, SE8: suites and versions that are none."""
        for flags, words in (
            (("--cipher-suites=NOPE",), "unexpected TLS cipher suite"),
            (("--tls-min-version=TLS1.1",), "unexpected TLS version"),
            (
                ("--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"),
                "is greater than max version",
            ),
            (("--tls-provider=vault",), "no TLS provider"),
        ):
            self.assertIn(words, self.refused(*self.pair(), *flags))
        self.assertIn(
            "selfSignedCertValidity is invalid,it should be greater than 0",
            self.refused("--auto-tls", "--self-signed-cert-validity=0"),
        )


class UnderLoadTests(TlsCase):
    def test_swapped(self) -> None:
        """SE15: certificates, authority and revocations are swapped while clients call: no request
        fails, and new connections see the new ones, of a pair for addresses only too."""
        path = self.root / "crl.pem"
        empty = revoke(self.pki.authority, [], datetime.now(UTC))
        path.write_bytes(empty.public_bytes(Encoding.PEM))
        member = self.member(f"--client-crl-file={path}")
        failures: list[str] = []
        counts = [0, 0]
        ended = threading.Event()

        def call(new_connections: bool, place: int) -> None:
            client = client_of(member)
            while not ended.is_set():
                try:
                    client.call("KV.Put", key=b"k", value=b"v")
                    counts[place] += 1
                except grpc.RpcError as error:
                    failures.append(str(error))
                if new_connections:
                    client.close()
                    client = client_of(member)
            client.close()

        threads = [threading.Thread(target=call, args=(each, int(each))) for each in (False, True)]
        for thread in threads:
            thread.start()
        try:
            for number in range(10):
                hosts = ("127.0.0.1",) if number % 2 else HOSTS
                made = self.pki.issue("member", "peer", hosts)
                ca = Path(self.pki.path("ca.crt"))
                write_files([(str(ca), ca.read_bytes() + b"\n", 0o644)])
                write_files([(str(path), path.read_bytes(), 0o644)])
                time.sleep(0.1)
                pem = self.shown(member)
                self.assertEqual(pem, made.certificate.public_bytes(Encoding.DER))
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(min(counts), 20)

    def shown(self, member: Member) -> bytes:
        context = self.pki.context()
        with (
            socket.create_connection(("127.0.0.1", member.client_port), 5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
        ):
            found = secured.getpeercert(binary_form=True)
        assert found is not None, "the server shows one"
        return found

    def test_flood(self) -> None:
        """Handshakes that never go on, that end half-way, and noise, hundreds of them: others are
        served all the while."""
        member = self.member()
        hello = self.client_hello()
        slow = [socket.create_connection(("127.0.0.1", member.client_port)) for _ in range(300)]
        for number, each in enumerate(slow):
            each.sendall((hello, hello[:50], b"\x16\x03\x01", os.urandom(100))[number % 4])
        longest = 0.0
        with closing(client_of(member)) as client:
            client.call("KV.Put", key=b"k", value=b"v")
            for _ in range(50):
                begin = time.monotonic()
                client.call("KV.Put", key=b"k", value=b"v")
                longest = max(longest, time.monotonic() - begin)
                with socket.create_connection(("127.0.0.1", member.client_port)) as another:
                    another.sendall(hello)
        self.assertLess(longest, 2.0)
        self.assert_told(member, "the TLS handshake took longer than 10 s")
        for each in slow:
            each.close()
        until(lambda: member.open_files() < 100, "the slow ones are gone")
        self.assertEqual(self.etcdctl(member, "get", "k"), "k\nv")

    @staticmethod
    def client_hello() -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secured = ssl.create_default_context().wrap_bio(
            incoming, outgoing, server_hostname="localhost"
        )
        try:
            secured.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return outgoing.read()

    def test_tls_on_a_plain_port(self) -> None:
        """Who speaks TLS where it is not spoken is cut off, and the log says so."""
        member = Member(server_under_test())
        self.addCleanup(member.close)
        member.start()
        for port in (member.client_port, member.peer_port):
            argv = ["curl", "-sk", "-m", "5", f"https://127.0.0.1:{port}/version"]
            self.assertEqual(subprocess.run(argv, check=False).returncode, 35)
        until(
            lambda: member.output().count("a TLS handshake on a port without TLS") == 2,
            lambda: member.output(),
            5,
        )


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
