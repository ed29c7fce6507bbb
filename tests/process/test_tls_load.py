"""TLS of one member while it is busy, or under attack."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.serialization import Encoding
from prometheus_client.parser import text_string_to_metric_families

from etcdtw.tls.pki import revoke, write_files
from tests.process.cluster import client_of, until
from tests.process.member import Member, server_under_test
from tests.process.secured import HOSTS
from tests.process.tls_case import TlsCase


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
        code, _ = self.curl(member, pair=None)
        self.assertNotEqual(code, 0)
        _, told = self.curl(member, f"https://{member.endpoint}/metrics")
        found = {
            (each.name, each.labels.get("success", "")): each.value
            for family in text_string_to_metric_families(told)
            for each in family.samples
            if each.name.startswith("etcdtw_tls_") and each.labels["side"] == "client"
        }
        self.assertGreaterEqual(found["etcdtw_tls_reloads_total", "true"], 10)
        lines = [
            json.loads(each) for each in member.output(1 << 20).splitlines() if "rejected" in each
        ]
        self.assertEqual(found["etcdtw_tls_rejected_connections_total", ""], len(lines))
        # Who only looked at the certificate may have hung up before the member was through with it.
        reasons = [each["error"] for each in lines if each["error"] != "EOF"]
        self.assertEqual(reasons, ["tls: client didn't provide a certificate"])
        ends = made.certificate.not_valid_after_utc.timestamp()
        self.assertEqual(found["etcdtw_tls_certificate_expiry_seconds", ""], ends)

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
