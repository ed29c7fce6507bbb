"""Clusters that assemble by v3 discovery, at one of ours and at real etcd 3.5."""

from __future__ import annotations

import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.process.cluster import client_of, until
from tests.process.member import Member, etcdctl, real_etcd
from tests.process.secured import Secured
from tests.process.test_discovery import DiscoveryCase

TOKEN = "5e11a9d7"
BASE = f"/_etcd/registry/{TOKEN}"


class V3Case(DiscoveryCase):
    def set_size(self, service: Member, size: str) -> None:
        with closing(client_of(service)) as client:
            client.call("KV.Put", key=f"{BASE}/_config/size".encode(), value=size.encode())

    def registered(self, service: Member) -> list[str]:
        with closing(client_of(service)) as client:
            first = f"{BASE}/members/".encode()
            found = client.call("KV.Range", key=first, range_end=first[:-1] + b"0")
            return [each.value.decode() for each in found.kvs]

    def at(self, endpoints: str, name: str, *flags: str) -> Member:
        """A member that is to meet others there."""
        where = (f"--discovery-endpoints={endpoints}", f"--discovery-token={TOKEN}")
        return self.unlisted(name, *where, *flags)


class AssemblingTests(V3Case):
    def test_by_ours(self) -> None:
        """DP7, DP1, DP2, DP4, DP5, DI25, P30: members wait for each other at one of ours, which may
        die and come back meanwhile; one that is killed goes on with its registration; a fourth is
        refused and writes nothing; the service may go, and a restart does not ask it."""
        service = self.service()
        self.set_size(service, "3")
        first = [self.at(service.endpoint, f"infra{n}") for n in range(2)]
        for each in first:
            each.launch()
        self.wait_for('"found-peers":2', first[0])
        self.assertFalse(first[0].healthy())
        first[1].kill()
        service.kill()
        service.start()
        first[1].launch()
        self.wait_for("found the registration of this member", first[1])
        third = self.at(service.endpoint, "infra2")
        third.start()
        members = [*first, third]
        for each in members:
            until(each.healthy, each.output)
        self.assert_one_cluster(members)
        values = [f"infra{n}={each.peer_url}" for n, each in enumerate(members)]
        self.assertEqual(sorted(self.registered(service)), values)
        for each in members:
            self.assertEqual([path.name for path in each.data_dir.iterdir()], ["member"])
        said = self.refusal(self.at(service.endpoint, "infra3"))
        self.assertIn("failed to join discovery cluster (discovery: cluster is full)", said)
        self.assertEqual(len(self.registered(service)), 3)
        service.stop()
        third.kill()
        third.start()
        self.assertIn(
            "discovery token is ignored since cluster already initialized; valid logs are found",
            third.output(20_000),
        )

    def test_by_real(self) -> None:
        """DP7: the same at a real etcd, which first needs users and TLS."""
        root = Path(tempfile.mkdtemp(prefix="tls-"))
        self.addCleanup(shutil.rmtree, root)
        pki = Secured(root)
        service = Member(real_etcd(), client_tls=pki, authenticated=False)
        self.addCleanup(service.close)
        service.start()
        self.set_size(service, "3")
        ctl = [etcdctl(), f"--endpoints=https://{service.endpoint}", *pki.etcdctl(None)]
        for words in ("user add root:pw", "user grant-role root root", "auth enable"):
            subprocess.run([*ctl, *words.split()], check=True, capture_output=True)
        secure = f"--discovery-cacert={pki.path('ca.crt')}"
        said = self.refusal(self.at(service.endpoint, "infra0", secure, "--discovery-user=root:x"))
        self.assertIn("authentication failed, invalid user ID or password", said)
        credentials = (secure, "--discovery-user=root", "--discovery-password=pw")
        members = [self.at(service.endpoint, f"infra{n}", *credentials) for n in range(3)]
        for each in members:
            each.launch()
        for each in members:
            until(each.healthy, each.output, 60)
        self.assert_one_cluster(members)
        self.assertNotIn("password=pw", members[0].output(50_000))
        values = [f"infra{n}={each.peer_url}" for n, each in enumerate(members)]
        listed = subprocess.run(
            [*ctl, "--user=root:pw", "get", "--prefix", f"{BASE}/members/", "--print-value-only"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        self.assertEqual(sorted(listed.stdout.split()), values)


class RefusedTests(V3Case):
    def test_tokens(self) -> None:
        """DI19, DI23, DP8: no size; and a member that lost its data, and with it its note."""
        service = self.service()
        lost = self.at(service.endpoint, "infra0")
        said = self.refusal(lost)
        self.assertEqual(
            said.splitlines()[-1],
            "failed to join discovery cluster (discovery: size key not found)",
        )
        self.assertIn(f"put {BASE}/_config/size 3", said)
        self.set_size(service, "2")
        lost.launch()
        self.wait_for('"found-peers":1', lost)
        lost.kill()
        lost.wipe()
        self.assertIn('member "infra0" has previously registered', self.refusal(lost))

    def test_nonsense(self) -> None:
        """Endpoints that never answer, that talk nonsense, and that hang up: each try is bounded,
        what was wrong is in the log, and the member can be stopped."""
        cases = []
        for answer, words in (
            (lambda _: None, "no endpoint answers: not connected yet"),
            (lambda peer: peer.sendall(b"SSH-2.0-OpenSSH\r\n"), "breaks HTTP/2"),
            (lambda peer: peer.close(), "connection lost"),
        ):
            endpoint = _Endpoint(answer)
            self.addCleanup(endpoint.server_close)
            self.addCleanup(endpoint.shutdown)
            threading.Thread(target=endpoint.serve_forever, daemon=True).start()
            there = f"127.0.0.1:{endpoint.server_address[1]}"
            member = self.at(there, "infra0", "--discovery-request-timeout=500ms")
            member.launch()
            cases.append((member, words))
        for member, words in cases:
            self.wait_for('"backoff":"2s"', member)
            self.assertIn(words, member.output())
            self.assertFalse(member.data_dir.exists())
            self.assertEqual(member.stop(), -15)


class _Endpoint(socketserver.ThreadingTCPServer):
    """Does something with everyone who calls, then waits until he goes."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer: Callable[[socket.socket], Any]) -> None:
        self.answer = answer
        super().__init__(("127.0.0.1", 0), _EndpointHandler)


class _EndpointHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        endpoint = self.server
        assert isinstance(endpoint, _Endpoint), "it is this server's"
        try:
            endpoint.answer(self.request)
            while self.request.recv(65536):
                pass
        except OSError:
            pass
