"""Members that find each other by a file, a URL, a program, or one of several of these."""

from __future__ import annotations

import http.server
import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.config.urls import parse_initial_cluster
from etcdtw.ids import member_id
from tests.process.cluster import Cluster, until
from tests.process.member import Member, free_ports, real_etcd, server_under_test


class Pages(http.server.ThreadingHTTPServer):
    """One page, which is not there before it has a text."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.text = ""
        self.asked = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/members"

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Page(http.server.BaseHTTPRequestHandler):
    server: Pages

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(200 if self.server.text else 404)
        self.end_headers()
        self.wfile.write(self.server.text.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        """Nobody reads it."""


class ProviderCase(SynchronousTestCase):
    timeout = 150

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="providers-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.pages = Pages()
        self.addCleanup(self.pages.close)

    def cluster(self, *providers: str, flags: Sequence[str] = ()) -> Cluster:
        """Members with a provider each, not started, and their list in ``self.list``."""
        cluster = Cluster(*[server_under_test()] * len(providers), flags=flags)
        self.addCleanup(cluster.close)
        for each, provider in zip(cluster.members, providers, strict=True):
            each._argv = [word for word in each._argv if not word.startswith("--initial-cluster=")]
            each.add_flags(f"--bootstrap-provider={provider}")
        self.list = [f"m{n}={each.peer_url}" for n, each in enumerate(cluster.members)]
        return cluster

    def assert_founded(self, cluster: Cluster) -> None:
        """OV6: they are what a static list would have made of them."""
        wanted = {
            (name, member_id(urls, "etcd-cluster"))
            for name, urls in parse_initial_cluster(",".join(self.list))
        }
        with cluster.client(0) as client:
            members = client.members()
        self.assertEqual({(each.name, each.ID) for each in members}, wanted)


class FoundingTests(ProviderCase):
    def test_three_kinds(self) -> None:
        """OV6, P4: one waits for a file, one for a page, one for a program; the cluster is that of
        a static list."""
        path = self.directory / "members"
        program = self.directory / "list members"
        program.write_text(f'#!/bin/sh\nexec cat "{path}"\n')
        program.chmod(stat.S_IRWXU)
        cluster = self.cluster(f"file:{path}", self.pages.url, f"exec:'{program}'")
        for each in cluster.members:
            each.launch()
        for each in cluster.members:
            until(lambda each=each: "asking again" in each.output(), each.output)  # type: ignore[misc]
        self.assertIn("No such file or directory", cluster.members[2].output())
        self.pages.text = ",".join(self.list)
        path.write_text("\n".join(self.list))
        cluster.wait_healthy()
        self.assert_founded(cluster)

    def test_chain(self) -> None:
        """OV6, P31: a chain whose first links are down founds by its last; who loses his data and
        is added again is brought back by what he saw last, when all else is gone."""
        (port,) = free_ports(1)
        chain = f"chain:last-known-good,http://127.0.0.1:{port}/members,{self.pages.url}"
        # Members are changed before they have been connected for long.
        flags = ("--bootstrap-timeout=2s", "--strict-reconfig-check=false")
        cluster = self.cluster(chain, chain, chain, flags=flags)
        self.pages.text = "\n".join(self.list)
        cluster.start()
        self.assert_founded(cluster)
        lost = cluster.members[2]
        kept = Path(f"{lost.data_dir}.members")
        until(kept.exists, "the members are kept")
        lost.stop()
        lost.wipe()
        self.pages.text = ""
        lost.launch()
        until(lambda: not lost.running, lost.output)
        self.assertIn("has already been bootstrapped", lost.output())
        with cluster.client(0) as client:
            (old,) = [m for m in client.members() if m.name == "m2"]
            client.call("Cluster.MemberRemove", ID=old.ID)
            lost.launch()
            until(lambda: not lost.running, lost.output)
            self.assertIn("member m2 is not in the cluster", lost.output())
            added = client.call("Cluster.MemberAdd", peerURLs=[lost.peer_url]).member.ID
        asked = self.pages.asked
        lost.start()
        with cluster.client(2) as client:
            self.assertEqual(client.call("Maintenance.Status").header.member_id, added)
        self.assertEqual(self.pages.asked, asked)

    def test_refusals(self) -> None:
        """P4: what does not come ends the start with etcd's code, and a stop ends the waiting and
        the program that is waited for."""
        member = Member(
            server_under_test(), f"--bootstrap-provider={self.pages.url}", "--bootstrap-timeout=1s"
        )
        self.addCleanup(member.close)
        member.launch()
        until(lambda: not member.running, member.output)
        self.assertEqual(member.process.returncode, 1)
        self.assertTrue(member.output().endswith(f"\n{self.pages.url} answered 404\n"))
        self.assertFalse(member.data_dir.exists())
        pid = self.directory / "pid"
        script = f"echo $$ > {pid}; exec sleep 100"
        waiting = Member(server_under_test(), f'--bootstrap-provider=exec:sh -c "{script}"')
        self.addCleanup(waiting.close)
        waiting.launch()
        until(lambda: pid.exists() and bool(pid.read_text()), waiting.output)
        waiting.stop()
        until(lambda: not runs(pid.read_text().strip()), "the program is killed", 5)


def runs(pid: str) -> bool:
    """Whether a process is more than what its parent has not asked after yet."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


