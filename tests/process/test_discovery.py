"""Clusters that assemble at a discovery URL: of ours, of real etcd, and of both."""

from __future__ import annotations

import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.process.cluster import client_of, until
from tests.process.member import Member, old_etcd, real_etcd, server_under_test
from tests.process.secured import Secured
from tests.process.v2_replay import ask

TOKEN = "6c007a14875d53d9bf0ef5a6fc0257c817f0fb83"


class DiscoveryCase(SynchronousTestCase):
    timeout = 150

    def service(self, command: Sequence[str] | None = None) -> Member:
        """A member that others meet at."""
        member = Member(command or server_under_test(), "--enable-v2")
        self.addCleanup(member.close)
        member.start()
        return member

    def url(self, service: Member, token: str = TOKEN) -> str:
        return f"http://{service.endpoint}/v2/keys/discovery/{token}"

    def make_token(self, service: Member, size: str, token: str = TOKEN) -> str:
        answer = ask(service, "PUT", f"/v2/keys/discovery/{token}/_config/size", f"value={size}")
        self.assertEqual(answer.status, 201)
        self.assertIn(f'"key":"/discovery/{token}/_config/size","value":"{size}"', answer.body)
        return self.url(service, token)

    def newcomer(
        self,
        name: str,
        url: str,
        *flags: str,
        command: Sequence[str] | None = None,
        tls: Secured | None = None,
    ) -> Member:
        return self.unlisted(name, f"--discovery={url}", *flags, command=command, tls=tls)

    def unlisted(
        self,
        name: str,
        *flags: str,
        command: Sequence[str] | None = None,
        tls: Secured | None = None,
    ) -> Member:
        """Without a list of members, as the guide has it."""
        words = (f"--name={name}", *flags)
        member = Member(command or server_under_test(), *words, client_tls=tls, peer_tls=tls)
        self.addCleanup(member.close)
        member._argv = [each for each in member._argv if not each.startswith("--initial-cluster")]
        return member

    def assemble(self, url: str, *commands: Sequence[str]) -> list[Member]:
        members = [self.newcomer(f"infra{n}", url, command=each) for n, each in enumerate(commands)]
        for each in members:
            each.launch()
        for each in members:
            until(each.healthy, lambda each=each: each.output(), 60)  # type: ignore[misc]
        return members

    def assert_one_cluster(self, members: Sequence[Member]) -> None:
        """All are members of one cluster of their number, and agree on what is written."""
        for n, each in enumerate(members):
            client = client_of(each)
            self.addCleanup(client.close)
            client.call("KV.Put", key=b"%d" % n, value=b"v")
            names = [m.name for m in client.members()]
            self.assertEqual(sorted(names), [f"infra{n}" for n in range(len(members))])

    def wait_for(self, words: str, member: Member) -> None:
        """Until they are in its log."""
        until(lambda: words in member.output(20_000), member.output)

    def refusal(self, member: Member) -> str:
        member.launch()
        return self.refused(member)

    def refused(self, member: Member) -> str:
        """What it says when its start ends."""
        until(lambda: not member.running, lambda: member.output(), 30)
        self.assertEqual(member.process.returncode, 1)
        return member.output()


class AssemblingTests(DiscoveryCase):
    def test_by_old_etcd(self) -> None:
        """DI1: ours and real ones of both kinds meet at real etcd 3.4."""
        url = self.make_token(self.service(old_etcd()), "3")
        self.assert_one_cluster(self.assemble(url, server_under_test(), old_etcd(), real_etcd()))

    def test_real_by_ours(self) -> None:
        """DI1: real members meet at one of ours."""
        url = self.make_token(self.service(), "3")
        self.assert_one_cluster(self.assemble(url, real_etcd(), old_etcd(), real_etcd()))


