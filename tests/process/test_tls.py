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
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from etcdtw.client import Client, tls_files
from etcdtw.errors import EtcdError
from etcdtw.tls.pki import YEAR, make_self_signed, revoke, write_files
from tests.process.cluster import client_of, until
from tests.process.foreign import ForeignClient
from tests.process.member import Member, free_ports, real_etcd, server_under_test
from tests.process.secured import HOSTS, Secured
from tests.process.tls_case import TlsCase


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
            "--client-cert-allowed-hostname=other.example,app.example",
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
        marker = b"marker-that-is-nowhere-else"
        seen: list[bytes] = []
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


class OwnClientTests(TestCase):
    """``etcdtw.client`` over TLS."""

    timeout = 60

    def setUp(self) -> None:
        root = Path(tempfile.mkdtemp(prefix="tls-"))
        self.addCleanup(shutil.rmtree, root)
        self.pki = Secured(root)
        self.start(server_under_test())

    def start(self, command: list[str]) -> None:
        self.member = Member(command, client_tls=self.pki)
        self.addCleanup(self.member.close)
        self.member.start()

    def client(self, **files: Any) -> Client:
        files.setdefault("ca", self.pki.path("ca.crt"))
        endpoint = f"https://{self.member.endpoint}"
        client = Client(reactor, [endpoint], connector=tls_files(reactor, **files))
        self.addCleanup(client.close)
        return client

    async def test_checked(self) -> None:
        """With a pair of the authority; not without, and not if the member is not whom it seems,
        which is what the call's error says."""
        pair = {"cert": self.pki.path("client.crt"), "key": self.pki.path("client.key")}
        client = self.client(**pair)
        await client.kv.put("k", "v")
        self.assertEqual((await client.kv.get("k")).kvs[0].value, b"v")
        unchecked = self.client(ca="", verify=False, **pair)
        self.assertEqual((await unchecked.kv.get("k")).kvs[0].value, b"v")
        for files, words in (
            ({"ca": self.pki.path("client.crt"), **pair}, "signed by unknown authority"),
            ({"server_name": "somebody.example", **pair}, "not somebody.example"),
            ({}, "certificate required"),
        ):
            try:
                await self.client(**files).kv.get("k", timeout=1.0)
            except EtcdError as error:
                self.assertIn(words, str(error))
            else:
                self.fail(f"answered in spite of {files}")

    async def test_real_etcd(self) -> None:
        """It asks for HTTP/2, which etcd wants to be asked for."""
        self.start(real_etcd())
        files = {"cert": self.pki.path("client.crt"), "key": self.pki.path("client.key")}
        client = self.client(**files)
        await client.kv.put("k", "v")
        self.assertEqual((await client.kv.get("k")).kvs[0].value, b"v")


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