class CheckTests(ProviderCase):
    def check(self, *flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*server_under_test(), *flags],
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def test_beside_a_member(self) -> None:
        """P3: the flags of a running member are checked: nothing is bound, since it holds the
        ports, and nothing written; once it has stopped, a start would go on with its data."""
        member = Member(server_under_test())
        self.addCleanup(member.close)
        member.start()
        flags = [each for each in member._argv[1:] if not each.startswith("--data-dir")]
        said = self.check("--check", *flags)
        self.assertEqual(said.returncode, 0, said.stderr)
        self.assertIn("result: it would start\n", said.stdout)
        self.assertIn("default.etcd, new\n", said.stdout)
        self.assertEqual(os.listdir(self.directory), [])
        member.stop()
        before = sorted(os.walk(member.data_dir))
        said = self.check("--check", *member._argv[1:])
        self.assertEqual(sorted(os.walk(member.data_dir)), before)
        self.assertEqual(said.returncode, 0, said.stderr)
        self.assertRegex(said.stdout, r"data, of member [0-9a-f]+ in cluster [0-9a-f]+; it goes on")

    def test_refused(self) -> None:
        """P3, ER1: a bad set-up ends with etcd's sentence and code, by either command."""
        twistd = str(Path(server_under_test()[0]).parent / "twistd")
        flags = ("--check", "--name=b", "--initial-cluster=a=http://localhost:2380")
        said = [self.check(*flags)]
        said.append(
            subprocess.run(
                [twistd, "etcd", *flags],
                cwd=self.directory,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        )
        for each in said:
            self.assertEqual(each.returncode, 1)
            self.assertTrue(
                each.stderr.endswith("\netcd: b not listed in the initial cluster config\n")
            )
            self.assertIn("use --name a\nresult: it would not start\n", each.stdout)
        self.assertEqual(os.listdir(self.directory), [])

    def test_token(self) -> None:
        """P3: a discovery token is shown and not used."""
        service = Member(server_under_test(), "--enable-v2")
        self.addCleanup(service.close)
        service.start()
        url = f"http://{service.endpoint}/v2/keys/discovery/t"
        curl = ["curl", "-s", "-X", "PUT", f"{url}/_config/size", "-d", "value=3"]
        subprocess.run(curl, check=True, capture_output=True, timeout=30)
        for _ in range(2):
            said = self.check("--check", f"--discovery={url}")
            self.assertEqual(said.returncode, 0, said.stderr)
            self.assertIn(f"found: 0 of 3 members have registered at {url}\n", said.stdout)

    def test_flags_for_etcd(self) -> None:
        """OV6: real etcd is founded by what a provider of ours has found."""
        command = real_etcd()
        members = [Member(command) for _ in range(2)]
        path = self.directory / "members"
        path.write_text("".join(f"m{n}={each.peer_url}\n" for n, each in enumerate(members)))
        for n, each in enumerate(members):
            self.addCleanup(each.close)
            said = self.check(
                *("--check=flags", f"--name=m{n}", f"--bootstrap-provider=file:{path}"),
                f"--initial-advertise-peer-urls={each.peer_url}",
            )
            self.assertEqual(said.returncode, 0, said.stderr)
            each.add_flags(*said.stdout.split())
            each.launch()
        for each in members:
            until(each.healthy, each.output)