class SecureTests(DiscoveryCase):
    """TLS among members that meet at a URL."""

    def test_certificates(self) -> None:
        """SE3: with certificates for peers and clients, and a real member among them."""
        root = Path(tempfile.mkdtemp(prefix="tls-"))
        self.addCleanup(shutil.rmtree, root)
        pki = Secured(root)
        url = self.make_token(self.service(), "3")
        commands = [server_under_test(), server_under_test(), real_etcd()]
        members = [
            self.newcomer(f"infra{n}", url, command=each, tls=pki)
            for n, each in enumerate(commands)
        ]
        for each in members:
            each.launch()
        for each in members:
            until(each.healthy, lambda each=each: each.output(), 60)  # type: ignore[misc]
        self.assert_one_cluster(members)

    def test_https(self) -> None:
        """DI7, DI17: discovery over https, by an authority that OpenSSL's variable adds to this
        system's; without it the service is nobody. A proxy leads there, and sees nothing of it."""
        root = Path(tempfile.mkdtemp(prefix="tls-"))
        self.addCleanup(shutil.rmtree, root)
        pki = Secured(root)
        service = Member(server_under_test(), client_tls=pki, authenticated=False)
        self.addCleanup(service.close)
        service.start()
        url = f"https://{service.endpoint}/v2/keys/discovery/{TOKEN}"
        put = [*pki.curl(None), "-X", "PUT", "-d", "value=1", f"{url}/_config/size"]
        subprocess.run(put, capture_output=True, check=True)
        member = self.newcomer("infra0", url)
        member.launch()
        until(lambda: "signed by unknown authority" in member.output(), lambda: member.output(), 20)
        member.kill()
        member._argv = ["/usr/bin/env", f"SSL_CERT_FILE={pki.path('ca.crt')}", *member._argv]
        with _Proxy(("127.0.0.1", service.client_port)) as proxy:
            threading.Thread(target=proxy.serve_forever, daemon=True).start()
            member.add_flags(f"--discovery-proxy=127.0.0.1:{proxy.server_address[1]}")
            member.start()
            self.assertEqual(set(proxy.lines), {f"CONNECT {service.endpoint} HTTP/1.1"})
            proxy.shutdown()
        self.assert_one_cluster([member])

    def test_automatic(self) -> None:
        """SE4: with certificates of their own making: curl takes them only unchecked."""
        url = self.make_token(self.service(), "2")
        members = []
        for n in range(2):
            member = self.newcomer(f"infra{n}", url, "--auto-tls", "--peer-auto-tls")
            client = f"https://{member.endpoint}"
            peer = f"https://127.0.0.1:{member.peer_port}"
            member.add_flags(
                f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            )  # fmt: skip
            member.launch()
            members.append(member)
        for member in members:
            curl = ["curl", "-s", "-m", "5", f"https://{member.endpoint}/health"]

            def healthy(curl: list[str] = curl) -> bool:
                return (
                    subprocess.run([*curl, "-kf"], capture_output=True, check=False).returncode == 0
                )

            until(healthy, lambda member=member: member.output(), 60)  # type: ignore[misc]
            self.assertEqual(subprocess.run(curl, capture_output=True, check=False).returncode, 60)


class ResumedTests(DiscoveryCase):
    def test_registered_before(self) -> None:
        """DI23, DP8, P30: a member that lost its data has registered already; one that only
        crashed goes on with its registration."""
        url = self.make_token(self.service(), "2")
        member = self.newcomer("d0", url)
        member.launch()
        until(lambda: "waiting for 1 more" in member.output(), lambda: member.output(), 20)
        member.kill()
        member.launch()
        self.wait_for("found the registration of this member", member)
        member.kill()
        member.wipe()
        said = self.refusal(member)
        self.assertIn(
            f'member "d0" has previously registered with discovery service token ({url})', said
        )


class _Proxy(socketserver.ThreadingTCPServer):
    """Notes the first line of what it is asked, and passes it on; what follows a CONNECT it does
    not read."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, target: tuple[str, int]) -> None:
        self.lines: list[str] = []
        self.target = target
        super().__init__(("127.0.0.1", 0), _ProxyHandler)


class _ProxyHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        proxy = self.server
        assert isinstance(proxy, _Proxy), "it is this server's"
        with socket.create_connection(proxy.target) as there:
            answers = threading.Thread(target=self.answer, args=(there,), daemon=True)
            answers.start()
            tunnelled = False
            while data := self.request.recv(65536):
                if not tunnelled:
                    proxy.lines.append(data.split(b"\r\n")[0].decode())
                if data.startswith(b"CONNECT "):
                    tunnelled = True
                    self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    # Absolute form is what servers understand as well.
                    there.sendall(data)

    def answer(self, there: socket.socket) -> None:
        try:
            while data := there.recv(65536):
                self.request.sendall(data)
        except OSError:
            pass
