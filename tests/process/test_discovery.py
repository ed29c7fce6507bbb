"""Clusters that assemble at a discovery URL: of ours, of real etcd, and of both."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
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
        **tls: Secured | None,
    ) -> Member:
        member = Member(
            command or server_under_test(), f"--name={name}", "--initial-cluster=", *flags, **tls
        )
        self.addCleanup(member.close)
        # Without a list of members, as the guide has it.
        member._argv = [each for each in member._argv if not each.startswith("--initial-cluster")]
        member.add_flags(f"--discovery={url}")
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
            names = [m.name for m in client.call("Cluster.MemberList", linearizable=True).members]
            self.assertEqual(sorted(names), [f"infra{n}" for n in range(len(members))])

    def refusal(self, member: Member) -> str:
        member.launch()
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
            self.newcomer(f"infra{n}", url, command=each, client_tls=pki, peer_tls=pki)
            for n, each in enumerate(commands)
        ]
        for each in members:
            each.launch()
        for each in members:
            until(each.healthy, lambda each=each: each.output(), 60)  # type: ignore[misc]
        self.assert_one_cluster(members)

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
