"""``twistd etcd-discovery``: tokens, and clusters that meet there."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path

from tests.process.cluster import until
from tests.process.foreign import ForeignClient
from tests.process.member import free_ports, old_etcd, real_etcd, server_under_test
from tests.process.test_discovery import DiscoveryCase


class ServiceTests(DiscoveryCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="discovery-"))
        self.addCleanup(shutil.rmtree, self.root)
        self.port, client, peer = free_ports(3)
        self.endpoint = f"127.0.0.1:{client}"
        twistd = str(Path(sys.executable).parent / "twistd")
        self.argv = [
            twistd, "-n", "--pidfile=", "etcd-discovery", f"--listen=127.0.0.1:{self.port}",
            f"--client-url=http://127.0.0.1:{client}", f"--peer-url=http://127.0.0.1:{peer}",
        ]  # fmt: skip
        self.begin()

    def begin(self) -> None:
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, cwd=self.root, stdout=log, stderr=subprocess.STDOUT
            )
        self.addCleanup(self.end)
        until(lambda: self.ask("GET", "/health") == (200, "OK"), self.log, 20)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return (self.root / "log").read_text()

    def ask(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()

    def test_tokens(self) -> None:
        """DI13, DI14, DP1, DP6: new URLs, with the size that is asked for or 3; what is there; what
        is no token; over a restart."""
        status, url = self.ask("GET", "/new?size=5")
        self.assertEqual(status, 200)
        self.assertRegex(url, rf"^http://127\.0\.0\.1:{self.port}/[0-9a-f]{{32}}$")
        token = url.rpartition("/")[2]
        self.assertIn('"value":"5"', self.ask("GET", f"/{token}/_config/size")[1])
        default = self.ask("PUT", "/new")[1].rpartition("/")[2]
        self.assertIn('"value":"3"', self.ask("GET", f"/{default}/_config/size")[1])
        for wrong in ("abc", "0", "-1", ""):
            self.assertEqual(self.ask("GET", f"/new?size={wrong}")[0], 400 if wrong else 200)
        self.assertEqual(self.ask("GET", "/robots.txt")[0], 200)
        self.assertIn("/new?size=3", self.ask("GET", "/")[1])
        for path in ("/nothing", "/v2/keys/", f"/{token}x", "/../v2/keys"):
            self.assertIn(self.ask("GET", path)[0], (301, 404), path)
        self.assertNotIn("_config", self.ask("GET", f"/{token}")[1])
        self.assertIn('"expiration"', self.ask("GET", f"/{token}")[1])
        written = self.ask("PUT", f"/{token}/abc?prevExist=false", "value=a=http://127.0.0.1:1")
        self.assertEqual(written[0], 201)
        self.assertEqual(self.ask("PUT", f"/{token}/abc?prevExist=false", "value=x")[0], 412)
        self.process.terminate()
        self.process.wait()
        self.begin()
        self.assertIn('"value":"a=http://127.0.0.1:1"', self.ask("GET", f"/{token}")[1])
        self.assertEqual(self.ask("DELETE", f"/{token}/abc")[0], 200)

    def test_v3_token(self) -> None:
        """DP7, CL23-1: the last part of a new URL is a token of v3 discovery, at the client URL of
        the service's member, for as long as the URL lives; a proxy finds the members by it."""
        token = self.ask("GET", "/new?size=1")[1].rpartition("/")[2]
        where = (f"--discovery-endpoints={self.endpoint}", f"--discovery-token={token}")
        member, proxy = self.unlisted("infra0", *where), self.unlisted("p", *where, "--proxy=on")
        proxy.launch()
        member.start()
        self.assert_one_cluster([member])
        self.wait_for(f'"endpoints found","endpoints":["http://{member.endpoint}"]', proxy)
        with closing(ForeignClient(self.endpoint)) as client:
            key = f"/_etcd/registry/{token}/_config/size".encode()
            (size,) = client.call("KV.Range", key=key).kvs
            self.assertEqual(size.value, b"1")
            left = client.call("Lease.LeaseTimeToLive", ID=size.lease)
            self.assertEqual(left.grantedTTL, 7 * 24 * 3600)

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """``etcdtw ctl discovery …``"""
        argv = [*server_under_test(), "ctl", "discovery", *words]
        return subprocess.run(argv, cwd=self.root, capture_output=True, text=True, check=False)

    def new_token(self, size: int) -> str:
        """Its URL; the owner's secret is in the file ``owner``."""
        service = f"http://127.0.0.1:{self.port}"
        done = self.ctl("new", f"--service={service}", f"--size={size}", "--owner-file=owner")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        url = done.stdout.removesuffix("\n")
        self.assertRegex(url, rf"^{service}/[0-9a-f]{{32}}$")
        return url

    def reset(self, url: str, *words: str) -> tuple[int, str]:
        done = self.ctl("reset", url, *(words or ("--owner-file=owner",)))
        return done.returncode, done.stdout + done.stderr

    def test_reset(self) -> None:
        """P30, DP8: two of three members register and die, one with its data; the token is burnt.
        Its owner, and nobody else, resets it; who waits meanwhile is told so, by either protocol;
        then a cluster of three meets at the same URL, and that one is not reset."""
        url = self.new_token(3)
        self.assertEqual((self.root / "owner").stat().st_mode & 0o777, 0o600)
        where = (f"--discovery-endpoints={self.endpoint}", f"--discovery-token={url[-32:]}")
        crashed, lost = self.newcomer("d0", url), self.newcomer("d1", url)
        of_v3 = self.unlisted("d2", *where)
        for each, words in (
            (crashed, "waiting for 2 more"),
            (lost, "waiting for 1 more"),
            (of_v3, "waiting for peers from discovery service"),
        ):
            each.launch()
            self.wait_for(words, each)
        lost.kill()
        lost.wipe()
        self.assertIn("previously registered", self.refusal(lost))
        crashed.kill()
        crashed.launch()
        self.wait_for("found the registration of this member", crashed)
        code, said = self.reset(url, "--owner=" + "0" * 48)
        self.assertEqual((code, "answered 403: this is not the secret" in said), (1, True), said)
        self.assertEqual(self.ask("DELETE", f"/{url[-32:]}?reset")[0], 401)
        self.assertEqual(self.ask("GET", f"/{url[-32:]}")[1].count("=http"), 2)
        self.assertEqual(
            self.reset(url),
            (0, "3 registrations are gone; the URL is good for a new cluster of 3\n"),
        )
        for each in (crashed, of_v3):
            self.assertIn("was removed from discovery service token", self.refused(each))
        members = self.assemble(url, *[server_under_test()] * 3)
        self.assert_one_cluster(members)
        code, said = self.reset(url)
        self.assertEqual((code, "answered 409: all 3 members" in said), (1, True), said)
        code, said = self.reset(url[:-32] + "0" * 32)
        self.assertEqual((code, "answered 404" in said), (1, True), said)

    def has_registered(self, url: str, members: int) -> bool:
        return self.ask("GET", f"/{url[-32:]}")[1].count("=http") == members

    def test_reset_of_real_members(self) -> None:
        """P30, DI1: real members that wait end when the token is reset, whatever they make of it;
        they meet at the same URL afterwards."""
        commands = [real_etcd(), old_etcd(), server_under_test()]
        url = self.new_token(3)
        waiting = [self.newcomer(f"d{n}", url, command=each) for n, each in enumerate(commands[:2])]
        for n, each in enumerate(waiting):
            each.launch()
            until(partial(self.has_registered, url, n + 1), each.output)
        self.assertEqual(self.reset(url)[0], 0)
        for each in waiting:
            self.refused(each)
        self.assert_one_cluster(self.assemble(url, *commands))

    def test_clusters(self) -> None:
        """DI1, DI16: members of both kinds, in one cluster, meet at a short URL."""
        for commands in (
            [server_under_test()] * 3,
            [real_etcd(), old_etcd(), server_under_test()],
        ):
            url = self.ask("GET", "/new?size=3")[1]
            members = self.assemble(url, *commands)
            self.assert_one_cluster(members)
            registered = re.findall(r"infra\d=http", self.ask("GET", f"/{url[-32:]}")[1])
            self.assertEqual(len(registered), 3)
            for each in members:
                each.close()
